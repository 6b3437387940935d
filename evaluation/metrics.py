"""How an answer is scored: how many words does it share with the right one? (Whether it has the facts says
`mrl.dialogues.facts.recalled`, for training and evaluation alike.)"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest


def words(text: str) -> list[str]:
    """Words and numbers of a text in lower case, signs left out."""
    return re.findall(r"\w+", text.lower())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the answer's words (as in SQuAD, articles kept)."""
    said, wanted = Counter(words(answer)), Counter(words(reference))
    shared = sum((said & wanted).values())
    if not shared:
        return float(not said and not wanted)
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def interval(part: int, whole: int) -> list[float]:
    """The 95 per cent interval of a share (Wilson 1927), as low and high end."""
    found = binomtest(part, whole).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]


REDRAWN = 2000
"""Samples of the bootstrap."""


def bootstrap_interval(values: Sequence[float], groups: Sequence[int], seed: int = 0) -> list[float]:
    """The 95 per cent interval of the mean of `values`, low and high end, by drawing whole groups again (Efron and
    Tibshirani 1993): questions of one dialogue share its memory and don't count as independent. groups: of each value
    the number of its dialogue. Raises ValueError where there are no values."""
    means = _redrawn_means(np.asarray(values, dtype=np.float64), groups, seed)
    return [round(float(end), 4) for end in np.quantile(means, (0.025, 0.975))]


def paired_difference(
    before: Sequence[float], after: Sequence[float], groups: Sequence[int], seed: int = 0
) -> dict[str, Any]:
    """How much the mean grows from `before` to `after`, both of the same questions in the same order: `difference`, its
    95 per cent `interval` (whole groups drawn again, the same for both), `n`. Raises ValueError where they don't pair.
    """
    if len(before) != len(after) or not len(before):
        raise ValueError(f"{len(before)} values before and {len(after)} after: they must be of the same questions")
    gain = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return {
        "difference": round(float(gain.mean()), 4),
        "interval": bootstrap_interval(gain.tolist(), groups, seed),
        "n": len(gain),
    }


def _redrawn_means(values: np.ndarray, groups: Sequence[int], seed: int) -> np.ndarray:
    """Means [REDRAWN] of values [n] over groups that are drawn again, as many as there are."""
    if len(values) != len(groups) or not len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} group numbers; give one for each, and at least one")
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), REDRAWN)
    return drawn @ np.bincount(place, weights=values) / (drawn @ np.bincount(place))
