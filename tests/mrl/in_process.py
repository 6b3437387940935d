"""A stage in this process, which has loaded torch already: what it raises can be asked for."""

from collections.abc import Callable
from typing import Any

from pipeline.run import Run, open_run


def run_here(main: Callable[[Any, Run], None], config: Any, stage: str) -> None:
    """Run a script's `main` as it would be run from the command line; raises what the stage raises."""
    with open_run(config, stage=stage, output_dir=config.output_dir, seed=config.seed) as opened:
        main(config, opened)
