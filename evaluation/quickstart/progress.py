"""What the quickstart and the tour tell people while they work: what has been shown, and how long the rest takes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.reporting.reader import read_results
from evaluation.reporting.records import Results
from evaluation.reporting.summary import pooled, preference, reasoning
from evaluation.reporting.tour_stage import read_tour
from pipeline.errors import InputError

CONTROL = "reset_control"


def clock(seconds: float) -> str:
    """`7:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def about(seconds: float) -> str:
    """`about 40 s`, `about 3 min`."""
    return f"about {max(1, round(seconds))} s" if seconds < 90 else f"about {round(seconds / 60)} min"


def shown_so_far(folder: Path) -> list[str]:
    """What the figures in the folder show, a line each."""
    try:
        results = read_results([folder])
    except InputError:  # nothing yet
        return []
    return [*_puzzles(results), *_preferences(results), *_recall(results)]


def shown_by_tour(folder: Path) -> list[str]:
    """What the tour's stages that have ended show, a line each: the figures that stand in report.json."""
    return [
        f"{name}: {_flat(figures)}" for stage in read_tour(folder, quiet=True) for name, figures in stage.keys.items()
    ]


def _flat(figures: Any) -> str:
    """`before 0.5, after 0.7, n 20`; of nested figures the outer ones, or where there are none the inner ones'."""
    if not isinstance(figures, Mapping):
        return str(figures)
    numbers = [f"{key.replace('_', ' ')} {value:g}" for key, value in figures.items() if isinstance(value, int | float)]
    inner = [
        f"{key.replace('_', ' ')} ({_flat(value)})" for key, value in figures.items() if isinstance(value, Mapping)
    ]
    return ", ".join(numbers or inner)


def _puzzles(results: Results) -> Iterable[str]:
    for label, evaluation in results.evaluations.items():
        if tasks := reasoning(evaluation):
            figure = pooled(list(tasks.values()))
            yield f"{label} answers {100 * figure.value:.1f} % of {figure.n} held-out puzzles right"


def _preferences(results: Results) -> Iterable[str]:
    found = preference(results)
    if len(found) > 1:
        names = list(found)
        before, after = (f"{100 * found[name]:.1f}" for name in (names[-2], names[-1]))
        yield f"{names[-1]} prefers the better of two answers to {after} % of held-out pairs ({before} before)"


def _recall(results: Results) -> Iterable[str]:
    recall: Mapping[str, Mapping[str, float]] = results.retention.get("recall", {})
    for name, by_distance in recall.items():
        distances = [distance for distance in by_distance if distance.isdigit()]
        if name.endswith("control") or not distances:
            continue
        far = max(distances, key=int)
        reset = recall.get(CONTROL if name == "memory_sft" else f"{name}_{CONTROL}", {}).get(far)
        beside = "" if reset is None else f" ({100 * reset:.1f} % when its memory is reset)"
        yield f"{name} recalls {100 * by_distance[far]:.1f} % of what was said {far} turns ago{beside}"
