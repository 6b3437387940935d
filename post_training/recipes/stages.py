"""The recipes of this room's scripts. Nothing here imports torch, transformers or TRL: a script answers at once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.errors import SettingError
from pipeline.hub import is_hub_name, refuse_unreachable
from pipeline.ranges import NonNegativeFloat, PositiveInt, Text
from pipeline.stage_config import StageConfig, TrainingStageConfig
from post_training.recipes.dataset import ConversationsConfig, DatasetConfig, PairsConfig, PromptsConfig
from post_training.recipes.model import AdapterConfig, ArchitectureConfig, PolicyConfig, StartConfig
from post_training.rewards import RewardConfig
from post_training.rewards.registry import ANSWERS
from post_training.trl_options import Stage, refuse_unknown


@dataclass(kw_only=True, frozen=True)
class EarlyStoppingConfig:
    """Section `early_stopping`: end the run when the held-out figure gets no better, and keep the best weights."""

    patience: PositiveInt
    """So many evaluations in a row without an improvement."""
    min_improvement: NonNegativeFloat = 0.0
    """What counts as one."""


@dataclass(kw_only=True, frozen=True)
class PostTrainingConfig(TrainingStageConfig):
    """A recipe that trains a causal language model with one of TRL's trainers. It adds `dataset`."""

    STAGE: ClassVar[Stage]

    model: PolicyConfig
    chat_template: Text | None = None
    """Jinja, or a file that holds it. Default: the template that comes with the model."""
    peft: AdapterConfig | None = None
    """Train low-rank adapters instead of every weight."""
    early_stopping: EarlyStoppingConfig | None = None
    """End when the held-out figure gets no better."""
    dataset: DatasetConfig
    trainer: dict[str, Any] = field(default_factory=dict)
    """Fields of TRL's SFTConfig, DPOConfig or GRPOConfig; `trl_options.py` says which."""

    def refuse_missing(self) -> None:
        """Raises InputError for options, weights and data of which it can be told before TRL is loaded that there
        are none of that name."""
        refuse_unknown(self.trainer, self.STAGE)
        self.model.refuse_missing()
        self.dataset.refuse_missing()


_AGAINST_CURRICULUM = {
    "train_sampling_strategy": (None, "the curriculum decides the order of the examples"),
    "shuffle_dataset": (False, "the curriculum would undo it"),
    "ignore_data_skip": (False, "a run that goes on would begin with the easiest rows again"),
    "dataloader_in_order": (True, "batches would come in the order in which workers finish them"),
}
"""Options of the trainer that a curriculum can't be had with: the value that changes nothing, and why not another."""


@dataclass(kw_only=True, frozen=True)
class SFTStage(PostTrainingConfig):
    """An SFT recipe."""

    STAGE = "sft"

    dataset: ConversationsConfig

    def __post_init__(self) -> None:
        curriculum = self.dataset.curriculum
        if curriculum is None:
            return
        for name, (harmless, why) in _AGAINST_CURRICULUM.items():
            if self.trainer.get(name, harmless) not in (harmless, None):
                raise SettingError(f"trainer.{name}", f"trainer.{name}: {why}; keep it or dataset.curriculum")
        steps, epochs = (self.trainer.get(name, given) for name, given in (("max_steps", -1), ("num_train_epochs", 3)))
        if steps == -1 and isinstance(epochs, int | float) and (curriculum.epochs or 0) >= epochs:
            raise SettingError(
                "dataset.curriculum.epochs",
                f"dataset.curriculum.epochs: of {epochs} epochs (trainer.num_train_epochs) none is left to shuffle;"
                " leave it out",
            )


@dataclass(kw_only=True, frozen=True)
class DPOStage(PostTrainingConfig):
    """A DPO recipe."""

    STAGE = "dpo"

    dataset: PairsConfig


@dataclass(kw_only=True, frozen=True)
class GRPOStage(PostTrainingConfig):
    """A GRPO recipe."""

    STAGE = "grpo"

    dataset: PromptsConfig
    rewards: list[RewardConfig]
    """What is paid for; the first of kind number, choice or string is also what held-out answers are measured by."""

    def __post_init__(self) -> None:
        kinds = [reward.kind for reward in self.rewards]
        if not set(kinds) & set(ANSWERS):
            raise SettingError("rewards", f"rewards: none says what is right; add one of kind {', '.join(ANSWERS)}")
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            raise SettingError("rewards", f"rewards has two entries of kind {twice}; keep one")
        if self.early_stopping is not None:
            raise SettingError(
                "early_stopping", "early_stopping: held-out answers are measured at the end; take it out"
            )

    @property
    def measured(self) -> RewardConfig:
        """The reward that held-out answers are measured by."""
        return next(reward for reward in self.rewards if reward.kind in ANSWERS)


@dataclass(kw_only=True, frozen=True)
class InitialiseConfig(StageConfig):
    """A model from nothing, or (with `model`) an ordinary checkpoint of weights that are there."""

    tokenizer: Text | None = None
    """Folder or Hub name of the tokenizer of random weights; its chat template goes with the model."""
    model: PolicyConfig | None = None
    """Instead: weights to write down as a checkpoint, as of a GGUF file, with the tokens that the section adds."""
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    start: StartConfig = field(default_factory=StartConfig)

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.model is None):
            raise ValueError("give either tokenizer (for random weights) or model (weights that are there)")
        if self.architecture.num_experts is not None and self.start.look_back:
            raise SettingError("start.look_back", "start.look_back: Mixtral has no biases to lay it into; write []")
        for key, section in (("architecture", ArchitectureConfig()), ("start", StartConfig())):
            if self.model is not None and getattr(self, key) != section:
                raise SettingError(key, f"{key} has no effect on weights that are there; leave it out")

    def refuse_missing(self) -> None:
        """Raises InputError for weights or a tokenizer that aren't there."""
        if self.model is not None:
            self.model.refuse_missing()
        if self.tokenizer is not None and is_hub_name(self.tokenizer):
            refuse_unreachable(self.tokenizer, "tokenizer")


def default_config(name: str) -> Path:
    """The quickstart's YAML of a stage."""
    return Path(__file__).parents[1] / "config" / "quickstart" / f"{name}.yaml"
