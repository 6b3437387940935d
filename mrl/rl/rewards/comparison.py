"""What the terms of the reward are computed from: a turn's words beside those it is compared with.

A term is a function of a `Comparison` that gives a value in 0..1 for each turn, 1 for the reference answer itself, NaN
where it says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mrl.recipes.rewards import RewardSettings
from mrl.rl.rewards.words import Vocabulary, Words


@dataclass(frozen=True)
class Comparison:
    """Of B x K turns: query, answer, reference and the thought before the answer [B, K, n], the saved interaction that
    the strategy compares with [B, K, m], all interactions written [B, K, T] (turn k reads k + 1 of them), the needed
    facts [B, K, F, V, W]."""

    query: Words
    answer: Words
    thought: Words
    reference: Words
    saved: Words
    writes: Words
    fact_ids: Tensor
    vocabulary: Vocabulary
    settings: RewardSettings

    @property
    def shape(self) -> tuple[int, int]:
        """B, K."""
        return self.answer.mask.shape[0], self.answer.mask.shape[1]


type Term = Callable[[Comparison], Tensor]
"""A value in 0..1 for each turn [B, K], NaN where the term says nothing."""
