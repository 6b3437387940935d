"""What a recipe needs from other scripts, built where it is missing."""

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifact import is_complete
from pipeline.errors import InputError
from pipeline.ranges import Text
from pipeline.run import is_main_process

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prerequisite:
    """A folder that a run needs and the script that builds it."""

    folder: Text
    script: Text
    config: Text
    arguments: list[str] = field(default_factory=list)
    """Further arguments of the script."""

    @property
    def built(self) -> bool:
        """Whether the script has finished its folder: data, a tokenizer or a model."""
        return any(is_complete(Path(self.folder) / inner) for inner in ("", "tokenizer", "model"))


def build_missing(prerequisites: Sequence[Prerequisite]) -> None:
    """Run the scripts whose folder isn't there yet, in their order. Raises InputError where one fails."""
    while not is_main_process() and not all(needed.built for needed in prerequisites):
        time.sleep(1)  # the main process builds; where it fails the launcher ends us all
    for needed in prerequisites:
        if needed.built:
            continue
        logger.info("%s is missing: building it with %s --config-path %s", needed.folder, needed.script, needed.config)
        command = [sys.executable, needed.script, "--config-path", needed.config, *needed.arguments]
        if subprocess.run(command, check=False).returncode:
            raise InputError(
                f"prerequisites: {needed.script} --config-path {needed.config} failed; its message is above"
            )
