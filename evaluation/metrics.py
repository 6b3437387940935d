"""How an answer is scored: how many words does it share with the right one? (Whether it has the facts says
`mrl.dialogues.facts.recalled`, for training and evaluation alike.)"""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np


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
    from scipy.stats import binomtest  # here, so that a command line is answered without it

    found = binomtest(part, whole).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def numbered(names: Iterable[Hashable]) -> list[int]:
    """Of each name its number in the order of first appearance: the groups of the intervals below."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


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


def paired_gains(
    before: Sequence[float], after: Sequence[float], groups: Sequence[int], parts: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """`paired_difference` by the part that each value belongs to: of every part its gain and then the gains of the
    samples [1 + REDRAWN], all of the same redrawn groups, so that they can be averaged over parts; and its number of
    values. A sample in which a part doesn't occur is NaN."""
    gain = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.vstack([np.ones(len(names), dtype=np.int64), _redrawn(len(names), 0)])
    gains: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for part in dict.fromkeys(parts):
        here = np.array([each == part for each in parts])
        total = counts @ np.bincount(place[here], weights=gain[here], minlength=len(names))
        size = counts @ np.bincount(place[here], minlength=len(names))
        gains[part] = np.divide(total, size, where=size > 0, out=np.full(len(size), np.nan))
        sizes[part] = int(here.sum())
    return gains, sizes


def _redrawn(groups: int, seed: int) -> np.ndarray:
    """How often each of so many groups is in each sample, [REDRAWN, groups]."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), REDRAWN)


def _redrawn_means(values: np.ndarray, groups: Sequence[int], seed: int) -> np.ndarray:
    """Means [REDRAWN] of values [n] over groups that are drawn again, as many as there are."""
    if len(values) != len(groups) or not len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} group numbers; give one for each, and at least one")
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    drawn = _redrawn(len(names), seed)
    return drawn @ np.bincount(place, weights=values) / (drawn @ np.bincount(place))
