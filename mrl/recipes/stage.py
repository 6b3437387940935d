"""What the recipes of all stages of mrl/ share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from mrl.recipes.data import CorpusConfig
from mrl.recipes.model import ModelConfig
from mrl.recipes.optimizer import OptimizerConfig
from pipeline.hub import check_push
from pipeline.progress import is_main_process
from pipeline.ranges import PositiveFloat, PositiveInt, Text
from pipeline.resumable import RESUMABLE
from pipeline.stage_config import TrainingStageConfig


@dataclass(kw_only=True, frozen=True)
class TrainerConfig:
    """Section `trainer`."""

    max_steps: PositiveInt = field(metadata=RESUMABLE)
    """Optimizer steps of the whole run."""
    max_minutes: PositiveFloat | None = field(default=None, metadata=RESUMABLE)
    """End earlier, when this much time is spent. The learning rate then falls by the clock, so two runs may differ."""
    batch_size: PositiveInt = 64
    """Rows of an optimizer step, over all processes and slices."""
    accumulation: PositiveInt = field(default=1, metadata=RESUMABLE)
    """Slices that each process cuts its rows into, to save memory; the result is the same."""
    processes: PositiveInt | None = field(default=None, metadata=RESUMABLE)
    """Refuse to run in another number of processes (`accelerate launch --cpu` silently starts one)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on accelerators that have it; on a CPU with bf16 instructions the first batch is timed both ways."""
    log_every: PositiveInt = field(default=20, metadata=RESUMABLE)
    eval_every: PositiveInt = field(default=200, metadata=RESUMABLE)
    """Steps between evaluations; the last step is always followed by one."""
    save_every: PositiveInt = field(default=500, metadata=RESUMABLE)
    keep: PositiveInt = field(default=2, metadata=RESUMABLE)
    """Checkpoints kept, beside the best one."""
    patience: PositiveInt | None = field(default=None, metadata=RESUMABLE)
    """Evaluations without improvement after which training stops."""
    restore_best: bool = True
    """Whether the weights of the best evaluation are the result, or those of the last step."""
    report_to: Literal["auto", "none", "wandb", "tensorboard"] = field(default="auto", metadata=RESUMABLE)
    """Beside metrics.jsonl. auto: wandb where there is a login, else tensorboard files."""


@dataclass(kw_only=True, frozen=True)
class ReactiveStageConfig(TrainingStageConfig):
    """A stage that trains a reactive model on dialogues."""

    RENAMED: ClassVar[Mapping[str, str]] = {"optimiser": "optimizer"}

    model: ModelConfig
    data: CorpusConfig
    trainer: TrainerConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    push_to_hub: Text | None = field(default=None, metadata=RESUMABLE)
    """Repository on the Hub for the result."""

    def check_upload(self) -> None:
        """Where the recipe asks for a push, find out before any work whether it can succeed. Raises InputError."""
        if self.push_to_hub and is_main_process():
            check_push(self.push_to_hub, repo_type="model", key="push_to_hub")

    def refuse_missing(self) -> None:
        """Raises InputError where weights or data that the stage starts from aren't there: before torch is loaded."""
        self.model.refuse_missing()
        self.data.refuse_missing()


def default_config(name: str) -> Path:
    """The quickstart's YAML of a stage."""
    return Path(__file__).parents[1] / "config" / "quickstart" / f"{name}.yaml"
