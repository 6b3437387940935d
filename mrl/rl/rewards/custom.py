"""Reward functions of one's own, named in a recipe by their dotted path.

    rewards:
      allow_custom_code: true
      custom: {polite: my_rewards.polite}        # my_rewards.py lies where the script is started
      weights: {facts: 0.8, polite: 0.2}

    def polite(query: str, answer: str, reference: str) -> float | None:
        return float("please" in answer)

It gives a value in 0..1 for an answer, None where it says nothing about it. A recipe that comes from elsewhere runs no
code unless its reader has allowed it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mrl.recipes.rewards import load_custom
from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.verifiers import texts

type TextReward = Callable[[str, str, str], float | None]
"""The value of an answer from query, answer and reference."""


class CustomRewardError(ValueError):
    """A function gave something that is no reward."""


def custom_term(name: str, path: str) -> Term:
    """The term of a function. Raises ValueError where the path leads to none."""
    function = load_custom(name, path)

    def term(turns: Comparison) -> Tensor:
        said = (texts(turns, words) for words in (turns.query, turns.answer, turns.reference))
        worth = [_checked(name, function(*each)) for each in zip(*said, strict=True)]
        return torch.tensor(worth, device=turns.answer.ids.device).view(turns.shape)

    return term


def _checked(name: str, value: float | None) -> float:
    if value is None:
        return math.nan
    if not 0 <= value <= 1:
        raise CustomRewardError(f"rewards.custom.{name} gave {value}; give 0..1, or None where it says nothing")
    return float(value)
