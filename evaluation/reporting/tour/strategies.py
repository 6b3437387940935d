"""Cumulative and long-term dialogues of 16 steps: their last questions before and after reinforcement."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.gains import Asked, gain_of_all, in_points, read_hits
from evaluation.reporting.markdown import table
from evaluation.reporting.tour_stage import Files, TourStage

STEPS = 16
"""The last question's turn."""
KINDS = {"cumulative": "cumulative_final", "long_term": "long_term"}
"""The report's name of each run."""
FILES = {
    f"{kind}_{when}": f"tour/strategies/asked_{kind}_{model}/retention.json"
    for kind in KINDS
    for when, model in (("before", "memory_sft"), ("after", kind))
}
ASKED = {
    "before": ("before", "memory_sft"),
    "after": ("after", "memory_sft"),
    "reset_control": ("after", "reset_control"),
}
"""Which file a figure is of, and what evaluation/retention.py calls the memory there."""


def last_questions(figures: Mapping[str, Any], memory: str, figure: str = "recalled") -> dict[Asked, float]:
    """1 or 0 of each dialogue's last question: whether all that it asks for was said; with figure `said` which share
    of it. Raises ValueError where there are none."""
    hits = read_hits(Path(figures["answers_file"]), memory, figure)
    last = {asked: hit for asked, hit in hits.items() if asked.turn == STEPS}
    if not last:
        raise ValueError(f"{figures['answers_file']} asks nothing at turn {STEPS}")
    return last


def compared(files: Files, kind: str) -> dict[str, Any]:
    """Shares before, after and with the memory reset, over the dialogues that all were asked; the gain with its
    interval; the same by distance in turns, which is that of the fact last said longest ago; and, `said`, with every
    fact for itself."""
    found = _compared(files, kind, "recalled", by_distance=True)
    return found | {"said": _compared(files, kind, "said", by_distance=False)}


def _compared(files: Files, kind: str, figure: str, *, by_distance: bool) -> dict[str, Any]:
    hits = {name: last_questions(files[f"{kind}_{when}"], memory, figure) for name, (when, memory) in ASKED.items()}
    asked = [question for question in hits["before"] if all(question in those for those in hits.values())]

    def shares(questions: list[Asked]) -> dict[str, Any]:
        means = {name: round(statistics.fmean(those[q] for q in questions), 4) for name, those in hits.items()}
        return means | {"n": len(questions)}

    gain = gain_of_all(hits["before"], hits["after"])
    found = shares(asked) | {"gain": [gain["low"], gain["high"]]}
    if by_distance:
        distances = sorted({question.distance for question in asked})
        found["by_distance"] = {str(d): shares([q for q in asked if q.distance == d]) for d in distances}
    return found


def keys(files: Files) -> dict[str, Any]:
    """`recall_strategies`."""
    return {"recall_strategies": {name: compared(files, kind) for kind, name in KINDS.items()}}


def section(files: Files) -> str:
    """A row for each strategy, and one for each distance where there are several."""
    rows = []
    for name, found in keys(files)["recall_strategies"].items():
        by_distance = found["by_distance"] if len(found["by_distance"]) > 1 else {}
        parts = [(name.replace("_", " "), found, _gain(found))]
        if by_distance:
            parts.append(("… every fact for itself", found["said"], _gain(found["said"])))
        parts += [(f"… farthest fact {distance} turns ago", part, "") for distance, part in by_distance.items()]
        rows += [
            [words, *(f"{100 * part[key]:.1f}" for key in ASKED), more, str(part["n"])] for words, part, more in parts
        ]
    head = ["last question", "before", "after", "after, memory reset", "gain (95 % interval)", "dialogues"]
    return (
        f"## Strategies at {STEPS} steps\n\nRight answers to the last question, per cent, with the model's own answers "
        "in memory: of a cumulative dialogue it asks for all that was told and every fact has to be said (below it: "
        "which share of the facts is), of a long-term one it goes back to the first turn. Before: the "
        "supervised model.\n\n"
        f"{table(head, rows)}\n"
    )


def _gain(found: Mapping[str, Any]) -> str:
    low, high = found["gain"]
    return in_points({"gain": found["after"] - found["before"], "low": low, "high": high})


STAGE = TourStage(order=55, files=FILES, keys=keys, section=section)
