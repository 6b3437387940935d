"""Where dialogues start: from the memory of their seed, or from one that an earlier dialogue left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryState


@dataclass(frozen=True, eq=False)
class EpisodeStart:
    """seeds [B] of the dialogues: of their initial states where nothing is carried over, and of their sampling.

    carried [B] True where a dialogue goes on from an earlier memory; states: those memories, of these dialogues alone
    and in their order (they are large, and most dialogues have none), or None where there is none.
    """

    seeds: Tensor
    carried: Tensor
    states: MemoryState | None = None

    def __post_init__(self) -> None:
        have, needed = 0 if self.states is None else len(self.states), int(self.carried.sum())
        if self.seeds.ndim != 1 or self.carried.shape != self.seeds.shape or have != needed:
            raise ValueError(
                f"seeds {list(self.seeds.shape)} and carried {list(self.carried.shape)} must be two rows of the same "
                f"length, and as many states be there ({have}) as dialogues are carried ({needed})"
            )

    @staticmethod
    def fresh(seeds: Sequence[int] | Tensor) -> "EpisodeStart":
        """Dialogues with nothing in memory."""
        seeds = seeds if isinstance(seeds, Tensor) else torch.tensor(list(seeds), dtype=torch.long)
        return EpisodeStart(seeds, torch.zeros_like(seeds, dtype=torch.bool))

    def carrying(self, carried: Tensor, states: MemoryState | None) -> "EpisodeStart":
        """The same dialogues, of which those `carried` [B] go on from `states`."""
        return EpisodeStart(self.seeds, carried, states)

    def __len__(self) -> int:
        return len(self.seeds)

    def select(self, index: Tensor | slice) -> "EpisodeStart":
        """The given dialogues, in their order."""
        carried = self.carried[index]
        states = None
        if self.states is not None and bool(carried.any()):
            # Row b of the batch is state (number of carried dialogues before b).
            place = self.carried.long().cumsum(0) - 1
            states = self.states.rows(place[index][carried])
        return EpisodeStart(self.seeds[index], carried, states)

    def repeat(self, times: int) -> "EpisodeStart":
        """Every dialogue `times` times in a row."""
        states = None if self.states is None else self.states.repeat(times)
        return EpisodeStart(self.seeds.repeat_interleave(times), self.carried.repeat_interleave(times), states)

    @staticmethod
    def join(parts: Sequence["EpisodeStart"]) -> "EpisodeStart":
        """Dialogues of several starts one after another."""
        states = [part.states for part in parts if part.states is not None]
        return EpisodeStart(
            torch.cat([part.seeds for part in parts]),
            torch.cat([part.carried for part in parts]),
            MemoryState.cat(states) if states else None,
        )

    def to(self, device: torch.device | str) -> "EpisodeStart":
        states = None if self.states is None else self.states.to(device)
        return replace(self, seeds=self.seeds.to(device), carried=self.carried.to(device), states=states)

    def state(self, model: MemoryModel) -> MemoryState:
        """The memory of each dialogue before its first write, on the model's device."""
        start = model.initial_state(seeds=self.seeds.tolist(), device=model.device)
        if self.states is None:
            return start
        carried = self.carried.to(start.device)
        place = (carried.long().cumsum(0) - 1).clamp(min=0)
        return self.states.to(start.device, start.dtype).rows(place).where(carried, start)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain tensors, for a checkpoint."""
        states = None if self.states is None else self.states.slots
        return {"seeds": self.seeds, "carried": self.carried, "states": states}

    @staticmethod
    def from_state(state: dict[str, Any]) -> "EpisodeStart":
        """Back from `state_dict`."""
        states = None if state["states"] is None else MemoryState(state["states"])
        return EpisodeStart(state["seeds"], state["carried"], states)
