"""Section `rewards`: what an answer is worth."""

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

TERMS = (
    "facts", "bleu", "bleu_saved", "length", "repetition", "cosine", "cosine_saved", "running", "polite", "brief",
    "format", "thought", "abstention",
)  # fmt: skip
"""Their functions are in mrl/rl/rewards, whose module `combined` says what each means."""


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """Numbers that terms read.

    bleu_orders: weights of 1-grams, 2-grams, ...; length_slack: facts are worth the full in answers up to this many
    times as long as the reference; running_decay: how much of the running mean survives each new interaction;
    most_words: of a brief answer; pattern: of a whole answer.
    """

    bleu_orders: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    length_slack: float = 1.5
    running_decay: float = 0.2
    most_words: int = 8
    pattern: str = ""


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
    models: dict[str, str] = field(default_factory=dict)
    """Further terms: name to a reward model, the output_dir of mrl/reward_model.py or any sequence classifier of
    transformers; worth the chance that it gives the answer, 0..1."""
    watched: list[str] = field(default_factory=list)
    """Terms that are measured and logged beside the reward and teach nothing: what tells whether a scorer is fooled."""
    match_scales: bool = False
    """Count every term in deviations from its running mean, so that weights compare terms that spread differently. In
    evaluations terms stay as they are."""
    ramps: dict[str, tuple[float, float]] = field(default_factory=dict)
    """A term's weight is 0 until the first share of the run and whole from the second on: memory first, quality later
    is `{polite: [0.3, 0.6]}`."""
    scale: float = 1.0
    """Reward of a perfect answer."""
    bleu_orders: list[float] = field(default_factory=lambda: [0.2, 0.2, 0.3, 0.3])
    """Weights of 1-grams, 2-grams, ..."""
    length_slack: float = 1.5
    """Facts are worth the full in answers up to this many times as long as the reference."""
    running_decay: float = 0.2
    """How much of the running mean survives each new interaction."""
    most_words: int = 8
    """Of a brief answer."""
    pattern: str | None = None
    """Regular expression that `format` looks for in the whole answer."""

    def __post_init__(self) -> None:
        """Refuse names without a term and numbers out of range."""
        self._check_custom()
        self._check_quality()
        for name, weight in self.weights.items():
            self._check_name("weights", name)
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
            if not self.weights.get(name) and name not in self.watched:
                raise ValueError(f"custom.{name} has no weight and would do nothing; add weights.{name}")
            load_custom(name, path)

    def _check_name(self, key: str, name: str) -> None:
        if name not in TERMS and name not in self.custom and name not in self.models:
            there = ", ".join([*TERMS, *self.custom, *self.models])
            raise ValueError(f"{key}.{name} is no term of the reward; there are {there}")

    def _check_quality(self) -> None:
        """Refuse models, watched terms and ramps that would do nothing."""
        for name in self.models:
            if name in TERMS or name in self.custom:
                raise ValueError(f"models.{name}: a term of that name is there already; choose another name")
            if not self.weights.get(name) and name not in self.watched:
                raise ValueError(f"models.{name} has no weight and isn't watched; add weights.{name} or to watched")
        for name in self.watched:
            self._check_name("watched", name)
            if self.weights.get(name):
                raise ValueError(f"watched names {name}, which has a weight: a watched term teaches nothing")
        for name, (begin, end) in self.ramps.items():
            if not self.weights.get(name):
                raise ValueError(f"ramps.{name} has no weight to raise; add weights.{name}")
            if not 0 <= begin <= end <= 1:
                raise ValueError(f"ramps.{name} is [{begin}, {end}]; give two shares of the run, the lower one first")
        weighted = {name for name, weight in self.weights.items() if weight}
        if weighted and self.ramps.keys() >= weighted:
            raise ValueError("ramps holds every term that has a weight: nothing would be rewarded at first")
        if (self.pattern is None) == bool(self.weights.get("format") or "format" in self.watched):
            raise ValueError("pattern and the term format belong together; give both or neither")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern is no regular expression ({error})") from None
        if self.most_words < 1:
            raise ValueError(f"most_words is {self.most_words}; it must be at least 1")

    def at(self, progress: float) -> "RewardConfig":
        """With the weights of a share 0..1 of the run."""
        if not self.ramps:
            return self
        risen = {name: _risen(progress, *self.ramps.get(name, (0.0, 0.0))) for name in self.weights}
        weights = {name: weight * risen[name] for name, weight in self.weights.items()}
        waiting = [name for name, weight in self.weights.items() if weight and not weights[name]]
        return replace(self, weights=weights, ramps={}, watched=[*self.watched, *waiting])

    @property
    def settings(self) -> RewardSettings:
        """What the terms read of it."""
        return RewardSettings(
            bleu_orders=tuple(self.bleu_orders), length_slack=self.length_slack, running_decay=self.running_decay,
            most_words=self.most_words, pattern=self.pattern or "",
        )  # fmt: skip


def _risen(progress: float, begin: float, end: float) -> float:
    """What of a weight there is at a share of the run."""
    return 1.0 if progress >= end else max(0.0, (progress - begin) / (end - begin))


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
