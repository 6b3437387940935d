"""The tasks of evaluation/tasks on fixed, seeded subsets of their items, the same for every model that is asked.

    uv run evaluation/benchmarks.py --config-path evaluation/config/smollm2.yaml --model outputs/smollm2/stage_1 \\
      --output-dir outputs/smollm2/lm_eval/stage_1

The prompts, few-shots and metrics are the task's own. Each task leaves lm_eval's files in a folder of its own, as soon
as it is done; a task that is done isn't asked again. Of written answers is counted how many end by themselves, think,
and close their thought.
"""

from pathlib import Path

from evaluation.benchmark_config import BenchmarksConfig
from pipeline.run import Run, stage_main
from post_training.recipes.model import PolicyConfig

DEFAULT_CONFIG = Path(__file__).parent / "config" / "smollm2.yaml"


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
