"""What a recipe needs from other scripts, built where it is missing."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact import is_complete
from pipeline.config import load_yaml, to_dict
from pipeline.errors import InputError
from pipeline.ranges import Text
from pipeline.run import is_main_process

logger = logging.getLogger(__name__)

LONGEST = 1024
"""Signs of a text that may still be a path."""


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

    def named_by(self, paths: Iterable[Path]) -> bool:
        """Whether one of the paths is the folder or lies in it."""
        folder = Path(self.folder).resolve()
        return any(path == folder or folder in path.parents for path in paths)


def needed_by(config: Any, prerequisites: Sequence[Prerequisite]) -> list[Prerequisite]:
    """Those whose folder a recipe names, and those that building these needs in turn, in their order: a run on another
    model or other data needs none of what would make its own. config: a dataclass or a mapping. Raises InputError where
    the recipe of one that isn't there yet can't be read."""
    wanted: set[str] = set()
    named = _paths(config)
    while found := [each for each in prerequisites if each.folder not in wanted and each.named_by(named)]:
        wanted |= {each.folder for each in found}
        named = set()
        for each in found:
            if not each.built:
                named |= _paths({**load_yaml(each.config), "arguments": each.arguments})
    return [each for each in prerequisites if each.folder in wanted]


def _paths(config: Any) -> set[Path]:
    """What the texts of a recipe are as paths, by themselves and below its data.folder. A text too long for a path, or
    with a sign that none can have, is none."""
    data = to_dict(config)
    texts = [text.rpartition("=")[2] for text in _texts(data) if 0 < len(text) < LONGEST and "\0" not in text]
    inside = data.get("data") if isinstance(data, dict) else None
    folder = inside.get("folder") if isinstance(inside, dict) else None
    bases = [Path(), *([Path(folder)] if isinstance(folder, str) else [])]
    return {(base / text).resolve() for text in texts if text for base in bases}


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


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
