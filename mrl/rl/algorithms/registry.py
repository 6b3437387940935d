"""What an algorithm is, and the registry that knows them by name. Their section `ppo`: mrl/recipes/ppo.py."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mrl.recipes.ppo import TRAITS, PPOConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What tells one algorithm from another."""

    advantages: Callable[[Tensor, Tensor, Tensor, Tensor, PPOConfig], tuple[Tensor, Tensor]]
    """(rewards, values, turns, rewarded, config) -> (advantages, returns), all [B, K]."""
    policy_loss: Callable[[Tensor, Tensor, Tensor, PPOConfig], Tensor]
    """(log_probs, old_log_probs, advantages, config) -> loss, all [n], one a token."""


ALGORITHMS: dict[str, Algorithm] = {}
"""By name; filled by the modules of this package, each of which registers its own."""


def register(name: str, algorithm: Algorithm) -> None:
    """Make an algorithm available to the loop. Raises ValueError for a name that is taken or that
    recipes don't know."""
    if name not in TRAITS:
        raise ValueError(f"recipes don't know {name}; add it to TRAITS in mrl/recipes/ppo.py")
    if name in ALGORITHMS:
        raise ValueError(f"there is an algorithm {name} already")
    ALGORITHMS[name] = algorithm
