"""The one record that passes between environment, rollout, reward, critic and loss.

Symbols: B dialogues, K answered turns, T tokens of one interaction, L layers, S slots, D width. A dialogue is a first
interaction, which is only written, and K queries, each answered from memory. Before turn k exactly k + 1 interactions
have been written: `writes[:, k]` is the one that turn k finds as the newest. The answer of the last turn is written
nowhere. Ids are right-padded, masks are bool; an answer begins with its forced [A].
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mrl.rl.episode_start import EpisodeStart

NO_TOKEN = -1
"""Fills unused places of fact tensors; no tokenizer has a negative id."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What a dialogue is rewarded for.

    single: the first turn only, against the interaction before it. cumulative: every turn against the `saved_offset`th
    interaction before it, and the last one against all earlier interactions, times `final_weight`. long_term: the last
    turn only, against the first interaction; with `dense` the turns between are rewarded too, and
    `topic_change_penalty` is taken from them for as much as the answer leans on the old topic more than the reference
    does. `weight` is its share when several are mixed.
    """

    kind: Literal["single", "cumulative", "long_term"] = "cumulative"
    weight: float = 1.0
    saved_offset: int = 1
    final_weight: float = 1.0
    dense: bool = False
    topic_change_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}; a share of the mix can't be negative")
        if self.saved_offset < 1:
            raise ValueError(f"saved_offset is {self.saved_offset}; 1 is the interaction right before the question")
        if self.topic_change_penalty and not (self.kind == "long_term" and self.dense):
            raise ValueError("topic_change_penalty needs kind: long_term with dense: true")


@dataclass
class EpisodeBatch:
    """What the environment asks: B dialogues with up to K answered turns.

    first_ids, first_mask [B, T0]; query_ids, query_mask [B, K, Q]; reference_ids, reference_mask [B, K, R] (from [A] or
    [T] to [EOS]); fact_ids [B, K, F, V, W], each needed fact in V spellings of up to W tokens, NO_TOKEN where there is
    nothing; distance [B, K] turns since the fact was given (0: not known); turns [B, K] False where the dialogue is
    over; start: seeds and memories that the rows begin with; strategy [B] index into `strategies`.
    """

    first_ids: Tensor
    first_mask: Tensor
    query_ids: Tensor
    query_mask: Tensor
    reference_ids: Tensor
    reference_mask: Tensor
    fact_ids: Tensor
    distance: Tensor
    turns: Tensor
    start: EpisodeStart
    strategy: Tensor
    strategies: Sequence[Strategy] = (Strategy(),)

    def __post_init__(self) -> None:
        rows, turns = self.turns.shape
        expect(self.first_ids, self.first_mask, lead=(rows,), ndim=2)
        expect(self.query_ids, self.query_mask, self.reference_ids, self.reference_mask, lead=(rows, turns), ndim=3)
        expect(self.fact_ids, lead=(rows, turns), ndim=5)
        expect(self.distance, self.turns, lead=(rows, turns), ndim=2)
        expect(self.start.seeds, self.strategy, lead=(rows,), ndim=1)

    @property
    def rows(self) -> int:
        return self.turns.shape[0]

    @property
    def steps(self) -> int:
        return self.turns.shape[1]

    @property
    def seeds(self) -> Tensor:
        """[B] what drives initial state and sampling of a row, whoever its neighbours are."""
        return self.start.seeds

    def select(self, rows: Tensor | slice) -> "EpisodeBatch":
        """The given dialogues, in their order."""
        return _select(self, rows)

    def repeat(self, times: int) -> "EpisodeBatch":
        """Every dialogue `times` times in a row, with its seed (so from the same memory)."""
        return self.select(torch.arange(self.rows, device=self.turns.device).repeat_interleave(times))

    def to(self, device: torch.device | str) -> "EpisodeBatch":
        return _move(self, device)


@dataclass
class Trajectory:
    """What happened: an `EpisodeBatch` with the answers given, what was written, and what it was worth.

    writes, writes_mask [B, K, T]; answer_ids, answer_mask [B, K, A]; sampled [B, K, A] True where the
    policy chose; log_probs [B, K, A] fp32 under the distribution sampled from, 0 elsewhere. rewards, values,
    advantages, returns [B, K] fp32, 0 where `batch.turns` is False; credited [B, K] True where advantages and returns
    say something. reference_log_probs like log_probs, or None.
    terms: the parts of the reward by name [B, K]. group: rows that share one memory (1 = every row its own).
    """

    batch: EpisodeBatch
    writes: Tensor
    writes_mask: Tensor
    answer_ids: Tensor
    answer_mask: Tensor
    sampled: Tensor
    log_probs: Tensor
    finished: Tensor
    group: int = 1
    rewards: Tensor | None = None
    values: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    credited: Tensor | None = None
    reference_log_probs: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lead = (self.batch.rows, self.batch.steps)
        expect(self.writes, self.writes_mask, lead=lead, ndim=3)
        expect(self.answer_ids, self.answer_mask, self.sampled, self.log_probs, lead=lead, ndim=3)
        expect(self.finished, lead=lead, ndim=2)
        for name in ("rewards", "values", "advantages", "returns", "credited"):
            if (value := getattr(self, name)) is not None:
                expect(value, lead=lead, ndim=2, name=name)
        if self.batch.rows % self.group:
            raise ValueError(f"{self.batch.rows} rows are no whole number of groups of {self.group}")

    @property
    def turns(self) -> Tensor:
        """[B, K] True where there is a turn."""
        return self.batch.turns

    @property
    def rewarded(self) -> Tensor:
        """[B, K] True where the reward says something about a turn."""
        return self.terms["rewarded"] > 0

    def select(self, rows: Tensor | slice) -> "Trajectory":
        """The given rows; whole groups only where group > 1."""
        return _select(self, rows)

    def __len__(self) -> int:
        """Groups (dialogues, where group is 1): what is shared out over minibatches, slices and processes."""
        return self.batch.rows // self.group

    def rows(self, index: Tensor | slice) -> "Trajectory":
        """The given groups with all their rows."""
        groups = torch.arange(len(self), device=self.turns.device)[index]
        return self.select((groups[:, None] * self.group + torch.arange(self.group, device=groups.device)).flatten())

    def trim(self) -> "Trajectory":
        """Without turns and columns that are empty in every row."""
        steps = max(1, int(self.turns.any(0).sum()))
        batch = replace(
            self.batch,
            **{
                f.name: getattr(self.batch, f.name)[:, :steps]
                for f in fields(self.batch)
                if f.name in ("fact_ids", "distance", "turns", *_PAIRS_OF_BATCH)
            },
        )
        cut = {n: getattr(self, n) for n in (*_PER_TURN, *_PAIRS)}
        cut = {n: None if value is None else value[:, :steps] for n, value in cut.items()}
        terms = {name: value[:, :steps] for name, value in self.terms.items()}
        for names in (("writes", "writes_mask"), ("answer_ids", "answer_mask", "sampled", "log_probs")):
            width = max(1, int(cut[names[1]].sum(-1).max()))
            for name in names:
                cut[name] = cut[name][..., :width]
            if "log_probs" in names and cut["reference_log_probs"] is not None:
                cut["reference_log_probs"] = cut["reference_log_probs"][..., :width]
        return replace(self, batch=batch, terms=terms, **cut)

    def to(self, device: torch.device | str) -> "Trajectory":
        return _move(self, device)

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and plain values, for a checkpoint."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "batch"}
        batch = {f.name: getattr(self.batch, f.name) for f in fields(self.batch)}
        strategies = [asdict(strategy) for strategy in self.batch.strategies]
        return own | {"batch": batch | {"strategies": strategies, "start": self.batch.start.state_dict()}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Trajectory":
        """Back from `state_dict`."""
        batch = state["batch"] | {
            "strategies": tuple(Strategy(**strategy) for strategy in state["batch"]["strategies"]),
            "start": EpisodeStart.from_state(state["batch"]["start"]),
        }
        return cls(**{**state, "batch": EpisodeBatch(**batch)})


_PAIRS_OF_BATCH = ("query_ids", "query_mask", "reference_ids", "reference_mask")
_PAIRS = ("writes", "writes_mask", "answer_ids", "answer_mask", "sampled", "log_probs", "reference_log_probs")
_PER_TURN = ("finished", "rewards", "values", "advantages", "returns", "credited")


def join_trajectories(parts: Sequence[Trajectory]) -> Trajectory:
    """Rows of several trajectories one after another, padded to common widths. Raises ValueError where one has values,
    say, and another doesn't."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    start = EpisodeStart.join([part.batch.start for part in parts])
    batch = replace(first.batch, **_joined([part.batch for part in parts], NO_TOKEN), start=start)
    terms = {name: torch.cat([part.terms[name] for part in parts]) for name in first.terms}
    return replace(first, **_joined(parts, 0), batch=batch, terms=terms)


