"""The records that pass between episodes, rollout, reward, critic and loss.

    EpisodeBatch      what is asked
    Rollout           ... and what the policy answered
    ScoredRollout     ... and what that was worth
    TrainingBatch     ... and what policy and critic learn from it

Each is built whole, frozen, and extends the one before. Symbols: B dialogues, K answered turns, T tokens of one
interaction, A of an answer. A dialogue is a first interaction, which is only written, and K queries, each answered from
memory. Before turn k exactly k + 1 interactions have been written: `writes[:, k]` is the one that turn k finds as the
newest. The answer of the last turn is written nowhere. Ids are right-padded, masks are bool; an answer begins with its
[A], or with [T] and a thought. Either may be forced; where the policy chose, that token is sampled like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from mrl.recipes.strategy import Strategy
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.row_record import RowRecord, extended, per_row, per_turn

NO_TOKEN = -1
"""Fills unused places of fact tensors; no tokenizer has a negative id."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EpisodeBatch(RowRecord):
    """What is asked: B dialogues with up to K answered turns."""

    first_ids: Tensor = per_row(2)
    """[B, T0] the first interaction, query and answer."""
    first_mask: Tensor = per_row(2)
    query_ids: Tensor = per_turn(3)
    """[B, K, Q]"""
    query_mask: Tensor = per_turn(3)
    reference_ids: Tensor = per_turn(3)
    """[B, K, R] from [A] or [T] to [EOS]."""
    reference_mask: Tensor = per_turn(3)
    fact_ids: Tensor = per_turn(5, fill=NO_TOKEN)
    """[B, K, F, V, W] each needed fact in V spellings of up to W tokens, NO_TOKEN where there is nothing."""
    distance: Tensor = per_turn()
    """[B, K] turns since the fact was given (0: not known)."""
    turns: Tensor = per_turn()
    """[B, K] False where the dialogue is over."""
    strategy: Tensor = per_row(1)
    """[B] index into `strategies`."""
    start: EpisodeStart
    """Seeds and memories that the dialogues begin with."""
    strategies: Sequence[Strategy] = (Strategy(),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.start) != len(self.turns):
            raise ValueError(f"{len(self.start)} starts for {len(self.turns)} dialogues")

    @property
    def size(self) -> int:
        """B."""
        return self.turns.shape[0]

    @property
    def steps(self) -> int:
        """K."""
        return self.turns.shape[1]

    @property
    def seeds(self) -> Tensor:
        """[B] what drives initial state and sampling of a row, whoever its neighbours are."""
        return self.start.seeds

    @property
    def asks(self) -> Tensor:
        """[B, K] True where the answer needs facts."""
        return self.turns & (self.fact_ids >= 0).flatten(2).any(-1)

    def repeat(self, times: int) -> "EpisodeBatch":
        """Every dialogue `times` times in a row, with its seed (so from the same memory)."""
        if times == 1:
            return self
        return self.select(torch.arange(self.size, device=self.turns.device).repeat_interleave(times))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"strategies": [asdict(strategy) for strategy in self.strategies]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "EpisodeBatch":
        """Back from `state_dict`."""
        strategies = tuple(Strategy(**strategy) for strategy in state["strategies"])
        known: dict[str, Any] = {**state, "start": EpisodeStart.from_state(state["start"]), "strategies": strategies}
        return cls(**known)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout(RowRecord):
    """What happened: the dialogues with the answers given and what was written."""

    batch: EpisodeBatch
    writes: Tensor = per_turn(3, width="writes_mask")
    """[B, K, T] the interaction written before each turn."""
    writes_mask: Tensor = per_turn(3, width="writes_mask")
    answer_ids: Tensor = per_turn(3, width="answer_mask")
    """[B, K, A]"""
    answer_mask: Tensor = per_turn(3, width="answer_mask")
    sampled: Tensor = per_turn(3, width="answer_mask")
    """[B, K, A] True where the policy chose the token."""
    log_probs: Tensor = per_turn(3, width="answer_mask")
    """[B, K, A] fp32 under the distribution sampled from, 0 elsewhere."""
    finished: Tensor = per_turn()
    """[B, K] the answer came to its [EOS]."""
    thought: Tensor = per_turn()
    """[B, K] tokens before the answer's [A], 0 where it was answered at once."""
    cut: Tensor = per_turn()
    """[B, K] the thought was closed at its limit, or never."""
    opening: Tensor | None = per_turn(3, optional=True)
    """[B, K, D + 4] what the policy saw before the first token it chose (`opening_critic`), for a critic that reads it;
    0 where no reward speaks of the turn."""
    group: int = 1
    """Rows that share one memory and one question (1 = every row its own)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.writes.shape[:2] != self.batch.turns.shape:
            raise ValueError(f"answers to {tuple(self.writes.shape[:2])} turns of {tuple(self.batch.turns.shape)}")
        if self.batch.size % self.group:
            raise ValueError(f"{self.batch.size} rows are no whole number of groups of {self.group}")

    @property
    def turns(self) -> Tensor:
        """[B, K] True where there is a turn."""
        return self.batch.turns

    @property
    def answered(self) -> Tensor:
        """[B, K] True where there is an answer: a turn that nothing is learnt from may have none."""
        return self.turns & self.answer_mask.any(-1)

    def __len__(self) -> int:
        """Groups (dialogues, where group is 1): what is shared out over minibatches, slices and processes."""
        return self.batch.size // self.group

    def rows(self, index: Tensor | slice) -> Self:
        """The given groups with all their rows."""
        groups = torch.arange(len(self), device=self.turns.device)[index]
        member = torch.arange(self.group, device=groups.device)
        return self.select((groups[:, None] * self.group + member).flatten())

    @property
    def leaders(self) -> slice:
        """The first row of each group: what it said was written."""
        return slice(None, None, self.group)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Back from `state_dict`."""
        known: dict[str, Any] = {**state, "batch": EpisodeBatch.from_state(state["batch"])}
        return cls(**known)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRollout(Rollout):
    """A rollout and what its answers were worth."""

    rewards: Tensor = per_turn()
    """[B, K] fp32, 0 where nothing is said of a turn."""
    rewarded: Tensor = per_turn()
    """[B, K] True where the reward says something of the turn; elsewhere its 0 is no verdict."""
    recall: Tensor = per_turn()
    """[B, K] share of the needed facts that were said, NaN where none are needed."""
    terms: dict[str, Tensor]
    """The parts of the reward by name [B, K], NaN where a term says nothing."""

    @property
    def exact(self) -> Tensor:
        """[B, K] 1 where all needed facts were said, else 0; NaN where none are needed."""
        return torch.where(self.recall.isnan(), self.recall, (self.recall > 1 - 1e-6).float())


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingBatch(ScoredRollout):
    """A scored rollout and what is learnt from it."""

    values: Tensor = per_turn()
    """[B, K] fp32 what the critic had expected, 0 where nothing is credited or there is no critic."""
    advantages: Tensor = per_turn()
    """[B, K] fp32"""
    returns: Tensor = per_turn()
    """[B, K] fp32 what the critic should have expected."""
    credited: Tensor = per_turn()
    """[B, K] True where advantages and returns say something."""
    reference_log_probs: Tensor | None = per_turn(3, width="answer_mask", optional=True)
    """[B, K, A] like log_probs, of the policy that the run started from."""


__all__ = [
    "NO_TOKEN",
    "EpisodeBatch",
    "Rollout",
    "ScoredRollout",
    "Strategy",
    "TrainingBatch",
    "extended",
]
