"""Memory states that dialogues left behind, for dialogues that go on from one instead of starting afresh."""

import random
from typing import Any

import torch
from torch import Tensor

from mrl.model import MemoryState
from mrl.rl.curriculum import Draw, ResetConfig
from mrl.rl.trajectory import EpisodeBatch


class MemoryPool:
    """The newest states by kind of dialogue (strategy and number of turns); a part of the checkpoint."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: dict[str, MemoryState] = {}
        self.draws = 0

    def put(self, batch: EpisodeBatch, states: MemoryState, size: int) -> None:
        """Keep the states that the dialogues of a batch left, of each kind at most `size`."""
        kinds = kinds_of(batch)
        states = states.detach().to("cpu", torch.float32)
        for kind in sorted(set(kinds)):
            rows = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
            kept = [self.states[kind]] if kind in self.states else []
            newest = MemoryState.cat([*kept, states.rows(rows)]).rows(slice(-size, None))
            self.states[kind] = MemoryState(newest.slots.clone())

    def start(self, draw: Draw, batch: EpisodeBatch, shape: tuple[int, int, int]) -> tuple[Tensor, MemoryState | None]:
        """Which dialogues of a batch go on from a state, [B] bool, and the states of these. A row for which nothing has
        been left yet starts afresh. shape: L, S, D."""
        rng = random.Random(f"states-{self.seed}-{self.draws}")
        self.draws += 1
        carried, sources = [], []
        for reset, kind in zip(draw.reset, kinds_of(batch), strict=False):
            source = None if reset else self._source(draw.resets, kind, rng, shape)
            carried.append(source is not None)
            sources += [] if source is None else [source]
        return torch.tensor(carried), MemoryState.cat(sources) if sources else None

    def _source(
        self, resets: ResetConfig, kind: str, rng: random.Random, shape: tuple[int, int, int]
    ) -> MemoryState | None:
        if resets.carry == "normal":
            generator = torch.Generator().manual_seed(rng.getrandbits(62))
            return MemoryState(resets.std * torch.randn(shape, generator=generator)[:, None])
        if resets.carry == "pool" and self.states:
            kind = rng.choice(sorted(self.states))
        if kind not in self.states:
            return None
        row = rng.randrange(len(self.states[kind]))
        return self.states[kind].rows(slice(row, row + 1))

    def state_dict(self) -> dict[str, Any]:
        return {"states": {kind: state.slots for kind, state in self.states.items()}, "draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states = {kind: MemoryState(slots) for kind, slots in state["states"].items()}
        self.draws = state["draws"]


def kinds_of(batch: EpisodeBatch) -> list[str]:
    """The kind of each dialogue of a batch [B]."""
    return [f"{batch.strategies[i].kind} {batch.steps}" for i in batch.strategy.tolist()]
