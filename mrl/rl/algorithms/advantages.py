"""Advantages over the turns of dialogues, as pure functions of tensors.

Turns are chained by generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438) inside each dialogue, or
compared inside groups of answers to the same question (GRPO: Shao et al. 2024, arXiv:2402.03300).

Symbols: B dialogues, K turns. Masks are bool; nothing outside a mask influences any result.
"""

import torch
from torch import Tensor


def credited_turns(turns: Tensor, rewarded: Tensor, *, looks_ahead: bool) -> Tensor:
    """Turns [B, K] whose answers some reward can speak for: those that are rewarded themselves and, with `looks_ahead`,
    those before them. Of any other turn nothing was learnt; taken for a reward of 0 it would teach the policy to give
    up right answers, and the critic to expect less of all."""
    credited = turns & rewarded
    if looks_ahead:
        credited = credited.flip(1).cummax(1).values.flip(1)
    return credited & turns


def gae(rewards: Tensor, values: Tensor, turns: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns [B, K] from rewards and values [B, K]; a dialogue ends with its last True in `turns`.

    delta_k = r_k + gamma V_{k+1} - V_k;  A_k = delta_k + gamma lam A_{k+1};  R_k = A_k + V_k; nothing follows the end.
    """
    require_same_shape(rewards, values, turns)
    present = turns.to(values.dtype)
    rewards, values = rewards * present, values * present
    advantages = torch.zeros_like(rewards)
    next_advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(next_advantage)
    for k in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, k] + gamma * next_value - values[:, k]
        next_advantage = (delta + gamma * lam * next_advantage) * present[:, k]
        next_value = values[:, k]
        advantages[:, k] = next_advantage
    return advantages, advantages + values


def group_advantages(rewards: Tensor, rewarded: Tensor, size: int, *, scale_by_std: bool = True) -> Tensor:
    """How much better an answer was than the other `size` - 1 from the same memory to the same question.

    rewards, rewarded [B, K]; rows of a group stand together. Centred inside each group and turn; a group whose answers
    all earned the same teaches nothing. `scale_by_std` divides by the group's deviation (GRPO); without it hard and
    easy questions keep their weight (Dr. GRPO: Liu et al. 2025, arXiv:2503.20783).
    """
    require_same_shape(rewards, rewarded)
    grouped = rewards.unflatten(0, (-1, size))
    advantages = grouped - grouped.mean(1, keepdim=True)
    if scale_by_std:
        std = grouped.std(1, keepdim=True, correction=0)
        advantages = torch.where(std > 1e-6, advantages / std.clamp(min=1e-6), torch.zeros_like(advantages))
    return advantages.flatten(0, 1) * rewarded


def best_of_group(rewards: Tensor, rewarded: Tensor, size: int) -> Tensor:
    """Advantages [B, K] of the best of the `size` answers from the same memory to the same question: together they have
    `size` where the others earned less, so an answer has 1 on average; elsewhere 0.

    rewards, rewarded [B, K]; rows of a group stand together.
    """
    grouped = rewards.unflatten(0, (-1, size))
    best = (grouped >= grouped.amax(1, keepdim=True) - 1e-6).float()
    shares = best * size / best.sum(1, keepdim=True)
    return shares.flatten(0, 1) * group_spread(rewards, rewarded, size)


def group_spread(rewards: Tensor, rewarded: Tensor, size: int) -> Tensor:
    """Turns [B, K] at which the `size` answers of a group didn't all earn the same: where a comparison tells anything.
    rewards, rewarded [B, K]; rows of a group stand together."""
    require_same_shape(rewards, rewarded)
    spread = rewards.unflatten(0, (-1, size)).std(1, correction=0) > 1e-6
    return spread.repeat_interleave(size, 0) & rewarded


def normalize(advantages: Tensor, turns: Tensor) -> Tensor:
    """Shift and scale to mean 0 and deviation 1 over all turns given; outside `turns` it stays 0.

    The deviation is that of the pooled turns. A single turn is only scaled (its sign is all there is to know).
    """
    require_same_shape(advantages, turns)
    present = turns.to(torch.float64)
    picked = advantages.double() * present
    count, total, squares = present.sum(), picked.sum(), (picked**2).sum()
    mean = total / count.clamp(min=1) if count > 1 else torch.zeros_like(total)
    variance = squares / count.clamp(min=1) - mean**2
    scaled = (advantages - mean) / (variance.clamp(min=0).sqrt() + 1e-8)
    return (scaled * present).to(advantages.dtype)


def explained_variance(values: Tensor, returns: Tensor, turns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over all turns: 1 is a perfect critic, 0 one that says the mean."""
    require_same_shape(values, returns, turns)
    error, target = (returns - values)[turns].double(), returns[turns].double()
    spread = float(target.var(correction=0)) if len(target) else 0.0
    return 1 - float(error.var(correction=0)) / spread if spread > 1e-12 else 0.0


def require_same_shape(first: Tensor, *others: Tensor) -> None:
    """Raise ValueError where shapes differ: broadcasting [B] against [B, K] would be silently wrong."""
    for other in others:
        if other.shape != first.shape:
            raise ValueError(f"shapes {tuple(first.shape)} and {tuple(other.shape)} differ; both should be [B, K]")
