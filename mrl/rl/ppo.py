"""Policy optimisation as mathematics: advantages over turns, losses over tokens, and a registry of algorithms.

Time has two scales. Tokens of one answer share the advantage of their turn; turns are chained by generalised advantage
estimation (Schulman et al. 2015, arXiv:1506.02438) inside each dialogue. The loss is the clipped ratio of PPO (Schulman
et al. 2017, arXiv:1707.06347) token by token. Every loss comes as a value per token or turn; multiplied by weights that
sum to 1 over the whole minibatch, parts of it (micro-batches, processes) simply add up.

Symbols: B dialogues, K turns, A tokens of an answer. Masks are bool; nothing outside a mask influences any result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(kw_only=True)
class PPOConfig:
    """How trajectories become updates."""

    algorithm: str = "ppo"
    """One of `ALGORITHMS`: ppo, a2c, impo, group."""
    gamma: float = 0.99
    """Discount from turn to turn."""
    gae_lambda: float = 0.95
    """1 = rewards to the end of the dialogue, 0 = one turn and the critic."""
    clip_range: float = 0.2
    """A token's ratio earns nothing outside 1 ± this."""
    value_clip: float | None = 0.2
    """The critic's new value counts only this far from its old one; null = no limit."""
    entropy_coef: float = 0.003
    """Reward for undecided token distributions, in nats per token."""
    kl_coef: float = 0.0
    """Price of a nat per token away from the policy that the run started from."""
    drift_coef: float = 0.0
    """IMPO's price of moving the memory: sqrt(turn) * mean squared change; any algorithm may use it."""
    target_kl: float | None = 0.05
    """An update's remaining passes are left out when the policy has moved this many nats per token; null = never."""
    update_epochs: int = 2
    """Passes over each batch of trajectories."""
    minibatch_episodes: int = 64
    """Dialogues per optimiser step, over all processes."""
    used_share: float = 1.0
    """Share of a round's dialogues that updates are made from: those with the largest advantages (mean size over the
    turns that count). To play a dialogue costs a fraction of learning from it, and most are known already
    (down-sampling: Xu et al. 2025, arXiv:2504.13818)."""
    normalize_advantages: bool = True
    """Give advantages mean 0 and deviation 1 over all dialogues of all processes."""
    loss_scope: Literal["token", "answer"] = "token"
    """Whether every token counts alike or every answer."""
    group_size: int = 1
    """Answers sampled from the same memory at every turn; algorithm group needs at least 2."""

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm is {self.algorithm!r}; choose one of {', '.join(ALGORITHMS)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if not 0 < self.used_share <= 1:
            raise ValueError(f"used_share is {self.used_share}; a share lies above 0 and is at most 1")
        for name in ("clip_range", "update_epochs", "minibatch_episodes", "group_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.algorithm == "group" and self.group_size < 2:
            raise ValueError("algorithm group compares answers to the same question: set group_size to 2 or more")
        if self.minibatch_episodes % self.group_size:
            raise ValueError(
                f"minibatch_episodes {self.minibatch_episodes} must be a multiple of group_size {self.group_size}"
            )


@dataclass(frozen=True)
class Algorithm:
    """advantages(rewards, values, turns, rewarded, config) -> (advantages, returns), all [B, K];
    policy_loss(log_probs, old_log_probs, advantages, clip_range) -> per token; critic: whether it needs values;
    looks_ahead: whether a turn earns from the rewards of later ones; drift: its default price of moving the memory."""

    advantages: Callable[[Tensor, Tensor, Tensor, Tensor, PPOConfig], tuple[Tensor, Tensor]]
    policy_loss: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    critic: bool = True
    looks_ahead: bool = True
    drift: float = 0.0


ALGORITHMS: dict[str, Algorithm] = {}


def register(name: str, algorithm: Algorithm) -> None:
    """Make an algorithm available to configurations. Raises ValueError for a name that is taken."""
    if name in ALGORITHMS:
        raise ValueError(f"there is an algorithm {name} already")
    ALGORITHMS[name] = algorithm


def credited(turns: Tensor, rewarded: Tensor, config: PPOConfig) -> Tensor:
    """Turns [B, K] whose answers some reward can speak for: those that are rewarded themselves and, where the algorithm
    looks ahead, those before them. Of any other turn nothing was found out; taken for a reward of 0 it would teach the
    policy to give up right answers, and the critic to expect less of all."""
    counted = turns & rewarded
    if ALGORITHMS[config.algorithm].looks_ahead and config.gamma > 0:
        counted = counted.flip(1).cummax(1).values.flip(1)
    return counted & turns


def gae(rewards: Tensor, values: Tensor, turns: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns [B, K] from rewards and values [B, K]; a dialogue ends with its last True in `turns`.

    delta_k = r_k + gamma V_{k+1} - V_k;  A_k = delta_k + gamma lam A_{k+1};  R_k = A_k + V_k; nothing follows the end.
    """
    _same_shape(rewards, values, turns)
    present = turns.to(values.dtype)
    rewards, values = rewards * present, values * present
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(following)
    for k in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, k] + gamma * next_value - values[:, k]
        following = (delta + gamma * lam * following) * present[:, k]
        next_value = values[:, k]
        advantages[:, k] = following
    return advantages, advantages + values


def _over_turns(rewards, values, turns, rewarded, config):
    return gae(rewards, values, turns, config.gamma, config.gae_lambda)


def _per_turn(rewards, values, turns, rewarded, config):
    # A contextual bandit (as in IMPO): no turn knows of a later one. The critic learns the reward itself.
    present = turns.to(rewards.dtype)
    return (rewards - values) * present, rewards * present


def _in_groups(rewards, values, turns, rewarded, config):
    return group_advantages(rewards, turns & rewarded, config.group_size), rewards * turns


def group_advantages(rewards: Tensor, rewarded: Tensor, size: int) -> Tensor:
    """How much better an answer was than the other `size` - 1 from the same memory to the same question.

    rewards, rewarded [B, K]; rows of a group stand together. Standardised inside each group and turn; a group whose
    answers were all worth the same teaches nothing. Source: GRPO (Shao et al. 2024, arXiv:2402.03300).
    """
    _same_shape(rewards, rewarded)
    grouped = rewards.unflatten(0, (-1, size))
    centred = grouped - grouped.mean(1, keepdim=True)
    deviation = grouped.std(1, keepdim=True, correction=0)
    advantages = torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), torch.zeros_like(centred))
    return advantages.flatten(0, 1) * rewarded


def normalise(advantages: Tensor, turns: Tensor) -> Tensor:
    """Shift and scale to mean 0 and deviation 1 over all turns given; outside `turns` it stays 0.

    The deviation is that of the pooled turns. A single turn is only scaled (its sign is all there is to know).
    """
    _same_shape(advantages, turns)
    present = turns.to(torch.float64)
    picked = advantages.double() * present
    count, total, squares = present.sum(), picked.sum(), (picked**2).sum()
    mean = total / count.clamp(min=1) if count > 1 else torch.zeros_like(total)
    variance = squares / count.clamp(min=1) - mean**2
    scaled = (advantages - mean) / (variance.clamp(min=0).sqrt() + 1e-8)
    return (scaled * present).to(advantages.dtype)


def clipped_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic surrogate per token [B, K, A]; advantages [B, K] apply to all tokens of their turn."""
    ratio = (log_probs - old_log_probs).exp()
    gain = advantages.unsqueeze(-1)
    return -torch.minimum(ratio * gain, ratio.clamp(1 - clip_range, 1 + clip_range) * gain)


def plain_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """A2C's policy gradient per token; its gradient is that of `clipped_loss` where the ratio is 1."""
    return -log_probs * advantages.unsqueeze(-1)


def kl_estimate(log_probs: Tensor, other: Tensor) -> Tensor:
    """KL(policy || other) per sampled token, never negative: exp(d) - d - 1 with d = other - policy (Schulman's k3)."""
    difference = other - log_probs
    return difference.exp() - difference - 1


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error per turn [B, K]; with `clip`, the worse of the value and the value held near the old."""
    _same_shape(values, old_values, returns)
    error = (values - returns) ** 2
    if clip is not None:
        held = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (held - returns) ** 2)
    return 0.5 * error


def memory_drift(states: Tensor) -> Tensor:
    """How far each write moved the memory, [B, K], from states [K + 1, L, B, S, D]: sqrt(k + 1) * mean squared change.

    The root makes late writes dearer: a memory should settle. (IMPO's term with its coefficient where it belongs.)
    """
    moved = (states[1:] - states[:-1]).float().pow(2).mean((1, 3, 4))
    steps = torch.arange(1, moved.shape[0] + 1, dtype=moved.dtype, device=moved.device)
    return (moved * steps.sqrt()[:, None]).transpose(0, 1)


def explained_variance(values: Tensor, returns: Tensor, turns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over all turns: 1 is a perfect critic, 0 one that says the mean."""
    _same_shape(values, returns, turns)
    error, target = (returns - values)[turns].double(), returns[turns].double()
    spread = float(target.var(correction=0)) if len(target) else 0.0
    return 1 - float(error.var(correction=0)) / spread if spread > 1e-12 else 0.0


def _same_shape(first: Tensor, *others: Tensor) -> None:
    for other in others:
        if other.shape != first.shape:
            raise ValueError(f"shapes {tuple(first.shape)} and {tuple(other.shape)} differ; both should be [B, K]")


register("ppo", Algorithm(_over_turns, clipped_loss))
register("a2c", Algorithm(_over_turns, plain_loss))
register("impo", Algorithm(_per_turn, clipped_loss, looks_ahead=False, drift=1e-4))
register("group", Algorithm(_in_groups, clipped_loss, critic=False, looks_ahead=False))
