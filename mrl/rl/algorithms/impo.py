"""Implicit memory policy optimisation, as Reactive AI describes it for memory reinforcement learning: every turn is a
bandit of its own (no turn knows of a later one, the critic learns the reward itself), and moving the memory has a
price."""

from torch import Tensor

from mrl.rl.algorithms.ppo import clipped
from mrl.rl.algorithms.registry import Algorithm, PPOConfig, register


def bandit(
    rewards: Tensor, values: Tensor, turns: Tensor, rewarded: Tensor, config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Reward minus value, and the reward as return, [B, K]."""
    present = turns.to(rewards.dtype)
    return (rewards - values) * present, rewards * present


register("impo", Algorithm(advantages=bandit, policy_loss=clipped))
