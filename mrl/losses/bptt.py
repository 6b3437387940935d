"""Memory states through a dialogue, and the one place where their gradient is cut (truncated back-propagation through
time)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, MemoryState


def unroll(
    model: MemoryModel,
    state: MemoryState,
    ids: Tensor,
    mask: Tensor,
    bptt_steps: int | None = None,
    save_memory: bool = False,
) -> MemoryHistory:
    """States before and after each of the K writes of interactions [B, K, T]. The gradient is cut after every
    `bptt_steps` writes, so it flows back through at most that many (None: all).

    save_memory: only one write's activations are kept at a time; the others are computed again when needed.
    """
    saving = save_memory and torch.is_grad_enabled()

    def write(state: MemoryState, turn: int) -> MemoryState:
        return checkpoint(model.write, state, ids[:, turn], mask[:, turn], use_reentrant=False)

    def piece(state: MemoryState, turns: range) -> MemoryHistory:
        if saving:
            return one_by_one(write, state, turns)
        return model.unroll(state, ids[:, turns.start : turns.stop], mask[:, turns.start : turns.stop])

    return truncated(piece, state.expand(len(ids)), ids.shape[1], bptt_steps)


def truncated(
    piece: Callable[[MemoryState, range], MemoryHistory], state: MemoryState, writes: int, bptt_steps: int | None
) -> MemoryHistory:
    """A history of `writes` writes from pieces of at most `bptt_steps`; each piece begins with the state that the one
    before it left, without its gradient."""
    if not writes:
        return MemoryHistory.stack([state])
    size, pieces = bptt_steps or writes, []
    for at in range(0, writes, size):
        pieces.append(piece(state, range(at, min(writes, at + size))))
        state = pieces[-1][-1].detach()
    return MemoryHistory.join(pieces)


def one_by_one(write: Callable[[MemoryState, int], MemoryState], state: MemoryState, turns: range) -> MemoryHistory:
    """A history from single writes: `write(state, turn)` gives the state after that turn."""
    states = [state]
    for turn in turns:
        states.append(write(states[-1], turn))
    return MemoryHistory.stack(states)
