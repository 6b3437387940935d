"""report.json: the figures of every stage, evaluation and retention table under their fixed names."""

import logging
import math
from datetime import UTC, datetime
from typing import Any

from evaluation.gains import read_hits, recall_gains
from evaluation.reporting import smollm2
from evaluation.reporting.records import Evaluation, Figure, Results
from pipeline.provenance import git_commit

logger = logging.getLogger(__name__)

STAGE_FIGURES = ("wall_s", "peak_mb", "tokens_per_s", "final_loss")
REASONING = "quickstart_"
"""lm_eval tasks of held-out multi-step items begin so."""


def pooled(figures: list[Figure]) -> Figure:
    """The mean over all items of several tasks, and its standard error (tasks are independent samples)."""
    sizes = [figure.n or 0 for figure in figures]
    if not all(sizes):  # without sizes every task counts the same
        sizes = [1] * len(figures)
    n = sum(sizes)
    value = sum(size * figure.value for size, figure in zip(sizes, figures, strict=True)) / n
    errors = [figure.stderr for figure in figures if figure.stderr is not None]
    stderr = None
    if len(errors) == len(figures):
        stderr = math.sqrt(sum((size * error / n) ** 2 for size, error in zip(sizes, errors, strict=True)))
    return Figure(value, stderr, n if all(figure.n for figure in figures) else None)


def exact_match(evaluation: Evaluation, task: str) -> Figure | None:
    """The task's exact match; of several filters the first, which is how lm_eval lists its strictest."""
    return next((f for key, f in evaluation.figures[task].items() if key.startswith("exact_match,")), None)


def reasoning(evaluation: Evaluation) -> dict[str, Figure]:
    """Exact match of each held-out reasoning task, groups left out."""
    tasks = [t for t in evaluation.figures if t.startswith(REASONING) and t not in evaluation.groups]
    return {task: figure for task in sorted(tasks) if (figure := exact_match(evaluation, task))}


def preference(results: Results) -> dict[str, float]:
    """Held-out preference accuracy: a stage reports what it reached, and where it began as that of the stage before."""
    table: dict[str, float] = {}
    names = list(results.stages)
    for name, stage in results.stages.items():
        if (before := stage.metrics.get("preference_accuracy_before")) is not None:
            earlier = names[: names.index(name)]
            table.setdefault(earlier[-1] if earlier else f"before {name}", before)
        if (after := stage.metrics.get("preference_accuracy")) is not None:
            table[name] = after
    return table


def mrl_gain(results: Results) -> dict[str, dict[str, Any]]:
    """What reinforcement recalls more than the model it started from, of the questions that both were asked
    (`recall_gains`); nothing without the answers of both."""
    both = {name: path for name in ("memory_sft", "mrl") if (path := results.answers.get(name))}
    if len(both) < 2:
        return {}
    try:
        before, after = (read_hits(path, name) for name, path in both.items())
    except ValueError as error:
        logger.warning("%s; no gain of reinforcement in the report", error)
        return {}
    return recall_gains(before, after)


def summarize(results: Results, seconds: float = 0.0) -> dict[str, Any]:
    """report.json. Shares are 0 to 1; times in seconds; memory in MB (10^6 bytes). `seconds`: this script's time."""
    stages = {
        name: {key: stage.metrics.get(key) for key in STAGE_FIGURES} | {"status": stage.metrics.get("status")}
        for name, stage in results.stages.items()
    }
    walls = [s["wall_s"] for s in stages.values() if s["wall_s"] is not None]
    wall = sum(walls) if walls else None
    if results.started_at is not None and results.newest > results.started_at:
        wall = results.newest - results.started_at + seconds
    peaks = [s["peak_mb"] for s in stages.values() if s["peak_mb"] is not None]
    held_out = {label: tasks for label, e in results.evaluations.items() if (tasks := reasoning(e))}
    report = {
        "wall_s": None if wall is None else round(wall, 2),
        "peak_mb": max(peaks, default=None),
        "stages": stages,
        "reasoning_accuracy": {label: pooled(list(tasks.values())).value for label, tasks in held_out.items()},
        "reasoning_stderr": {label: pooled(list(tasks.values())).stderr for label, tasks in held_out.items()},
        "reasoning_by_task": {
            label: {task: vars(figure) for task, figure in tasks.items()} for label, tasks in held_out.items()
        },
        "preference_accuracy": preference(results),
        "lm_eval": {
            label: {task: {k: vars(f) for k, f in figures.items()} for task, figures in evaluation.figures.items()}
            for label, evaluation in results.evaluations.items()
        },
        "commands": results.commands,
        "git_commit": git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Retention figures keep their own names; recall curves of later stages land in the same table.
    retention = results.retention
    if gain := mrl_gain(results):
        retention = {**retention, "recall": {**retention["recall"], "mrl_gain": gain}}
    # What a stage of the tour is there to show goes before what retention says of it in passing (abstention).
    derived = {"derived": results.derived} if results.derived else {}
    for figures in (*(stage.keys for stage in results.tour), retention, smollm2.keys(results), derived):
        report |= {key: value for key, value in figures.items() if key not in report}
    return report
