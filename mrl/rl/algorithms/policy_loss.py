"""Losses of policy and critic per token or turn, as pure functions of tensors.

Every loss comes as a value per token or turn; multiplied by weights that sum to 1 over the whole minibatch, parts of it
(micro-batches, processes) simply add up.

Symbols: B dialogues, K turns, A tokens of an answer.
"""

import torch
from torch import Tensor

from mrl.rl.algorithms.advantages import require_same_shape

LOG_RATIO_LIMIT = 10.0
"""Log-ratios are held within ± this before they are exponentiated: a token that has moved e^10 times says no more than
that, and one overflow would end the run."""


def log_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """How much likelier each token has become, as a logarithm within ± LOG_RATIO_LIMIT."""
    return (log_probs - old_log_probs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def clipped_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float, clip_range_high: float
) -> Tensor:
    """PPO's pessimistic surrogate per token (Schulman et al. 2017, arXiv:1707.06347). All arguments of one shape.

    A ratio earns nothing below 1 - clip_range or above 1 + clip_range_high; a higher upper limit lets unlikely right
    answers grow (clip-higher, DAPO: Yu et al. 2025, arXiv:2503.14476).
    """
    require_same_shape(log_probs, old_log_probs, advantages)
    ratio = log_ratio(log_probs, old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def plain_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """A2C's policy gradient per token; its gradient is that of `clipped_loss` where the ratio is 1."""
    require_same_shape(log_probs, advantages)
    return -log_probs * advantages


def clip_fraction(log_probs: Tensor, old_log_probs: Tensor, clip_range: float, clip_range_high: float) -> Tensor:
    """1 for each token whose ratio lies outside the clip range, else 0."""
    ratio = log_ratio(log_probs, old_log_probs).exp()
    return ((ratio < 1 - clip_range) | (ratio > 1 + clip_range_high)).float()


def kl_estimate(log_probs: Tensor, other: Tensor) -> Tensor:
    """KL(p || other) per token, never negative, for tokens drawn from p: exp(d) - d - 1 with d = other - p, held within
    ± LOG_RATIO_LIMIT (the estimator k3 of Schulman 2020, "Approximating KL divergence")."""
    difference = log_ratio(other, log_probs)
    return difference.exp() - difference - 1


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error per turn [B, K]; with `clip`, the worse of the value and the value held near the old."""
    require_same_shape(values, old_values, returns)
    error = (values - returns) ** 2
    if clip is not None:
        held = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (held - returns) ** 2)
    return 0.5 * error


def memory_drift(states: Tensor) -> Tensor:
    """How far each write moved the memory, [B, K], from its slots before and after each, [K + 1, L, B, S, D]:
    sqrt(k + 1) * mean squared change.

    The root makes late writes dearer: a memory should settle. (IMPO's term with its coefficient where it belongs.)
    """
    moved = (states[1:] - states[:-1]).float().pow(2).mean((1, 3, 4))
    steps = torch.arange(1, moved.shape[0] + 1, dtype=moved.dtype, device=moved.device)
    return (moved * steps.sqrt()[:, None]).transpose(0, 1)
