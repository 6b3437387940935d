"""Section `rewards`: what an answer is worth."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TERMS = ("facts", "bleu", "bleu_saved", "length", "repetition", "cosine", "cosine_saved", "running")
"""Their functions are in mrl/rl/rewards, whose module `combined` says what each means."""


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Numbers that terms read.

    bleu_orders: weights of 1-grams, 2-grams, ...; length_slack: facts are worth the full in answers up to this many
    times as long as the reference; running_decay: how much of the running mean survives each new interaction.
    """

    bleu_orders: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    length_slack: float = 1.5
    running_decay: float = 0.2


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Weights of the terms (their sum is normalised away) and the scale of the whole."""

    weights: dict[str, float] = field(
        default_factory=lambda: {"facts": 0.6, "bleu": 0.2, "cosine": 0.05, "length": 0.05, "repetition": 0.1}
    )
    custom: dict[str, str] = field(default_factory=dict)
    """Further terms: name to the dotted path of a function (mrl/rl/rewards/custom.py)."""
    allow_custom_code: bool = False
    """Whether the functions of `custom` may be imported and called."""
    scale: float = 1.0
    """Reward of a perfect answer."""
    bleu_orders: list[float] = field(default_factory=lambda: [0.2, 0.2, 0.3, 0.3])
    """Weights of 1-grams, 2-grams, ..."""
    length_slack: float = 1.5
    """Facts are worth the full in answers up to this many times as long as the reference."""
    running_decay: float = 0.2
    """How much of the running mean survives each new interaction."""

    def __post_init__(self) -> None:
        """Refuse names without a term and numbers out of range."""
        self._check_custom()
        for name, weight in self.weights.items():
            if name not in TERMS and name not in self.custom:
                there = ", ".join([*TERMS, *self.custom])
                raise ValueError(f"weights.{name} is no term of the reward; there are {there}")
            if weight < 0:
                raise ValueError(f"weights.{name} is {weight}; a term can't be worth less than nothing")
        if not any(self.weights.values()):
            raise ValueError("weights are all 0: nothing would be rewarded")
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; it must be positive")
        if not self.bleu_orders or min(self.bleu_orders) < 0 or sum(self.bleu_orders) <= 0:
            raise ValueError("bleu_orders needs at least one positive weight, and none below 0")
        if self.length_slack < 1:
            raise ValueError(f"length_slack is {self.length_slack}; below 1 the reference itself would be too long")
        if not 0 <= self.running_decay <= 1:
            raise ValueError(f"running_decay is {self.running_decay}; a share lies in 0..1")

    def _check_custom(self) -> None:
        for name, path in self.custom.items():
            if name in TERMS:
                raise ValueError(f"custom.{name}: a term of that name is there already; choose another name")
            if not self.allow_custom_code:
                raise ValueError(
                    f"custom.{name} would import and call {path}; set rewards.allow_custom_code: true if you trust it"
                )
            if not self.weights.get(name):
                raise ValueError(f"custom.{name} has no weight and would do nothing; add weights.{name}")
            load_custom(name, path)

    @property
    def settings(self) -> RewardSettings:
        """What the terms read of it."""
        return RewardSettings(
            bleu_orders=tuple(self.bleu_orders), length_slack=self.length_slack, running_decay=self.running_decay
        )


def load_custom(name: str, path: str) -> Callable[[str, str, str], float | None]:
    """The function of a further term: module.function, searched where the script was started too. Raises ValueError
    where the path leads to none."""
    module, _, attribute = path.rpartition(".")
    if not module:
        raise ValueError(f"custom.{name} is {path!r}; give module.function")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever the module does when it is imported
        raise ValueError(f"custom.{name}: {module} can't be imported ({type(error).__name__}: {error})") from None
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise ValueError(f"custom.{name}: {module} has no function {attribute}")
    return function
