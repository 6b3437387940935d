"""Thinking: derived questions answered at once and after a thought, by two models of the same number of steps, and
after thoughts that were reinforced."""

import json
import statistics
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluation.metrics import numbered, paired_difference
from evaluation.reporting.tour_stage import Files, TourStage

FILES = {
    "direct": "tour/think_direct/asked/retention.json",
    "thinking": "tour/think/asked/retention.json",
    "reinforced": "tour/think_mrl/asked/retention.json",
}
MODEL = "memory_sft"
"""What evaluation/retention.py calls the model's own answers."""
DERIVED = ("hop", "together", "more")
"""Kinds of questions that have to be derived (data/generators/derivations.py)."""


def hits(figures: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """1 or 0 of every derived question, by its row and turn. Raises ValueError where the answers aren't there."""
    path = Path(figures["answers_file"])
    if not path.exists():
        raise ValueError(f"{path} is missing")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(x["where"], x["turn"]): float(x[MODEL]["recalled"]) for x in lines if x["kind"] in DERIVED}


def compared(files: Files) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Shares of all three over the questions that all were asked, and the paired differences of each to the one before
    it, by its name."""
    all_hits = {name: hits(files[name]) for name in FILES}
    asked = sorted(set.intersection(*(set(found) for found in all_hits.values())))
    dialogues = numbered(where for where, _ in asked)
    values = {name: [found[place] for place in asked] for name, found in all_hits.items()}
    gains = {after: paired_difference(values[before], values[after], dialogues) for before, after in pairwise(values)}
    return {name: statistics.fmean(found) for name, found in values.items()}, gains


def keys(files: Files) -> dict[str, Any]:
    """`think`."""
    shares, gains = compared(files)
    return {"think": {name: round(share, 4) for name, share in shares.items()} | {"n": gains["thinking"]["n"]}}


def section(files: Files) -> str:
    """The shares, the gains with their intervals, and how much was thought."""
    shares, gains = compared(files)
    direct, thinking, reinforced = (f"{100 * share:.1f}" for share in shares.values())
    return (
        "## Thinking\n\n"
        f"Held-out questions whose answer follows from two remembered facts ({gains['thinking']['n']}): answered at "
        f"once {direct} per cent right, after a thought {thinking}, {_gain(gains['thinking'])}; after reinforcement "
        f"{reinforced}, {_gain(gains['reinforced'])}. Thoughts: {_thought(files, 'thinking')}; after reinforcement: "
        f"{_thought(files, 'reinforced')}.\n"
    )


def _gain(gain: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in gain["interval"])
    points = f"{100 * gain['difference']:+.1f} points"
    return f"{points} (paired 95 per cent interval over dialogues {low:.1f} to {high:.1f})"


def _thought(files: Files, name: str) -> str:
    thoughts = files[name]["thoughts"][MODEL]
    return (
        f"of all questions, plain ones among them, {100 * thoughts['share']:.1f} per cent were thought about, in "
        f"{thoughts['tokens']} tokens each, {thoughts['unfinished']} without coming to an end"
    )


STAGE = TourStage(order=50, files=FILES, keys=keys, section=section)
