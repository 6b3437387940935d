"""The short-term memory as values: a state, the states around a row of writes, and a state's life on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .configuration_reactive import ReactiveConfig
from .memory import most_surprising, newest, occupied


class SlotTokens(NamedTuple):
    """A layer's slots as the tokens that they hold: tokens [M, D], each of which may stand in many slots, and which of
    them [B, S] a slot holds."""

    tokens: Tensor
    index: Tensor


@dataclass(frozen=True, eq=False)
class MemoryState:
    """What B dialogues have in memory: slots [L, B, S, D] (layers, dialogues, slots, width).

    readable [B, S] bool hides slots from the reader; None, which all states that a model writes have, shows all of
    them. A state is never changed: every operation gives another one, and gradients flow through it. Raises ValueError
    for other shapes.
    """

    slots: Tensor
    readable: Tensor | None = None

    def __post_init__(self) -> None:
        if self.slots.ndim != 4:
            raise ValueError(
                f"a memory state has shape {list(self.slots.shape)}; it must be [layers, rows, slots, width]"
            )
        if self.readable is not None and self.readable.shape != self.slots.shape[1:3]:
            raise ValueError(
                f"readable has shape {list(self.readable.shape)}; a memory state of shape {list(self.slots.shape)} "
                f"needs {list(self.slots.shape[1:3])} (rows, slots)"
            )

    def __len__(self) -> int:
        """Rows."""
        return self.slots.shape[1]

    @property
    def shape(self) -> torch.Size:
        return self.slots.shape

    @property
    def device(self) -> torch.device:
        return self.slots.device

    @property
    def dtype(self) -> torch.dtype:
        return self.slots.dtype

    @property
    def filled(self) -> Tensor:
        """[B, S] bool: slots that hold something, where an empty one is all zeros."""
        return occupied(self.slots)

    def layer(self, index: int) -> Tensor | SlotTokens:
        """What a layer reads: slots [B, S, D], or the tokens that they hold."""
        return self.slots[index]

    def rows(self, index: Tensor | slice) -> "MemoryState":
        """The given rows (numbers, a mask or a slice), in their order."""
        readable = None if self.readable is None else self.readable[index]
        return MemoryState(self.slots[:, index], readable)

    def expand(self, rows: int) -> "MemoryState":
        """A state of one row as that of so many, without a copy; a state of so many rows as it is."""
        if len(self) == rows:
            return self
        readable = None if self.readable is None else self.readable.expand(rows, -1)
        return MemoryState(self.slots.expand(-1, rows, -1, -1), readable)

    def repeat(self, times: int) -> "MemoryState":
        """Each row `times` times in a row: for a group of answers to one query."""
        readable = None if self.readable is None else self.readable.repeat_interleave(times, 0)
        return MemoryState(self.slots.repeat_interleave(times, 1), readable)

    def detach(self) -> "MemoryState":
        """The same numbers, from which no gradient flows back."""
        return MemoryState(self.slots.detach(), self.readable)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "MemoryState":
        """On another device, in another precision; what isn't given stays."""
        readable = None if self.readable is None else self.readable.to(device)
        return MemoryState(self.slots.to(device=device, dtype=dtype), readable)

    def where(self, chosen: Tensor, other: "MemoryState") -> "MemoryState":
        """These rows where `chosen` [B] is True, the rows of `other` elsewhere. Both must show all slots."""
        if self.readable is not None or other.readable is not None:
            raise ValueError("states with hidden slots can't be mixed row by row")
        return MemoryState(torch.where(chosen[:, None, None], self.slots, other.slots))

    @staticmethod
    def cat(states: Sequence["MemoryState"]) -> "MemoryState":
        """Rows of several states one after another. All must show all slots."""
        if any(state.readable is not None for state in states):
            raise ValueError("states with hidden slots can't be joined")
        return MemoryState(torch.cat([state.slots for state in states], dim=1))

    def save(self, path: str | Path, **notes: str | int) -> None:
        """Write a safetensors file with free-form notes (seeds, turn number, user...)."""
        tensors = {"state": self.slots.detach().contiguous().cpu()}
        if self.readable is not None:
            tensors["readable"] = self.readable.contiguous().cpu()
        save_file(tensors, str(path), {k: str(v) for k, v in notes.items()})

    @staticmethod
    def load(path: str | Path, device: str | torch.device = "cpu") -> tuple["MemoryState", dict[str, str]]:
        """Read a state and its notes. Raises ValueError where the file holds none."""
        with safe_open(str(path), framework="pt", device=str(device)) as file:
            names = list(file.keys())
            if "state" not in names:
                raise ValueError(f"{path} holds no memory state (expected a tensor named 'state')")
            readable = file.get_tensor("readable") if "readable" in names else None
            return MemoryState(file.get_tensor("state"), readable), dict(file.metadata() or {})

    def inspect(self) -> dict[str, list[float] | list[int]]:
        """Numbers to look at: shape, and by layer the mean slot norm, its spread, and how alike slots are.

        `similarity` is the mean cosine between different slots of a dialogue: near 1, the memory has collapsed.
        """
        slots = self.slots.detach().float()
        norm = slots.norm(dim=-1)
        unit = F.normalize(slots, dim=-1)
        count = slots.shape[2]
        alike = (unit @ unit.transpose(-1, -2)).sum((-1, -2)) - count
        return {
            "shape": list(slots.shape),
            "norm": norm.mean((1, 2)).tolist(),
            "norm_std": norm.flatten(1).std(dim=1, correction=0).tolist(),
            "similarity": (alike / max(1, count * (count - 1))).mean(1).tolist(),
        }


