"""The critic that sees what the actor sees before the first word of an answer.

The actor has read the question against its memory and is about to choose a word. How it spreads its probability says
how sure it is, and of the returns of a weak model that alone explains 31 per cent on rounds it hasn't seen: one that
reads the texts and the memory with an encoder of its own explains at most 12 after having been fitted to as many rounds
(mrl/RESULTS.md). It costs next to nothing: no encoder; the rollout keeps what it saw on its way, and an update reads
that.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, MemoryState, Sampling
from mrl.model.sampling import adjust
from mrl.rl.trajectory import Rollout, TrainingBatch

SURENESS = 4
"""Figures of a distribution: largest log-prob, entropy, sum of squares, second largest probability."""
HIDDEN_SCALE = 0.1
"""What the actor's state is multiplied by beside them: it says little more, and is soon learnt by heart."""
WIDTH = 64
WARMUP_BATCH = 128
WARMUP_RATE = 1e-3


class OpeningCritic(nn.Module):
    """From openings [n, D + SURENESS] to values [n]; at first all are worth the same."""

    shift: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        """width: D of the actor."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(width + SURENESS))
        self.register_buffer("scale", torch.ones(width + SURENESS))
        with torch.random.fork_rng(devices=[]):  # what is drawn here shouldn't change what is drawn afterwards
            torch.manual_seed(0)
            self.dense, self.out = nn.Linear(width + SURENESS, WIDTH), nn.Linear(WIDTH, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, opening: Tensor) -> Tensor:
        with torch.autocast(opening.device.type, enabled=False):  # so small that bf16 would save nothing
            return self.out(nn.functional.silu(self.dense((opening - self.shift) * self.scale))).squeeze(-1)

    def turn_values(self, rollout: Rollout, history: MemoryHistory | None, turns: Tensor) -> Tensor:
        """Values [B, K] of the given turns [B, K], 0 elsewhere. Raises ValueError for a rollout without openings."""
        if rollout.opening is None:
            raise ValueError("a critic that reads openings needs a rollout that has them: with_openings")
        values = self(rollout.opening[turns])
        return torch.zeros(turns.shape, device=values.device).index_put(turns.nonzero(as_tuple=True), values)

    def reads(self, sampling: Sampling) -> Callable[[Tensor, Tensor], Tensor]:
        """What a rollout keeps for this critic of states [n, D] and logits [n, V] before an answer's first word."""
        return partial(opening_of, sampling=sampling)

    def opened[R: Rollout](
        self, model: MemoryModel, rollout: R, history: MemoryHistory, wanted: Tensor, sampling: Sampling, groups: int
    ) -> R:
        """The rollout with the openings of its `wanted` turns [B, K] alone: those that it has kept, or else read anew,
        `groups` groups at a time."""
        if rollout.opening is not None:
            return replace(rollout, opening=rollout.opening * wanted[..., None])
        return with_openings(model, rollout, history, wanted, sampling, groups)

    def calibrate(self, batch: TrainingBatch, warmup_epochs: int) -> Tensor:
        """Learn the first round; values [B, K] as they are then. Raises ValueError for a round without openings."""
        if batch.opening is None:
            raise ValueError("a critic that reads openings needs a round that has them")
        openings, returns = (x[batch.credited].to(self.shift.device) for x in (batch.opening, batch.returns))
        self.warm_up(openings, returns, warmup_epochs)
        with torch.no_grad():
            return batch.values.masked_scatter(batch.credited, self(openings).to(batch.values))

    def warm_up(self, openings: Tensor, returns: Tensor, epochs: int) -> None:
        """Learn the returns [n] of a first round, before the policy moves: what is usual, then `epochs` passes. The
        same in every process."""
        with torch.no_grad():
            self.out.bias.fill_(returns.mean())
            self.shift.copy_(openings.mean(0))
            self.scale.copy_(1 / (openings.std(0, correction=0) + 1e-5))
            self.scale[:-SURENESS] *= HIDDEN_SCALE
        optimizer = torch.optim.AdamW(self.parameters(), lr=WARMUP_RATE)
        order = torch.Generator().manual_seed(0)
        with torch.enable_grad():
            for _ in range(epochs):
                for chosen in torch.randperm(len(returns), generator=order).split(WARMUP_BATCH):
                    optimizer.zero_grad()
                    nn.functional.mse_loss(self(openings[chosen]), returns[chosen]).backward()
                    optimizer.step()


def opening_of(hidden: Tensor, logits: Tensor, *, sampling: Sampling) -> Tensor:
    """Openings [n, D + SURENESS] from the normed states [n, D] and logits [n, V] before the first word."""
    log_probs = adjust(logits.float(), sampling).log_softmax(-1)
    probs = log_probs.exp()
    sureness = [log_probs.amax(-1), -(probs * log_probs.clamp(min=-1e4)).sum(-1), probs.square().sum(-1)]
    sureness.append(probs.topk(2).values[:, 1])
    return torch.cat([hidden.float(), torch.stack(sureness, 1)], 1)


@torch.no_grad()
def with_openings[R: Rollout](
    model: MemoryModel, rollout: R, history: MemoryHistory, wanted: Tensor, sampling: Sampling, groups: int
) -> R:
    """The rollout with the openings of its `wanted` turns [B, K], 0 elsewhere, read `groups` groups at a time. history:
    of the leaders, one row a group."""
    pieces = []
    for at in range(0, len(rollout), groups):
        part, states = rollout.rows(slice(at, at + groups)), history.rows(slice(at, at + groups))
        turns = wanted[at * rollout.group : (at + groups) * rollout.group]
        blank = torch.zeros(*turns.shape, model.config.hidden_size + SURENESS, device=turns.device)
        row, turn = turns.nonzero(as_tuple=True)
        if len(row):
            memory = states.after(turn + 1, row // rollout.group)
            query = part.batch.query_ids[turns], part.batch.query_mask[turns].bool()
            # A forced first token, [A] or [T], was no choice: the first one is what comes after it.
            forced = part.answer_mask[turns][:, 0] & ~part.sampled[turns][:, 0]
            read = _read(model, *query, part.answer_ids[turns][:, 0], forced, memory, sampling)
            blank = blank.index_put((row, turn), read)
        pieces.append(blank)
    return replace(rollout, opening=torch.cat(pieces))


def _read(
    model: MemoryModel,
    ids: Tensor,
    mask: Tensor,
    first: Tensor,
    forced: Tensor,
    memory: MemoryState,
    sampling: Sampling,
) -> Tensor:
    """Openings [n, D + SURENESS] of queries [n, Q], padded on the right, after which `first` [n] was `forced`."""
    rows, length = torch.arange(len(ids), device=ids.device), mask.sum(1)
    ids, mask = nn.functional.pad(ids, (0, 1)), nn.functional.pad(mask, (0, 1))
    ids[rows, length] = torch.where(forced, first, ids[rows, length])
    mask[rows, length] = forced
    last = torch.zeros_like(mask)
    last[rows, mask.sum(1) - 1] = True
    out = model.decode(ids, mask, memory, logits_at=last)
    return opening_of(out.hidden[last], out.logits, sampling=sampling)
