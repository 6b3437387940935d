"""The pictures of a report."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import plots
from evaluation.reporting.records import Results, natural
from evaluation.reporting.summary import REASONING, reasoning
from evaluation.study.figures import draw_study


def draw_report(results: Results, report: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Every plot there are figures for: (title, path)."""
    drawn = []
    losses = {name: lines for name, stage in results.stages.items() if (lines := _losses(stage.curve))}
    if losses:
        smooth = {name: {key: smoothed(points) for key, points in lines.items()} for name, lines in losses.items()}
        means = {name: {key: points for key, (points, _) in lines.items()} for name, lines in smooth.items()}
        bands = {name: {key: band for key, (_, band) in lines.items() if band} for name, lines in smooth.items()}
        title = "Loss by step (long curves: means of neighbouring steps and their 95 % interval)"
        drawn.append((title, plots.loss_curves(means, folder / "loss.png", bands)))
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
        spans = plots.spans(report.get("intervals"))
        plots.by_turn(recall, path, xlabel="distance in turns", ylabel="exact recall", share=True, spans=spans)
        drawn.append(("Recall by distance, with the 95 % interval of each share", path))
    if latency := plots.curves(report.get("latency")):
        path = folder / "latency.png"
        plots.by_turn(latency, path, xlabel="turn", ylabel="time to first token, ms", share=False)
        drawn.append(("Time to first token by turn", path))
    for stage in results.tour:
        drawn += stage.plots(folder / "tour")
    if results.study:
        drawn += draw_study(results.study, folder / "study")
    return drawn


def smoothed(points: list[tuple[float, float]], most: int = 60) -> tuple[list[tuple[float, float]], plots.Spans]:
    """Of more than `most` points, the means of neighbouring ones (40 to a curve) and the 95 per cent interval of each
    mean (normal, steps taken as independent); of fewer, the points and none."""
    if len(points) <= most:
        return points, []
    means, band = [], []
    for part in np.array_split(np.array(points), 40):
        place, mean = part.mean(0)
        half = 1.96 * part[:, 1].std(ddof=1) / len(part) ** 0.5 if len(part) > 1 else 0.0
        means.append((float(place), float(mean)))
        band.append((float(place), float(mean - half), float(mean + half)))
    return means, band


def _losses(curve: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in curve:
        for key, name in (("loss", "training"), ("eval_loss", "held out")):
            if isinstance(row.get(key), int | float) and math.isfinite(row[key]) and isinstance(row.get("step"), int):
                series.setdefault(name, []).append((row["step"], row[key]))
    return series
