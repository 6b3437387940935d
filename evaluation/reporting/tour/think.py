"""Thinking: derived questions answered after a thought and at once, by two models of the same number of steps."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.metrics import paired_difference
from evaluation.reporting.tour_stage import Files, TourStage

FILES = {"direct": "tour/think_direct/asked/retention.json", "thinking": "tour/think/asked/retention.json"}
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


def compared(files: Files) -> dict[str, Any]:
    """Shares of both and their paired difference over the questions that both were asked."""
    direct, thinking = hits(files["direct"]), hits(files["thinking"])
    asked = sorted(direct.keys() & thinking.keys())
    before, after = [direct[place] for place in asked], [thinking[place] for place in asked]
    rows = {where: number for number, where in enumerate(dict.fromkeys(where for where, _ in asked))}
    gain = paired_difference(before, after, [rows[where] for where, _ in asked])
    return {"direct": statistics.fmean(before), "thinking": statistics.fmean(after), "gain": gain}


def keys(files: Files) -> dict[str, Any]:
    """`think`."""
    found = compared(files)
    return {
        "think": {
            "direct": round(found["direct"], 4), "thinking": round(found["thinking"], 4), "n": found["gain"]["n"],
        }
    }  # fmt: skip


def section(files: Files) -> str:
    """Both shares, the gain with its interval, and how much was thought."""
    found, thoughts = compared(files), files["thinking"]["thoughts"][MODEL]
    gain = found["gain"]
    low, high = (100 * end for end in gain["interval"])
    return (
        "## Thinking\n\n"
        f"Held-out questions whose answer follows from two remembered facts ({gain['n']}): answered at once "
        f"{100 * found['direct']:.1f} per cent right, after a thought {100 * found['thinking']:.1f}; a gain of "
        f"{100 * gain['difference']:.1f} points (paired 95 per cent interval over dialogues {low:.1f} to {high:.1f}). "
        f"Of all questions, plain ones among them, {100 * thoughts['share']:.1f} per cent were thought about, in "
        f"{thoughts['tokens']} tokens each; {thoughts['unfinished']} thoughts came to no end.\n"
    )


STAGE = TourStage(order=50, files=FILES, keys=keys, section=section)
