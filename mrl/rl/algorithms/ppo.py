"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) with generalised advantage estimation over the
turns of a dialogue. The tokens of an answer share the advantage of their turn."""

from torch import Tensor

from mrl.rl.algorithms.advantages import gae
from mrl.rl.algorithms.policy_loss import clipped_loss
from mrl.rl.algorithms.registry import Algorithm, PPOConfig, register


def gae_over_turns(
    rewards: Tensor, values: Tensor, turns: Tensor, rewarded: Tensor, config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Advantages and returns [B, K]."""
    return gae(rewards, values, turns, config.gamma, config.gae_lambda)


def clipped(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, config: PPOConfig) -> Tensor:
    """The clipped surrogate per token."""
    return clipped_loss(log_probs, old_log_probs, advantages, config.clip_range, config.clip_high)


register("ppo", Algorithm(advantages=gae_over_turns, policy_loss=clipped))
