"""Playing recorded dialogues again with the gradient on: from an answer back to the write that stored what it needed.

States are computed anew from the recorded interactions, so their gradient flows through `bptt_steps` memory writes
(None: all of them). Then all answers of all turns are scored by one teacher-forced pass.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.losses.answer_log_probs import answer_log_probs
from mrl.losses.bptt import unroll
from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, Sampling
from mrl.rl.trajectory import Rollout


@dataclass(frozen=True, eq=False)
class Replayed:
    """log_probs, entropy [n] of the scored tokens, which are those of `scored` [B, K, A] in row-major order; history:
    the leaders' states before and after each write; aux_loss of a mixture of experts, or None."""

    log_probs: Tensor
    entropy: Tensor
    scored: Tensor
    history: MemoryHistory
    aux_loss: Tensor | None


def memory_of(
    model: MemoryModel, rollout: Rollout, bptt_steps: int | None = None, save_memory: bool = False
) -> MemoryHistory:
    """States of a rollout's leaders (one row a group), written anew by the model as it is now."""
    lead = rollout.leaders
    state = rollout.batch.start.select(lead).state(model)
    return unroll(model, state, rollout.writes[lead], rollout.writes_mask[lead], bptt_steps, save_memory)


def replay(
    model: MemoryModel,
    rollout: Rollout,
    sampling: Sampling,
    *,
    wanted: Tensor | None = None,
    bptt_steps: int | None = None,
    save_memory: bool = False,
) -> Replayed:
    """Log-probs under the distribution sampled from; wanted [B, K]: turns to score (default: all)."""
    history = memory_of(model, rollout, bptt_steps, save_memory)
    turns = rollout.turns if wanted is None else rollout.turns & wanted
    scored = rollout.sampled & turns[..., None]
    turns = scored.any(-1)
    row, turn = turns.nonzero(as_tuple=True)
    if not len(row):
        nothing = history.slots.sum() * 0.0
        return Replayed(nothing.expand(0), nothing.expand(0), scored, history, None)
    batch = rollout.batch
    scores = answer_log_probs(
        model,
        (batch.query_ids[turns], batch.query_mask[turns]),
        (rollout.answer_ids[turns], rollout.answer_mask[turns]),
        scored[turns],
        history.after(turn + 1, row // rollout.group),
        sampling,
        decided=True,
    )
    return Replayed(scores.log_probs, scores.entropy, scored, history, scores.aux_loss)


def log_probs_again(
    model: MemoryModel, rollout: Rollout, sampling: Sampling, at_once: int, wanted: Tensor | None = None
) -> Tensor:
    """Log-probs [B, K, A] of the sampled tokens of all turns, or the `wanted` [B, K], under the model as it is, 0
    elsewhere; without gradients, `at_once` groups at a time: for a reference policy, and where sampling and replay
    compute in different precisions."""
    pieces = []
    with torch.no_grad():
        for at in range(0, len(rollout), at_once):
            part = rollout.rows(slice(at, at + at_once))
            turns = None if wanted is None else wanted[at * rollout.group : (at + at_once) * rollout.group]
            again = replay(model, part, sampling, wanted=turns)
            blank = torch.zeros(part.sampled.shape, device=again.log_probs.device)
            pieces.append(blank.masked_scatter(again.scored, again.log_probs.float()))
    return torch.cat(pieces)


def reference_loss(model: MemoryModel, rollout: Rollout, history: MemoryHistory, wanted: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy, summed, of the reference answers of the `wanted` turns [B, K] (leaders count once), read from the
    same states as the answers; and its number of tokens."""
    turns = (rollout.turns & wanted).clone()
    if rollout.group > 1:
        turns[torch.arange(turns.shape[0], device=turns.device) % rollout.group != 0] = False
    row, turn = turns.nonzero(as_tuple=True)
    if not len(row):
        return history.slots.sum() * 0.0, 0
    batch = rollout.batch
    scored = batch.reference_mask[turns].clone()
    scored[:, 0] = False  # a forced first token isn't learnt, and whether to think is for the rewards to say
    scores = answer_log_probs(
        model,
        (batch.query_ids[turns], batch.query_mask[turns]),
        (batch.reference_ids[turns], batch.reference_mask[turns]),
        scored,
        history.after(turn + 1, row // rollout.group),
    )
    return -scores.log_probs.sum(), len(scores.targets)


def said_references(rollout: Rollout) -> Tensor:
    """Turns [B, K] whose answer is its reference token by token, all of it sampled but for the first one, which may be
    forced: scoring such an answer scores the reference too."""
    batch = rollout.batch
    width = max(rollout.answer_ids.shape[-1], batch.reference_ids.shape[-1])

    def padded(values: Tensor) -> Tensor:
        return F.pad(values, (0, width - values.shape[-1]))

    mask = padded(rollout.answer_mask)
    equal = mask == padded(batch.reference_mask)
    equal &= (padded(rollout.answer_ids) == padded(batch.reference_ids)) | ~mask
    equal &= (padded(rollout.sampled) == mask) | (torch.arange(width, device=mask.device) == 0)
    return equal.all(-1) & rollout.turns


__all__ = ["Replayed", "log_probs_again", "memory_of", "reference_loss", "replay", "said_references"]
