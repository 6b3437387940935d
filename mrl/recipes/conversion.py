"""What the recipe of mrl/convert.py holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError, SettingError
from pipeline.hub import is_hub_name, refuse_unreachable
from pipeline.ranges import NonNegativeInt, PositiveInt, PositiveShare, Text
from pipeline.stage_config import StageConfig


@dataclass(kw_only=True, frozen=True)
class CausalModelConfig:
    """Section `model`: the causal model that gets a memory."""

    name: Text
    """A folder with weights and tokenizer, the output_dir of a stage, or a name on the Hub."""
    revision: Text | None = None
    """Of the Hub: branch, tag or commit."""


@dataclass(kw_only=True, frozen=True)
class ConvertedMemoryConfig:
    """Section `memory`: what is kept of earlier interactions."""

    slots: PositiveInt = 256
    """Token states that the memory holds; the oldest make room for new ones."""
    kept_share: PositiveShare = 0.25
    """Share of an interaction's tokens that is kept."""
    keep: Literal["surprise", "learned"] = "surprise"
    """Which of them. surprise: those that the model itself predicted worst. learned: memory SFT adds to that
    what later answers of its dialogues needed."""
    encoder: Literal["own", "shared", "none"] = "shared"
    """Whose token states are kept. shared: the decoder's, reading the interaction by itself; none: the decoder's as it
    answers, with the memory before; own: of a copy of the decoder's layers, which learns by itself."""
    memory_read: Literal["joint", "cross"] = "joint"
    """joint: what is kept stands beside the tokens in the softmax of each layer's attention. cross: an attention of its
    own reads it, a copy of the layer's, which adds nothing until its gate has learnt to open."""
    layers: list[NonNegativeInt] | Literal["all"] = "all"
    """Layers that read the memory, from 0; token states of the others aren't kept."""

    def __post_init__(self) -> None:
        """Refuse lists that name no layer, or one twice, and what encoder none can't learn."""
        if self.keep == "learned" and self.encoder == "none":
            raise SettingError("keep", "keep learned needs encoder shared or own: with none, turns aren't read at once")
        if self.layers == "all":
            return
        if not self.layers:
            raise SettingError("layers", "layers is empty: no layer would read the memory; name some, or all")
        if twice := sorted({layer for layer in self.layers if self.layers.count(layer) > 1}):
            raise SettingError("layers", f"layers names {twice[0]} more than once")

    def reading(self, layers: int) -> list[int] | None:
        """The layers that read, in order, of a model with so many; None for all. Raises InputError for one that isn't
        there."""
        if self.layers == "all":
            return None
        if (last := max(self.layers)) >= layers:
            raise InputError(f"memory.layers: there is no layer {last}; the model's are 0 to {layers - 1}")
        return sorted(self.layers)


@dataclass(kw_only=True, frozen=True)
class ConvertStage(StageConfig):
    """A reactive model from a causal one."""

    model: CausalModelConfig
    memory: ConvertedMemoryConfig = field(default_factory=ConvertedMemoryConfig)
    max_interaction_length: PositiveInt = 512
    """Most tokens of one interaction, query and answer together."""

    def source(self) -> str:
        """The folder or Hub name that is loaded. Raises InputError where there is no such folder, or the Hub can't be
        asked."""
        name = self.model.name
        if is_hub_name(name):
            refuse_unreachable(name, "model.name")
            return name
        for folder in (Path(name) / "model", Path(name)):
            if (folder / "config.json").is_file():
                return str(folder)
        raise InputError(f"model.name: {name} holds no model (config.json with weights); name another folder")
