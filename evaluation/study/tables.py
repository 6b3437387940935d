"""study.json as Markdown tables."""

import statistics
from collections.abc import Mapping
from typing import Any

from evaluation.gains import in_points
from evaluation.study.preferences import preference_tables
from evaluation.study.results import SUPERVISED, Recall, mean_recall

NOTE = (
    "Exact recall on held-out episodes, per cent, by distance in turns, with the model's own answers in its memory; "
    "*all, drawn*: of all questions, with answers drawn at temperature 1. Gains over the start in points, with paired "
    "95 per cent intervals over dialogues (of the seeds' mean, where there are several); *no difference* where the "
    "interval holds 0."
)
"""What the tables' columns are."""
HEAD = (
    "| run | 1 | 2 | 4 | 8 | 16 | 32 | mean 2–16 | all questions | all, drawn | gain, mean 2–16 | gain, all "
    "| critic explains | seconds |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def study_tables(results: dict[str, Any]) -> str:
    """A table for the seeds, one for dialogues of 32 steps, one for each part; a row a run or a mean over seeds."""
    compared = preference_tables(results["preferences"]) if results.get("preferences") else ""
    if "start" not in results:
        return compared
    rows = [f"### Seeds\n\n{HEAD}", _row(SUPERVISED, results["start"]["recall"], results["start"])]
    rows += [_row(f"seed {run['seed']}", run["recall"], run) for run in results["mrl_seeds"]]
    if "mrl_32_runs" in results:
        rows += [f"\n### Dialogues of 32 steps\n\n{HEAD}", _row(SUPERVISED, results["mrl_32_start"], {})]
        rows += [_row(name, run["recall"], run) for name, run in results["mrl_32_runs"].items()]
    for part, variants in results["mrl_ablation"].items():
        start = results["starts"][part]
        label = start["name"] if start["name"] == SUPERVISED else f"start: {start['name']}"
        rows += [f"\n### {part.replace('_', ' ').capitalize()}\n\n{HEAD}"]
        rows += [_row(label, start["recall"], {"sampled": start["sampled"]})]
        gains, others = (results.get(key, {}).get(part, {}) for key in ("gains", "other_starts"))
        measured: set[str | None] = {None}
        for name, runs in variants.items():
            other = others.get(name)
            if other and other["data"] not in measured:
                rows += [_row(f"start, of {other['data']}", other["recall"], {})]
                measured.add(other["data"])
            if name != start["name"]:
                rows += [_row(*averaged(shown_name(name, other), runs, gains.get(name)))]
    return "\n".join(rows) + "\n" + compared


def shown_name(name: str, other_start: Mapping[str, Any] | None) -> str:
    """A variant's name, and on which episodes it is measured where these aren't its part's."""
    return f"{name}, of {other_start['data']}" if other_start else name


def _row(name: str, recall: Recall, figures: dict[str, Any]) -> str:
    explained, seconds = figures.get("explained_variance"), figures.get("train_s")
    cells = [
        *(_percent(recall, distance) for distance in ("1", "2", "4", "8", "16", "32")),
        f"{100 * mean_recall(recall):.1f}",
        _percent(recall, "all"),
        _percent(figures.get("sampled") or {}, "all"),
        *(_gain(figures, over) for over in ("mean", "all")),
        "–" if explained is None else f"{explained:.2f}",
        "–" if seconds is None else f"{seconds:.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _gain(figures: dict[str, Any], over: str) -> str:
    found = (figures.get("gains") or {}).get(over)
    return in_points(found) if found else "–"


def _percent(recall: Recall, distance: str) -> str:
    return f"{100 * recall[distance]:.1f}" if distance in recall else "–"


def averaged(
    name: str, runs: list[dict[str, Any]], gains: dict[str, Any] | None = None
) -> tuple[str, Recall, dict[str, Any]]:
    """Name, recall and figures of a variant: means where it ran with several seeds; gains: those of the mean."""
    if len(runs) == 1:
        return name, runs[0]["recall"], runs[0]
    recall = {distance: statistics.fmean(run["recall"][distance] for run in runs) for distance in runs[0]["recall"]}
    measured = {key: [run[key] for run in runs if run[key] is not None] for key in ("explained_variance", "train_s")}
    means: dict[str, Any] = {"gains": gains} | {
        key: statistics.fmean(values) for key, values in measured.items() if values
    }
    sampled = [run["sampled"] for run in runs if run["sampled"]]
    if sampled:
        means["sampled"] = {distance: statistics.fmean(by[distance] for by in sampled) for distance in sampled[0]}
    return f"{name}, mean of {len(runs)} seeds", recall, means
