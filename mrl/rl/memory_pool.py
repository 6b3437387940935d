"""Memory states that dialogues left behind, for dialogues that go on from one instead of starting afresh."""

import random
from typing import Any

import torch
from torch import Tensor

from mrl.rl.curriculum import Draw, ResetConfig
from mrl.rl.trajectory import Strategy


class StatePool:
    """The newest `size` states by kind of dialogue (strategy and number of steps); a part of the checkpoint."""

    def __init__(self, config: ResetConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.states: dict[str, Tensor] = {}
        self.draws = 0

    @staticmethod
    def kind(strategy: Strategy, steps: int) -> str:
        """Name of a kind of dialogue."""
        return f"{strategy.kind} {steps}"

    def put(self, kinds: list[str], states: Tensor) -> None:
        """Keep states [L, B, S, D] that dialogues of the given kinds [B] left."""
        if self.config.mode == "always":
            return
        states = states.detach().to("cpu", torch.float32)
        for kind in sorted(set(kinds)):
            rows = [i for i, other in enumerate(kinds) if other == kind]
            kept = [self.states[kind]] if kind in self.states else []
            self.states[kind] = torch.cat([*kept, states[:, rows]], dim=1)[:, -self.config.pool_size :].clone()

    def start(self, draw: Draw, kinds: list[str], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
        """Which dialogues go on from a state, [B] bool, and their states [L, n, S, D]. A row for which nothing has
        been left yet starts afresh. shape: L, S, D."""
        luck = random.Random(f"states-{self.seed}-{self.draws}")
        self.draws += 1
        carried, found = [], []
        for reset, kind in zip(draw.reset, kinds, strict=False):
            source = None if reset else self._source(draw.carry, kind, luck, shape)
            carried.append(source is not None)
            found += [] if source is None else [source]
        return torch.tensor(carried), torch.stack(found, dim=1) if found else None

    def _source(self, carry: str, kind: str, luck: random.Random, shape: tuple[int, int, int]) -> Tensor | None:
        if carry == "normal":
            generator = torch.Generator().manual_seed(luck.getrandbits(62))
            return self.config.std * torch.randn(shape, generator=generator)
        if carry == "pool" and self.states:
            kind = luck.choice(sorted(self.states))
        if kind not in self.states:
            return None
        return self.states[kind][:, luck.randrange(self.states[kind].shape[1])]

    def state_dict(self) -> dict[str, Any]:
        return {"states": self.states, "draws": self.draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.states, self.draws = dict(state["states"]), state["draws"]
