"""Group-relative policy optimisation (GRPO: Shao et al. 2024, arXiv:2402.03300): no critic; an answer is compared with
others from the same memory to the same question. `group_std: false` is Dr. GRPO's centring, `clip_range_high` DAPO's
clip-higher, `loss_scope` says whether tokens or answers count alike."""

from torch import Tensor

from mrl.rl.algorithms.advantages import group_advantages
from mrl.rl.algorithms.ppo import clipped
from mrl.rl.algorithms.registry import Algorithm, PPOConfig, register


def relative_to_group(
    rewards: Tensor, values: Tensor, turns: Tensor, rewarded: Tensor, config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Advantages inside each group and the rewards themselves as returns, [B, K]."""
    counted = turns & rewarded
    return group_advantages(rewards, counted, config.group_size, scale_by_std=config.group_std), rewards * turns


register("grpo", Algorithm(advantages=relative_to_group, policy_loss=clipped))
