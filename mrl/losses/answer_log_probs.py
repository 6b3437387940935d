"""Scoring answers teacher-forced, read from memory: the one primitive of supervised, policy and preference losses."""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryState, Sampling, join_rows
from mrl.model.sampling import adjust, only


class _Entropy(torch.autograd.Function):
    """Entropy [n] of log-probs [n, V], some of which may be -inf. Keeps nothing of the size of its argument but that
    itself, of which composed operators keep three more."""

    @staticmethod
    def forward(ctx, log_probs: Tensor) -> Tensor:
        ctx.save_for_backward(log_probs)
        return torch.linalg.vecdot(log_probs.exp(), log_probs.clamp(min=-1e4)).neg_()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (log_probs,) = ctx.saved_tensors
        slope = log_probs.clamp(min=-1e4).add_(1).mul_(log_probs.exp())
        return slope.mul_(-grad[:, None])


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What a model says of n scored tokens, in row-major order.

    distribution [n, V] fp32: log-probs of every token in each place; targets [n]: the tokens that stand there; aux_loss
    of a mixture of experts, or None.
    """

    distribution: Tensor
    targets: Tensor
    aux_loss: Tensor | None

    @cached_property
    def log_probs(self) -> Tensor:
        """[n] of the targets, differentiable."""
        return self.distribution.gather(1, self.targets[:, None]).squeeze(1)

    @cached_property
    def entropy(self) -> Tensor:
        """[n] of the distribution, in nats, differentiable."""
        return _Entropy.apply(self.distribution)

    @cached_property
    def right(self) -> Tensor:
        """[n] bool: the likeliest token is the target."""
        return self.distribution.argmax(-1) == self.targets


def token_log_probs(
    model: MemoryModel,
    ids: Tensor,
    mask: Tensor,
    scored: Tensor,
    memory: MemoryState | None,
    sampling: Sampling | None = None,
    decisions: Tensor | None = None,
) -> TokenScores:
    """Score the tokens `scored` [N, T] bool of right-padded interactions ids, mask [N, T], each row read against its
    row of the memory. A first token can't be scored: nothing predicts it. sampling: the distribution that they were
    drawn from (default: the model's own); decisions [N, T] bool: tokens that were drawn from [A] and [T] alone."""
    wanted = scored[:, 1:] & mask[:, 1:].bool()
    out = model.decode(ids, mask, memory, logits_at=F.pad(wanted, (0, 1)))
    logits = out.logits
    if decisions is not None and (choice := model.config.frame.choice) is not None:
        between = only(logits, choice)
        logits = torch.where(decisions[:, 1:][wanted][:, None], between, logits)
    distribution = adjust(logits, sampling or Sampling()).log_softmax(-1)
    return TokenScores(distribution, ids[:, 1:][wanted], out.aux_loss)


def answer_log_probs(
    model: MemoryModel,
    query: tuple[Tensor, Tensor],
    answer: tuple[Tensor, Tensor],
    scored: Tensor,
    memory: MemoryState | None,
    sampling: Sampling | None = None,
    *,
    decided: bool = False,
) -> TokenScores:
    """Score answers after their queries. query, answer: ids and mask [N, Q] and [N, A], padded on either side; scored
    [N, A] bool: which tokens of the answers; decided: a first token that is scored was drawn from [A] and [T] alone."""
    ids, mask, columns = join_rows(*query, *answer)

    def placed(tokens: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(query[0], dtype=torch.bool), tokens], dim=1).gather(1, columns)

    first = scored & (torch.arange(scored.shape[1], device=scored.device) == 0)
    decisions = placed(first) if decided and bool(first.any()) else None
    return token_log_probs(model, ids, mask, placed(scored), memory, sampling, decisions)
