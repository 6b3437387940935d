"""What a model recalls more than another one of the same questions: paired, with intervals over dialogues."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.metrics import numbered, paired_difference, paired_gains

MEAN_OVER = ("2", "4", "8", "16")
"""Distances whose mean recall is the one figure of a model."""
ANSWERS = "answers.jsonl"
"""What evaluation/retention.py calls the file of all answers."""


class Asked(NamedTuple):
    """A question: its row, which is a dialogue, its turn and its distance."""

    where: str
    turn: int
    distance: int


Hits = Mapping[Asked, float]
"""Share of its questions that a model, or the mean of several, recalled."""


def read_hits(path: Path, name: str, figure: str = "recalled") -> dict[Asked, float]:
    """1 or 0 of every question about what was told, by what the answers' file says of the model called `name`; with
    figure `said` the share of its facts that the answer says. Raises ValueError for a file that isn't one."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = [line for line in lines if line["distance"] > 0]
        return {Asked(x["where"], x["turn"], x["distance"]): float(x[name][figure]) for x in told}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no answers of {name}: {error!r}") from None


def mean_hits(models: Sequence[Hits]) -> dict[Asked, float]:
    """Of the questions that all were asked: in what share of the models (seeds) each was recalled."""
    common = [asked for asked in models[0] if all(asked in hits for hits in models)]
    return {asked: sum(hits[asked] for hits in models) / len(models) for asked in common}


def recall_gains(before: Hits, after: Hits) -> dict[str, dict[str, Any]]:
    """By distance from 2 to 16, and `mean` over the distances of `MEAN_OVER` that occur: `gain` of the share recalled,
    `low` and `high` of its 95 per cent interval, `n` questions; over the questions that both were asked. Nothing where
    there is no such question."""
    asked = [question for question in before if question in after and 2 <= question.distance <= 16]
    if not asked:
        return {}
    gains, sizes = paired_gains(
        [before[question] for question in asked],
        [after[question] for question in asked],
        numbered(question.where for question in asked),
        [str(question.distance) for question in asked],
    )
    found = {d: _with_interval(gains[d], sizes[d]) for d in sorted(gains, key=int)}
    over = [distance for distance in MEAN_OVER if distance in gains]
    if over:
        found["mean"] = _with_interval(np.mean([gains[d] for d in over], axis=0), sum(sizes[d] for d in over))
    return found


def gain_of_all(before: Hits, after: Hits) -> dict[str, Any]:
    """The same over all questions that both were asked, at any distance. Raises ValueError where there is none."""
    asked = [question for question in before if question in after]
    if not asked:
        raise ValueError("no question is in all of these files; measure both sides on the same dialogues")
    found = paired_difference(
        [before[question] for question in asked],
        [after[question] for question in asked],
        numbered(question.where for question in asked),
    )
    low, high = found["interval"]
    return {"gain": found["difference"], "low": low, "high": high, "n": found["n"]}


def _with_interval(gains: np.ndarray, n: int) -> dict[str, Any]:
    low, high = np.nanquantile(gains[1:], (0.025, 0.975))
    return {"gain": round(float(gains[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4), "n": n}


def in_points(figures: Mapping[str, Any]) -> str:
    """`+1.3 (0.4 to 2.1)` in points, or that there is no difference."""
    ends = f"{100 * figures['low']:.1f} to {100 * figures['high']:.1f}"
    if figures["low"] <= 0 <= figures["high"]:
        return f"no difference ({ends})"
    return f"{100 * figures['gain']:+.1f} ({ends})"
