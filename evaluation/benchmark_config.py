"""What evaluation/benchmarks.py asks for (evaluation/config/smollm2.yaml)."""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.ranges import NonNegativeInt, PositiveInt, Text
from pipeline.stage_config import StageConfig


@dataclass(kw_only=True, frozen=True)
class BenchmarkConfig:
    """An entry of `tasks`, by the name of a task in evaluation/tasks."""

    items: PositiveInt
    """How many items are asked; of a group about as many in all, equally many of each member."""
    max_new_tokens: PositiveInt | None = None
    """Longest answer of a task whose answers are written. Default: the task's own."""
    num_fewshot: NonNegativeInt | None = None
    """Default: the task's own."""
    batch_size: PositiveInt | None = None
    """Default: the run's own. More at once pays where prompts are short; beside long ones the cache costs as much."""


@dataclass(kw_only=True, frozen=True)
class BenchmarksConfig(StageConfig):
    """Which items of which tasks; the seed chooses them."""

    model: Text
    """Folder of a model or of the stage that made it."""
    tasks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    batch_size: PositiveInt = 16
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The weights' type while they are asked; bfloat16 only where a processor multiplies it. Compare only alike."""
