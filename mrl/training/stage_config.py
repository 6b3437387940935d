"""Sections that all stages of mrl/ share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(kw_only=True)
class TrainerConfig:
    """Section `trainer`."""

    max_steps: int
    """Optimizer steps of the whole run."""
    max_minutes: float | None = None
    """End earlier, when this much time is spent. The learning rate then falls by the clock, so two runs may differ."""
    batch_size: int = 64
    """Rows of an optimiser step, over all processes and slices."""
    accumulation: int = 1
    """Slices that each process cuts its rows into, to save memory; the result is the same."""
    processes: int | None = None
    """Refuse to run in another number of processes (`accelerate launch --cpu` silently starts one)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on accelerators that have it; on a CPU with bf16 instructions the first batch is timed both ways."""
    log_every: int = 20
    eval_every: int = 200
    """Steps between evaluations; the last step is always followed by one."""
    save_every: int = 500
    keep: int = 2
    """Checkpoints kept, beside the best one."""
    patience: int | None = None
    """Evaluations without improvement after which training stops."""
    restore_best: bool = True
    """Whether the weights of the best evaluation are the result, or those of the last step."""
    report_to: Literal["auto", "none", "wandb", "tensorboard"] = "auto"
    """Beside metrics.jsonl. auto: wandb where there is a login."""

    def __post_init__(self) -> None:
        """Refuse counts that make no run."""
        for name in ("batch_size", "accumulation", "log_every", "eval_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_steps < 0 or (self.max_minutes is not None and self.max_minutes <= 0):
            raise ValueError("max_steps must not be negative, max_minutes must be above 0")


def default_config(name: str) -> Path:
    """The quickstart's YAML of a stage."""
    return Path(__file__).parents[1] / "config" / "quickstart" / f"{name}.yaml"
