"""Reinforcement learning with verifiable rewards: greedy answers to held-out puzzles before and after it."""

from typing import Any

from evaluation.reporting.markdown import table
from evaluation.reporting.tour_stage import Files, TourStage

SHOWN = ("before", "after", "low", "high", "n")


def keys(files: Files) -> dict[str, Any]:
    """`grpo`: shares before and after, the 95 % interval of their difference, how many puzzles."""
    answers = files["metrics"]["answers_puzzles"]
    return {"grpo": {name: answers[name] for name in SHOWN}}


def section(files: Files) -> str:
    """One row."""
    found = keys(files)["grpo"]
    before, after, low, high = (100 * found[name] for name in SHOWN[:-1])
    row = [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f} [{low:+.1f}, {high:+.1f}]", str(found["n"])]
    told = (
        "Held-out puzzles answered greedily, per cent; the start is a stage 2 that thinks in some of its answers only, "
        "and right answers alone are paid for. The interval is that of 95 %, over the same puzzles."
    )
    return f"## GRPO\n\n{told}\n\n{table(['before', 'after', 'difference', 'puzzles'], [row])}\n"


STAGE = TourStage(order=60, files={"metrics": "tour/grpo/run/metrics.json"}, keys=keys, section=section)