class TokenState(MemoryState):
    """A state whose slots hold tokens [L, M, D] that other rows hold as well, by number: index [B, S], and filled
    [B, S] bool. The states of a dialogue's turns are mostly the same tokens: so each of these is projected once for all
    turns, and slots [L, B, S, D] are laid out only for those who ask."""

    def __init__(self, tokens: Tensor, index: Tensor, filled: Tensor) -> None:
        vars(self).update(tokens=tokens, index=index, held=filled, readable=None)

    tokens: Tensor
    index: Tensor
    held: Tensor

    @cached_property
    def slots(self) -> Tensor:  # type: ignore[override]
        return self.tokens[:, self.index]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self.tokens), *self.index.shape, self.tokens.shape[-1]])

    @property
    def device(self) -> torch.device:
        return self.tokens.device

    @property
    def dtype(self) -> torch.dtype:
        return self.tokens.dtype

    @property
    def filled(self) -> Tensor:
        return self.held

    def layer(self, index: int) -> SlotTokens:
        return SlotTokens(self.tokens[index], self.index)


class Written(NamedTuple):
    """What K writes of interactions [B, T] chose among tokens: kept [K, B, T] bool, by log-odds [K, B, T] that a token
    is needed later (`memory.TokenWorth`)."""

    kept: Tensor
    worth: Tensor


@dataclass(frozen=True, eq=False)
class MemoryHistory:
    """The states of B dialogues before and after each of K writes: slots [K + 1, L, B, S, D].

    `history[k]` is the state after k writes; written what the writes chose, where they learn to. Raises ValueError for
    other shapes.
    """

    slots: Tensor
    written: Written | None = None

    def __post_init__(self) -> None:
        if self.slots.ndim != 5 or not len(self.slots):
            raise ValueError(
                f"a memory history has shape {list(self.slots.shape)}; "
                "it must be [writes + 1, layers, rows, slots, width]"
            )

    @staticmethod
    def stack(states: Sequence[MemoryState]) -> "MemoryHistory":
        """From the states themselves: the one before all writes, then the one after each."""
        if any(state.readable is not None for state in states):
            raise ValueError("states with hidden slots have no history")
        return MemoryHistory(torch.stack([state.slots for state in states]))

    @property
    def writes(self) -> int:
        """K."""
        return len(self.slots) - 1

    def __getitem__(self, writes: int) -> MemoryState:
        return MemoryState(self.slots[writes])

    def after(self, writes: Tensor, rows: Tensor) -> MemoryState:
        """The states that dialogues `rows` [n] had after `writes` [n] writes, one row each: [L, n, S, D].

        For one decoder call on turns of any dialogues: turn k, if k interactions were written before it, reads the
        state after k writes.
        """
        return MemoryState(self.slots[writes, :, rows].transpose(0, 1))

    def rows(self, index: Tensor | slice) -> "MemoryHistory":
        """The given dialogues, in their order."""
        return MemoryHistory(self.slots[:, :, index])

    @staticmethod
    def join(parts: Sequence["MemoryHistory"]) -> "MemoryHistory":
        """One history from several of the same dialogues, each of which begins with the state that the one before it
        ends with."""
        first, *later = parts
        if not later:
            return first
        chosen = [part.written for part in parts if part.written is not None]
        written = Written(*(torch.cat(each) for each in zip(*chosen, strict=True))) if chosen else None
        return MemoryHistory(torch.cat([first.slots, *(part.slots[1:] for part in later)]), written)

    def detach(self) -> "MemoryHistory":
        """The same numbers, from which no gradient flows back."""
        return MemoryHistory(self.slots.detach())


