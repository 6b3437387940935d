"""A stage of `make tour` as the report sees it: files that it left, and what they give."""

import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from evaluation.reporting import tour
from evaluation.reporting.json_files import read_json

logger = logging.getLogger(__name__)

type Files = Mapping[str, Mapping[str, Any]]
"""What stands in each file of a stage, by the stage's name for it."""
type Plots = list[tuple[str, Path]]
"""Title and path of each picture."""


def _no_plots(files: Files, folder: Path) -> Plots:
    return []


@dataclass(frozen=True, kw_only=True)
class TourStage:
    """Which files a stage leaves and what the report says of them. A stage counts once all its files are there."""

    order: int
    """Place among the sections of the tour; ties go by the module's name."""
    files: Mapping[str, str]
    """Path below the quickstart's folder of each JSON file that is read, by a name. `*` stands for a part that differs
    from run to run, as lm_eval's file names have it: the newest counts."""
    keys: Callable[[Files], dict[str, Any]]
    """The stage's keys of report.json. Shares are 0 to 1, times seconds."""
    section: Callable[[Files], str]
    """Its section of report.md, with a heading of the second level."""
    plots: Callable[[Files, Path], Plots] = _no_plots
    """Draws pictures into a folder."""


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """A stage of the tour whose files are there."""

    name: str
    stage: TourStage
    files: Files
    paths: list[Path]
    keys: dict[str, Any]
    section: str

    def plots(self, folder: Path) -> Plots:
        """Its pictures, drawn into the folder."""
        return self.stage.plots(self.files, folder)


def tour_stages() -> dict[str, TourStage]:
    """The stages by the names of their modules, in the order of their sections."""
    names = [module.name for module in pkgutil.iter_modules(tour.__path__)]
    stages = {name: import_module(f"{tour.__name__}.{name}").STAGE for name in sorted(names)}
    return dict(sorted(stages.items(), key=lambda item: item[1].order))


def _written(path: Path) -> float:
    return path.stat().st_mtime


def read_tour(folder: Path, quiet: bool = False) -> list[StageFigures]:
    """The stages whose files lie in a quickstart's folder. One that can't be used is left out, and unless `quiet` (as
    long as stages are under way) named in the log."""
    found = []
    for name, stage in tour_stages().items():
        found_at = [max(folder.glob(path), key=_written, default=None) for path in stage.files.values()]
        paths = [path for path in found_at if path is not None]
        if len(paths) < len(found_at):
            continue
        files = {key: read_json(path, quiet) for key, path in zip(stage.files, paths, strict=True)}
        if not all(files.values()):
            continue  # read_json has said which
        try:
            keys, section = stage.keys(files), stage.section(files)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            names = ", ".join(map(str, paths))
            level = logging.DEBUG if quiet else logging.WARNING
            logger.log(level, "%s: not what the tour's %s leaves (%r); left out of the report", names, name, error)
            continue
        found.append(StageFigures(name=name, stage=stage, files=files, paths=paths, keys=keys, section=section))
    return found