def _joined(records: Sequence[Any], fact_fill: int) -> dict[str, Tensor]:
    changes = {}
    for item in fields(records[0]):
        values = [getattr(record, item.name) for record in records]
        if not any(isinstance(value, Tensor) for value in values):
            continue
        if not all(isinstance(value, Tensor) for value in values):
            raise ValueError(f"{item.name} is missing in some of the trajectories that are joined")
        shape = [max(value.shape[d] for value in values) for d in range(1, values[0].ndim)]
        fill = fact_fill if item.name == "fact_ids" else 0
        padded = []
        for value in values:
            missing = [(0, most - own) for most, own in zip(shape, value.shape[1:], strict=True)]
            padding = [n for pair in reversed(missing) for n in pair]
            padded.append(torch.nn.functional.pad(value, padding, value=fill) if any(padding) else value)
        changes[item.name] = torch.cat(padded)
    return changes


def expect(*tensors: Tensor, lead: tuple[int, ...], ndim: int, name: str = "tensor") -> None:
    """Raise ValueError unless every tensor has `ndim` dimensions of which the first are `lead`."""
    for tensor in tensors:
        if tensor.ndim != ndim or tuple(tensor.shape[: len(lead)]) != tuple(lead):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected {ndim} dimensions beginning {tuple(lead)}"
            )