class TokenHistory(MemoryHistory):
    """The history of slots that hold tokens: tokens [L, M, D], the first of which is all zeros and stands in the empty
    slots; index [K + 1, B, S] which of them each slot holds."""

    def __init__(self, tokens: Tensor, index: Tensor, written: Written | None = None) -> None:
        vars(self).update(tokens=tokens, index=index, written=written)

    tokens: Tensor
    index: Tensor

    @staticmethod
    def of(
        state: MemoryState,
        layers: Sequence[Tensor],
        surprise: Tensor,
        mask: Tensor,
        share: float,
        worth: Tensor | None = None,
    ) -> "TokenHistory":
        """From a state [L, B, S, D] and what K writes find, turn by turn: what enters each of the L layers
        [K * B, T, D], surprise, mask and worth [K * B, T]. Each write keeps a share as `keep_surprising` does."""
        rows, room = state.shape[1:3]
        filled = state.filled
        kept = most_surprising(surprise, mask, share, room)
        zero = layers[0].new_zeros(len(layers), 1, layers[0].shape[-1])
        tokens = torch.cat([zero, state.slots[:, filled].to(zero.dtype), torch.stack([x[kept] for x in layers])], dim=1)
        # Numbers count the slots that are filled, then the tokens that are kept.
        number = torch.cat([filled.flatten(), kept.flatten()]).cumsum(0)
        old, new = number.split([filled.numel(), kept.numel()])
        index = [old.view_as(filled) * filled]
        for written, each in zip(kept.split(rows), new.view_as(kept).split(rows), strict=True):
            places, filled = newest(filled, written)
            index.append(torch.cat([index[-1], each], dim=1).gather(1, places) * filled)
        written = None if worth is None else Written(*(x.unflatten(0, (-1, rows)) for x in (kept, worth)))
        return TokenHistory(tokens, torch.stack(index), written)

    @cached_property
    def slots(self) -> Tensor:  # type: ignore[override]
        return self.tokens[:, self.index].transpose(0, 1)

    @property
    def writes(self) -> int:
        return len(self.index) - 1

    def __getitem__(self, writes: int) -> MemoryState:
        return MemoryState(self.tokens[:, self.index[writes]])

    def after(self, writes: Tensor, rows: Tensor) -> MemoryState:
        index = self.index[writes, rows]
        return TokenState(self.tokens, index, index > 0)

    def rows(self, index: Tensor | slice) -> MemoryHistory:
        return TokenHistory(self.tokens, self.index[:, index])

    def detach(self) -> MemoryHistory:
        return TokenHistory(self.tokens.detach(), self.index)


def normal_state(seeds: Sequence[int], layers: int, slots: int, width: int, std: float) -> MemoryState:
    """Draw an initial state on the CPU; row b depends on seeds[b] alone, on every device."""
    rows = [
        torch.randn(layers, slots, width, generator=torch.Generator().manual_seed(int(seed) % 2**63)) for seed in seeds
    ]
    return MemoryState(torch.stack(rows, dim=1) * std)


def fit(state: MemoryState, config: ReactiveConfig, rows: int, slots: int | None = None) -> MemoryState:
    """The state for so many rows of a model; one of a single row serves all of them. Raises ValueError for a state of
    another model, or with another number of slots where that is given; where it isn't, a state may lack windows."""
    if isinstance(state, Tensor):
        raise ValueError("a memory state is a MemoryState, not a tensor: give MemoryState(slots)")
    layers, have, own_slots, width = state.shape
    bare = slots is None and layers == config.state_layers - config.copy_window
    expected = (layers if bare else config.state_layers, rows, slots or own_slots, config.hidden_size)
    if have not in (1, rows) or (layers, own_slots, width) != (expected[0], *expected[2:]):
        raise ValueError(
            f"a memory state of shape {list(state.shape)} doesn't fit this model and {rows} rows: it must be "
            f"{list(expected)} (layers, rows, slots, width); was it saved by another model?"
        )
    return state.expand(rows)
