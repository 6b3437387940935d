"""Running mean and deviation of reward terms, so that a weight means the same for each of them.

A fact is recalled nearly always or nearly never, a reward model's scores crowd together: of two terms with equal
weights the one that spreads more would decide alone. Matched, each counts in deviations from its own mean.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from torch import Tensor

LEAST = 0.05
"""Deviation below which a term isn't blown up any further: it has hardly anything to tell yet."""


class RunningScales:
    """Count, mean and summed squares of every term over all rounds (Chan et al. 1979); a part of the checkpoint."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}

    def update(self, terms: Mapping[str, Tensor], turns: Tensor) -> None:
        """Take in the terms [B, K] of a global round, where `turns` [B, K] says that there is a turn."""
        for name, term in terms.items():
            values = term[turns & ~term.isnan()].double()
            if not len(values):
                continue
            n, mean, squares = self.seen.get(name, [0.0, 0.0, 0.0])
            more, gap = len(values), float(values.mean()) - mean
            total = n + more
            squares += float((values - values.mean()).square().sum()) + gap * gap * n * more / total
            self.seen[name] = [total, mean + gap * more / total, squares]

    def matched(self, name: str, term: Tensor) -> Tensor:
        """A term in deviations from its mean; as it is before anything was seen of it."""
        if name not in self.seen:
            return term
        n, mean, squares = self.seen[name]
        return (term - mean) / max(LEAST, sqrt(squares / n))

    def state_dict(self) -> dict[str, Any]:
        return {name: list(seen) for name, seen in self.seen.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = {name: list(seen) for name, seen in state.items()}
