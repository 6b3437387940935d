"""Reward-ranked fine-tuning (RAFT: Dong et al. 2023, arXiv:2304.06767): of the answers from the same memory to the same
question the best are learnt, as references would be, and of the others nothing. A question whose answers all earned the
same teaches nothing; every other one counts alike, however many of its answers are best."""

from torch import Tensor

from mrl.rl.algorithms.advantages import best_of_group
from mrl.rl.algorithms.ppo import clipped
from mrl.rl.algorithms.registry import Algorithm, PPOConfig, register


def best_alone(
    rewards: Tensor, values: Tensor, turns: Tensor, rewarded: Tensor, config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Advantages of the best answers of each group and the rewards themselves as returns, [B, K]."""
    return best_of_group(rewards, turns & rewarded, config.group_size), rewards * turns


register("raft", Algorithm(advantages=best_alone, policy_loss=clipped))
