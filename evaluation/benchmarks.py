"""The tasks of evaluation/tasks on fixed, seeded subsets of their items, the same for every model that is asked.

    uv run evaluation/benchmarks.py --config-path evaluation/config/smollm2.yaml --model outputs/smollm2/stage_1 \\
      --output-dir outputs/smollm2/lm_eval/stage_1

The prompts, few-shots and metrics are the task's own. Each task leaves lm_eval's files in a folder of its own, as soon
as it is done; a task that is done isn't asked again. Of written answers is counted how many end by themselves, think,
and close their thought.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.ranges import NonNegativeInt, PositiveInt, Text
from pipeline.run import Run, stage_main
from pipeline.stage_config import StageConfig
from post_training.recipes.model import PolicyConfig

DEFAULT_CONFIG = Path(__file__).parent / "config" / "smollm2.yaml"


@dataclass(kw_only=True, frozen=True)
class BenchmarkConfig:
    """An entry of `tasks`, by the name of a task in evaluation/tasks."""

    items: PositiveInt
    """How many items are asked; of a group about as many in all, equally many of each member."""
    max_new_tokens: PositiveInt | None = None
    """Longest answer of a task whose answers are written. Default: the task's own."""
    num_fewshot: NonNegativeInt | None = None
    """Default: the task's own."""


@dataclass(kw_only=True, frozen=True)
class BenchmarksConfig(StageConfig):
    """Which items of which tasks; the seed chooses them."""

    model: Text
    """Folder of a model or of the stage that made it."""
    tasks: dict[str, BenchmarkConfig] = field(default_factory=dict)
    batch_size: PositiveInt = 16


def main(config: BenchmarksConfig, run: Run) -> None:
    """Load the model once, ask every task that isn't done."""
    PolicyConfig(name=config.model).refuse_missing()
    with run.loading():
        from evaluation.benchmark_tasks import ask_all
    ask_all(config, run)


if __name__ == "__main__":
    stage_main(
        BenchmarksConfig, main, default_config=DEFAULT_CONFIG, description=__doc__, shorthand={"--model": "model"}
    )
