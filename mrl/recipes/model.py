"""Section `model`: which reactive model a stage starts from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact import is_complete, verify
from pipeline.config import check_arguments
from pipeline.errors import InputError
from pipeline.hub import is_hub_name, refuse_unreachable
from pipeline.outline import outline
from pipeline.ranges import NonNegativeFloat, Text

MODEL_FOLDER = "model"
"""Folder inside a run's output_dir that holds the finished weights."""


@dataclass(kw_only=True, frozen=True)
class ModelConfig:
    """Where the weights come from: an earlier stage, or nowhere."""

    path: Text | None = None
    """The output_dir of an earlier stage, a folder with weights, or a name on the Hub. Default: fresh weights."""
    tokenizer: Text | None = None
    """Folder of data/tokenizer.py or of any tokenizer with the turn tokens. Default: the one beside the weights."""
    new: dict[str, Any] = field(default_factory=dict)
    """Fields of mrl.model.ReactiveConfig for fresh weights; the tokenizer gives the vocabulary and its ids. With
    `path` they are expectations: weights of another shape are refused."""
    normal_start_std: NonNegativeFloat | None = None
    """Dialogues start from random normal memories of this deviation (published: 0.02) instead of the state that the
    weights have learnt or loaded, in training and ever after. Default: as the weights are."""

    def __post_init__(self) -> None:
        """Fresh weights need a vocabulary, and say themselves what their memory starts as."""
        if self.path is None and self.normal_start_std is not None:
            raise ValueError("normal_start_std is for weights of path; fresh ones have new.initial_state")
        if self.path is None and self.tokenizer is None:
            raise ValueError("give path (weights to start from) or tokenizer (for fresh weights)")

    def checked_new(self) -> dict[str, Any]:
        """The section `new`: fields of ReactiveConfig itself, not those of its transformers parent, and not what
        concerns a scorer alone. Raises InputError."""
        own = outline(
            "mrl.model.configuration_reactive:ReactiveConfig", leave_out=frozenset({"classifier_reads_memory"})
        )
        return check_arguments(own, self.new, "model.new")

    def refuse_missing(self) -> None:
        """Raises InputError where the weights aren't there, or `new` says what no model has."""
        self.checked_new()
        if self.path is not None:
            resolve(self.path)
        for key, source in (("path", self.path), ("tokenizer", self.tokenizer)):
            if source is not None and is_hub_name(source):
                refuse_unreachable(source, f"model.{key}")


def resolve(path: str) -> Path | str:
    """The folder with weights that `path` stands for, or the name itself for the Hub. Raises InputError."""
    folder = Path(path)
    if is_hub_name(path):
        return path
    if not folder.exists():
        raise InputError(f"model.path: there is no folder {path}; run the stage that makes it first")
    for candidate in (folder / MODEL_FOLDER, folder):
        if is_complete(candidate) and (candidate / "config.json").is_file():
            verify(candidate)
            return candidate
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise InputError(
            f"model.path: {path} holds no finished model ({MODEL_FOLDER}/ with manifest.json, or config.json with "
            "*.safetensors); let the stage that makes it run to its end"
        )
    return folder
