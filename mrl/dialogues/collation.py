"""Encoded dialogues as padded tensors, and the order in which training visits them.

The order is a function of (seed, epoch) and the same on every process: a step's *global* batch is decided first, then
each process takes every world-th row of it. So two processes see what one would, and a resumed run what an unbroken
one would.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from mrl.dialogues.tokenization import FACT, MARKER, SCORED, THOUGHT, EncodedDialogues

IGNORED = -100
EDGES = (1, 2, 4, 8, 16, 32, 64)
"""Distances are counted in ranges that end with these."""


@dataclass
class RowTensors:
    """Tensors whose first dimension is the row."""

    def rows(self, index: slice | Tensor) -> Self:
        """Some of the rows."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> Self:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __len__(self) -> int:
        return getattr(self, fields(self)[0].name).shape[0]


@dataclass
class Interactions(RowTensors):
    """Single turns. ids, mask [B, T]; labels [B, T] (-100: not scored); hidden [B, T] bool, set by the objective:
    tokens that the encoder doesn't see; noise [B]: a seed per row for whatever else is random."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    hidden: Tensor
    noise: Tensor

    def trim(self) -> Self:
        """Without the columns that are padding in every row."""
        longest = int(self.mask.sum(1).max())
        cut = {n: getattr(self, n)[:, :longest] for n in ("ids", "mask", "labels", "hidden")}
        return replace(self, **cut)


@dataclass
class Episodes(RowTensors):
    """Whole dialogues. ids, mask, labels [B, K, T]; facts, thoughts [B, K, T] bool: tokens of a needed fact, of what is
    thought before the answer; distance [B, K]; asks [B, K] bool: turns whose answer takes memory; seeds [B]: of the
    initial states; group [B]."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    facts: Tensor
    thoughts: Tensor
    distance: Tensor
    asks: Tensor
    seeds: Tensor
    group: Tensor

    def trim(self) -> Self:
        """Without the columns and the turns that are padding in every row."""
        longest = max(1, int(self.mask.sum(2).max()))
        turns = max(1, int((self.mask[:, :, 0] > 0).sum(1).max()))
        cut = {n: getattr(self, n)[:, :turns, :longest] for n in ("ids", "mask", "labels", "facts", "thoughts")}
        return replace(self, **cut, distance=self.distance[:, :turns], asks=self.asks[:, :turns])


def _gather(data: EncodedDialogues, turn: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, ...]:
    """ids, mask, flags of shape turn.shape + (T,), from turn numbers; absent turns are all padding."""
    lengths = np.where(present, data.lengths[turn], 0)
    position = np.arange(max(1, int(lengths.max())))
    mask = position < lengths[..., None]
    index = np.where(mask, data.start[turn][..., None] + position, 0)
    ids = np.where(mask, data.tokens[index], data.frame.pad)
    return ids, mask, np.where(mask, data.flags[index], 0)


def _labels(data: EncodedDialogues, ids: np.ndarray, mask: np.ndarray, flags: np.ndarray, scored: str) -> np.ndarray:
    if scored == "all":
        wanted = mask.copy()
        wanted[..., 0] = False
    else:
        wanted = (flags & (SCORED | (MARKER if data.thinks else 0))) > 0
    return np.where(wanted, ids, IGNORED)


def collate_interactions(data: EncodedDialogues, turn: np.ndarray, scored: str, seed: int) -> Interactions:
    """Turns by number. scored: "all" tokens but the first, or the "answer" alone."""
    ids, mask, flags = _gather(data, turn, np.ones(len(turn), dtype=bool))
    noise = np.random.default_rng(seed).integers(0, 2**62, len(turn))
    return Interactions(
        torch.from_numpy(ids),
        torch.from_numpy(mask.astype(np.int64)),
        torch.from_numpy(_labels(data, ids, mask, flags, scored)),
        torch.zeros(ids.shape, dtype=torch.bool),
        torch.from_numpy(noise),
    )


def collate_episodes(data: EncodedDialogues, dialogue: np.ndarray, turns: int | None, seed: int) -> Episodes:
    """The first `turns` turns (None: all) of dialogues by number; initial states are seeded by (seed, row)."""
    counts = data.turns[dialogue] if turns is None else np.minimum(data.turns[dialogue], turns)
    place = np.arange(int(counts.max()))
    present = place < counts[:, None]
    turn = np.where(present, data.first[dialogue][:, None] + place, 0)
    ids, mask, flags = _gather(data, turn, present)
    names = {name: i for i, name in enumerate(sorted(set(data.groups)))}
    return Episodes(
        torch.from_numpy(ids),
        torch.from_numpy(mask.astype(np.int64)),
        torch.from_numpy(_labels(data, ids, mask, flags, "answer")),
        torch.from_numpy((flags & FACT) > 0),
        torch.from_numpy((flags & THOUGHT) > 0),
        torch.from_numpy(np.where(present, data.distance[turn], 0)),
        torch.from_numpy(present & data.asks[turn]),
        torch.from_numpy(np.random.default_rng(seed).integers(0, 2**62, len(dialogue))),
        torch.tensor([names[data.groups[d]] for d in dialogue]),
    )


def distance_ranges(distance: Any) -> Iterator[tuple[int, Any]]:
    """Where distances (an array or tensor of any shape) are 1, 2, 3-4, 5-8 ...: the end of each range and its mask."""
    for low, high in zip((0, *EDGES), EDGES, strict=False):
        yield high, (distance > low) & (distance <= high)


class Shareable(Protocol):
    """A record of rows that can be dealt out."""

    def rows(self, index: slice) -> Self: ...

    def trim(self) -> Self: ...

    def __len__(self) -> int: ...


def share[Batch: Shareable](batch: Batch, rank: int, world: int, parts: int) -> list[Batch]:
    """This process's rows of a global batch, in `parts` slices for gradient accumulation (fewer if rows are few)."""
    own = batch.rows(slice(rank, None, world))
    pieces = [own.rows(slice(i, None, parts)) for i in range(min(parts, len(own)))]
    return [piece.trim() for piece in pieces]
