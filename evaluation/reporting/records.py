"""What the reader makes of the files of runs: stages, lm_eval's figures, retention tables, a study."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.reporting.tour_stage import StageFigures


@dataclass(frozen=True)
class Figure:
    """One measured number; `stderr` None where the harness gives none, `n` of `total` items it rests on."""

    value: float
    stderr: float | None = None
    n: int | None = None
    total: int | None = None


@dataclass
class Stage:
    """One training run: its metrics.json, its metrics.jsonl (a dict a line)."""

    name: str
    metrics: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    written: float = 0.0
    """Seconds since the epoch."""

    @property
    def series(self) -> str:
        """What stage_1 to stage_3 have in common: the name without its numbers."""
        return re.sub(r"\d+", "", self.name)


@dataclass
class Evaluation:
    """What lm_eval measured on one model; a task evaluated twice stands with its newest figures."""

    label: str
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    """Task or group -> "metric,filter" -> figure."""
    groups: set[str] = field(default_factory=set)
    members: dict[str, list[str]] = field(default_factory=dict)
    """Group -> its tasks."""
    answers: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task -> how its written answers end (evaluation/benchmarks.py counts it)."""
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class Results:
    """Everything that stands in the folders of one report."""

    stages: dict[str, Stage] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    retention: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Path] = field(default_factory=dict)
    """Of each model in `retention`: the file of all its answers, where there is one."""
    study: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)
    """What mrl/remember.py made of the dialogues that it was given."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    """Of the quickstart and then of the tour: wall seconds and start seconds by command."""
    tour: list[StageFigures] = field(default_factory=list)
    started_at: float | None = None
    newest: float = 0.0
    files: list[Path] = field(default_factory=list)
    labels: dict[Path, str] = field(default_factory=dict)
    """Folder of an lm_eval output -> label."""


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """As they were run: those of one series together and by number, those in folders of their own (mrl/...) last."""
    stages = list(stages)
    begun: dict[str, float] = {}
    for stage in stages:
        begun[stage.series] = min(stage.written, begun.get(stage.series, stage.written))
    return sorted(stages, key=lambda s: (s.name.count("/"), begun[s.series], s.series, natural(s.name)))


def natural(text: str) -> list[Any]:
    """Sort key: stage_2 before stage_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]