def _select(record, rows):
    changes = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, Tensor):
            changes[item.name] = value[rows]
        elif isinstance(value, EpisodeStart):
            changes[item.name] = value.rows(rows)
        elif isinstance(value, EpisodeBatch):
            changes[item.name] = value.select(rows)
        elif isinstance(value, dict):
            changes[item.name] = {name: tensor[rows] for name, tensor in value.items()}
    return replace(record, **changes)


def _move(record, device):
    changes = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, Tensor | EpisodeBatch | EpisodeStart):
            changes[item.name] = value.to(device)
        elif isinstance(value, dict):
            changes[item.name] = {name: tensor.to(device) for name, tensor in value.items()}
    return replace(record, **changes)


def pad_stack(rows: Sequence[Sequence[Sequence[int]]], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Token lists [B][K][n] -> ids [B, K, longest] right-padded with `fill`, and mask (bool). Short rows of turns are
    filled up with empty turns."""
    turns = max((len(row) for row in rows), default=0)
    width = max((len(ids) for row in rows for ids in row), default=0) or 1
    ids = torch.full((len(rows), turns, width), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), turns, width, dtype=torch.bool)
    for b, row in enumerate(rows):
        for k, tokens in enumerate(row):
            ids[b, k, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[b, k, : len(tokens)] = True
    return ids, mask
