"""JSON that runs left on disk, read so that one damaged file costs its own figures only."""

import json
import logging
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def read_json(file: Path, quiet: bool = False) -> dict[str, Any]:
    """The object in a file; empty, and unless `quiet` named in the log, where there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if not quiet:
            logger.warning("%s can't be read (%s); left out of the report", file, error)
        return {}
    return value if isinstance(value, dict) else {}


def read_lines(file: Path) -> list[dict[str, Any]]:
    """JSON lines; one that a kill cut in two is skipped."""
    rows: list[dict[str, Any]] = []
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    logger.warning("%s: a broken line was skipped", file)
    return [row for row in rows if isinstance(row, dict)]
