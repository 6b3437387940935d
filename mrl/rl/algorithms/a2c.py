"""Advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783): PPO's advantages, a plain policy gradient. Give it
`update_epochs: 1`; after the first step its tokens are no longer the policy's own."""

from torch import Tensor

from mrl.rl.algorithms.policy_loss import plain_loss
from mrl.rl.algorithms.ppo import gae_over_turns
from mrl.rl.algorithms.registry import Algorithm, PPOConfig, register


def policy_gradient(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, config: PPOConfig) -> Tensor:
    """The plain loss per token."""
    return plain_loss(log_probs, advantages)


register("a2c", Algorithm(advantages=gae_over_turns, policy_loss=policy_gradient))
