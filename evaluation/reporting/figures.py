"""The pictures of a report."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation import plots
from evaluation.reporting.records import Results, natural
from evaluation.reporting.summary import REASONING, reasoning
from evaluation.study.figures import draw_study


def draw_report(results: Results, report: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Every plot there are figures for: (title, path)."""
    drawn = []
    losses = {name: lines for name, stage in results.stages.items() if (lines := _losses(stage.curve))}
    if losses:
        drawn.append(("Loss by step", plots.loss_curves(losses, folder / "loss.png")))
    accuracy = {
        label: {task.removeprefix(REASONING): (f.value, f.stderr) for task, f in reasoning(evaluation).items()}
        for label, evaluation in results.evaluations.items()
    }
    for stage, value in report["preference_accuracy"].items():
        accuracy.setdefault(stage, {})["preference"] = (value, None)
    accuracy = {label: accuracy[label] for label in sorted(accuracy, key=natural) if accuracy[label]}
    if accuracy:
        path = plots.bars(accuracy, folder / "accuracy.png", ylabel="held-out accuracy")
        drawn.append(("Accuracy by stage", path))
    if recall := plots.curves(report.get("recall")):
        path = folder / "recall.png"
        plots.by_turn(recall, path, xlabel="distance in turns", ylabel="exact recall", share=True)
        drawn.append(("Recall by distance", path))
    if latency := plots.curves(report.get("latency")):
        path = folder / "latency.png"
        plots.by_turn(latency, path, xlabel="turn", ylabel="time to first token, ms", share=False)
        drawn.append(("Time to first token by turn", path))
    for stage in results.tour:
        drawn += stage.plots(folder / "tour")
    if results.study:
        drawn += draw_study(results.study, folder / "study")
    return drawn


def _losses(curve: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in curve:
        for key, name in (("loss", "training"), ("eval_loss", "held out")):
            if isinstance(row.get(key), int | float) and math.isfinite(row[key]) and isinstance(row.get("step"), int):
                series.setdefault(name, []).append((row["step"], row[key]))
    return series
