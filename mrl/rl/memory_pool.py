"""Memory states that dialogues left behind, for dialogues that go on from one instead of starting afresh."""

import random
from typing import Any

import torch
from torch import Tensor

from mrl.model import MemoryState
from mrl.rl.curriculum import Draw, ResetConfig
from mrl.rl.trajectory import Strategy


class StatePool:
    """The newest `size` states by kind of dialogue (strategy and number of steps); a part of the checkpoint."""

    def __init__(self, config: ResetConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.states: dict[str, MemoryState] = {}
        self.draws = 0

    @staticmethod
    def kind(strategy: Strategy, steps: int) -> str:
        """Name of a kind of dialogue."""
        return f"{strategy.kind} {steps}"

    def put(self, kinds: list[str], states: MemoryState) -> None:
        """Keep the states that dialogues of the given kinds [B] left."""
        if self.config.mode == "always":
            return
        states = states.detach().to("cpu", torch.float32)
        for kind in sorted(set(kinds)):
            rows = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
            kept = [self.states[kind]] if kind in self.states else []
            newest = MemoryState.cat([*kept, states.rows(rows)]).rows(slice(-self.config.pool_size, None))
            self.states[kind] = MemoryState(newest.slots.clone())

    def start(self, draw: Draw, kinds: list[str], shape: tuple[int, int, int]) -> tuple[Tensor, MemoryState | None]:
        """Which dialogues go on from a state, [B] bool, and the states of these. A row for which nothing has
        been left yet starts afresh. shape: L, S, D."""
        luck = random.Random(f"states-{self.seed}-{self.draws}")
        self.draws += 1
        carried, found = [], []
        for reset, kind in zip(draw.reset, kinds, strict=False):
            source = None if reset else self._source(draw.carry, kind, luck, shape)
            carried.append(source is not None)
            found += [] if source is None else [source]
        return torch.tensor(carried), MemoryState.cat(found) if found else None

    def _source(self, carry: str, kind: str, luck: random.Random, shape: tuple[int, int, int]) -> MemoryState | None:
        if carry == "normal":
            generator = torch.Generator().manual_seed(luck.getrandbits(62))
            return MemoryState(self.config.std * torch.randn(shape, generator=generator)[:, None])
        if carry == "pool" and self.states:
            kind = luck.choice(sorted(self.states))
        if kind not in self.states:
            return None
        row = luck.randrange(len(self.states[kind]))
        return self.states[kind].rows(slice(row, row + 1))

    def state_dict(self) -> dict[str, Any]:
        return {"states": {kind: state.slots for kind, state in self.states.items()}, "draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states = {kind: MemoryState(slots) for kind, slots in state["states"].items()}
        self.draws = state["draws"]
