"""Playing recorded dialogues again with the gradient on: from an answer back to the write that stored what it needed.

States are computed anew from the recorded interactions, so their gradient flows through `bptt_steps` memory writes
(None: all of them). Then all answers of all turns are scored by one teacher-forced pass.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mrl.losses.bptt import unroll
from mrl.model import Sampling
from mrl.model.padding import join_rows
from mrl.model.sampling import adjust
from mrl.rl.rollout import starting_state
from mrl.rl.trajectory import Trajectory


@dataclass
class Replayed:
    """log_probs, entropy [n] of the scored tokens, which are those of `scored` [B, K, A] in row-major order; states
    [K + 1, L, groups, S, D] before and after each write; aux_loss of a mixture of experts, or None."""

    log_probs: Tensor
    entropy: Tensor
    scored: Tensor
    states: Tensor
    aux_loss: Tensor | None


def memory_of(model, trajectory: Trajectory, bptt_steps: int | None = None, save_memory: bool = False) -> Tensor:
    """States [K + 1, L, groups, S, D] of a trajectory's leaders, written anew by the model as it is now."""
    lead = slice(None, None, trajectory.group)
    initial = None
    if bool(trajectory.carried.any()):
        initial = trajectory.initial[:, :: trajectory.group]
    state = starting_state(model, trajectory.batch.seeds[lead], trajectory.carried[lead], initial)
    writes, mask = trajectory.writes[lead], trajectory.writes_mask[lead]
    if save_memory and torch.is_grad_enabled():
        return _unroll_saving(model, state, writes, mask, bptt_steps)
    return unroll(model, state, writes, mask, bptt_steps)


def _unroll_saving(model, state: Tensor, writes: Tensor, mask: Tensor, bptt_steps: int | None) -> Tensor:
    """As `unroll`, but one write's activations are kept at a time; the others are computed again when needed."""
    states = [model.fit_state(state, writes.shape[0])]
    for turn in range(writes.shape[1]):
        before = states[-1].detach() if bptt_steps and turn and turn % bptt_steps == 0 else states[-1]
        states.append(checkpoint(model.write, before, writes[:, turn], mask[:, turn], use_reentrant=False))
    return torch.stack(states)


def replay(
    model,
    trajectory: Trajectory,
    sampling: Sampling,
    *,
    wanted: Tensor | None = None,
    bptt_steps: int | None = None,
    save_memory: bool = False,
) -> Replayed:
    """Log-probs under the distribution sampled from; wanted [B, K]: turns to score (default: all)."""
    states = memory_of(model, trajectory, bptt_steps, save_memory)
    turns = trajectory.turns if wanted is None else trajectory.turns & wanted
    scored = trajectory.sampled & turns[..., None]
    turns = scored.any(-1)
    row, turn = turns.nonzero(as_tuple=True)
    if not len(row):
        nothing = states.sum() * 0.0
        return Replayed(nothing.expand(0), nothing.expand(0), scored, states, None)
    memory = states[turn + 1, :, row // trajectory.group].transpose(0, 1)
    batch = trajectory.batch
    query = batch.query_mask[turns]
    width = int(query.sum(-1).max())
    ids, mask, columns = join_rows(
        batch.query_ids[turns][:, :width], query[:, :width], trajectory.answer_ids[turns], trajectory.answer_mask[turns]
    )
    # Column c of the joined rows is the answer's token c - width; it is predicted one place earlier.
    chosen = torch.cat([torch.zeros_like(query[:, :width]), scored[turns]], dim=1)
    chosen = chosen.gather(1, columns) & mask.bool()
    out = model.decode(ids, mask, memory, logits_at=F.pad(chosen[:, 1:], (0, 1)))
    every = adjust(out.logits, sampling).log_softmax(-1)
    picked = every.gather(1, ids[chosen][:, None]).squeeze(1)
    entropy = -(every.exp() * every.clamp(min=-1e4)).sum(-1)
    return Replayed(picked, entropy, scored, states, out.aux_loss)


def log_probs_again(model, trajectory: Trajectory, sampling: Sampling, at_once: int) -> Tensor:
    """Log-probs [B, K, A] of all sampled tokens under the model as it is, without gradients, `at_once` groups at a
    time: for a reference policy, and where sampling and replay compute in different precisions."""
    found = []
    with torch.no_grad():
        for at in range(0, len(trajectory), at_once):
            part = trajectory.rows(slice(at, at + at_once))
            again = replay(model, part, sampling)
            blank = torch.zeros(part.sampled.shape, device=again.log_probs.device)
            found.append(blank.masked_scatter(again.scored, again.log_probs.float()))
    return torch.cat(found)


def reference_loss(model, trajectory: Trajectory, states: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy, summed, of the reference answers of the `wanted` turns [B, K] (leaders count once), read from the
    same states as the answers; and its number of tokens."""
    turns = (trajectory.turns & wanted).clone()
    if trajectory.group > 1:
        turns[torch.arange(turns.shape[0], device=turns.device) % trajectory.group != 0] = False
    row, turn = turns.nonzero(as_tuple=True)
    if not len(row):
        return states.sum() * 0.0, 0
    batch = trajectory.batch
    ids, mask, columns = join_rows(
        batch.query_ids[turns], batch.query_mask[turns], batch.reference_ids[turns], batch.reference_mask[turns]
    )
    said = columns > batch.query_ids.shape[-1]  # the forced first token of the reference isn't learnt
    labels = ids.masked_fill(~(said & mask.bool()), -100)
    memory = states[turn + 1, :, row // trajectory.group].transpose(0, 1)
    out = model.decode(ids, mask, memory, labels=labels)
    return F.cross_entropy(out.logits.float(), out.targets, reduction="sum"), out.targets.numel()


def said_references(trajectory: Trajectory) -> Tensor:
    """Turns [B, K] whose answer is its reference token by token, all of it sampled but the forced first one: scoring
    such an answer scores the reference too."""
    batch = trajectory.batch
    width = max(trajectory.answer_ids.shape[-1], batch.reference_ids.shape[-1])

    def padded(values: Tensor) -> Tensor:
        return F.pad(values, (0, width - values.shape[-1]))

    mask = padded(trajectory.answer_mask)
    equal = mask == padded(batch.reference_mask)
    equal &= (padded(trajectory.answer_ids) == padded(batch.reference_ids)) | ~mask
    chosen = mask.clone()
    chosen[..., 0] = False
    equal &= padded(trajectory.sampled) == chosen
    return equal.all(-1) & trajectory.turns


__all__ = ["Replayed", "log_probs_again", "memory_of", "reference_loss", "replay", "said_references"]
