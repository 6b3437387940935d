"""Memory states through a dialogue, and the one place where their gradient is cut."""

import torch
from torch import Tensor


def unroll(model, state: Tensor, ids: Tensor, mask: Tensor, bptt_steps: int | None) -> Tensor:
    """States before and after each of K writes [K + 1, L, B, S, D]. The gradient is cut after every `bptt_steps`
    writes, so it flows back through at most that many."""
    turns = ids.shape[1]
    if turns == 0:
        return state.expand(-1, ids.shape[0], -1, -1)[None]
    if bptt_steps is None or bptt_steps >= turns:
        return model.unroll(state, ids, mask)
    parts = []
    for at in range(0, turns, bptt_steps):
        states = model.unroll(state, ids[:, at : at + bptt_steps], mask[:, at : at + bptt_steps])
        parts.append(states if at == 0 else states[1:])
        state = states[-1].detach()
    return torch.cat(parts)
