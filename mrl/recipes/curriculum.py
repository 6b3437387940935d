"""Section `curriculum` of memory reinforcement learning: stages of growing length, strategies, resets, unfreezing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mrl.recipes.optimizer import MODEL_PARTS as PARTS
from mrl.recipes.strategy import Strategy
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, Share, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class ResetConfig:
    """Whether a dialogue starts from a fresh memory.

    always: each does. random: from `from_epoch` on only with `probability`; the others continue from `carry`: own (a
    state that a dialogue of the same strategy and length left), pool (one that any dialogue left) or normal (random
    numbers of deviation `std`).
    """

    mode: Literal["always", "random"] = "always"
    from_epoch: NonNegativeInt = 0
    probability: Share = 0.6
    carry: Literal["own", "pool", "normal"] = "own"
    pool_size: PositiveInt = 256
    """States kept for each kind of dialogue."""
    std: NonNegativeFloat = 1.0


@dataclass(frozen=True, kw_only=True)
class Unfreeze:
    """Parts of the model that learn from an epoch on, or once the evaluation reward has reached a value; whichever of
    the two comes first where both are given, from the start where neither is."""

    parts: list[str]
    epoch: NonNegativeInt | None = None
    reward: float | None = None

    def __post_init__(self) -> None:
        """Refuse parts that don't exist."""
        if not self.parts:
            raise ValueError(f"parts is empty; the model's parts are {', '.join(PARTS)}")
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"parts has {part!r}; the model's parts are {', '.join(PARTS)}")

    def reached(self, epoch: int, best_reward: float) -> bool:
        """Whether these parts learn by now."""
        if self.epoch is None and self.reward is None:
            return True
        by_epoch = self.epoch is not None and epoch >= self.epoch
        return by_epoch or (self.reward is not None and best_reward >= self.reward)


def _gradual() -> list[Unfreeze]:
    return [
        Unfreeze(parts=["memory_attention", "memory_cross_attention"]),
        Unfreeze(parts=["encoder"], epoch=1),
        Unfreeze(parts=["decoder", "embedding"], epoch=2),
    ]


@dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Stages of dialogues of growing length, counted in answered turns. linear: first, first + increment, ..., last.
    exponential: first times powers of factor, then last. custom: the list `turns`."""

    RENAMED: ClassVar[Mapping[str, str]] = {"steps": "turns", "replay": "replay_fraction"}

    kind: Literal["custom", "linear", "exponential"] = "custom"
    turns: list[PositiveInt] = field(default_factory=lambda: [1, 2, 3, 4, 6, 8, 12, 16])
    first: PositiveInt = 1
    last: PositiveInt = 16
    increment: PositiveInt = 1
    factor: float = 2.0
    epochs: PositiveInt = 4
    """A stage lasts at most this long; then the next begins whatever the evaluation says. The last one lasts to the end
    of the run, so that the learning rate comes down in it."""
    min_epochs: PositiveInt = 1
    """A stage lasts at least this long."""
    promote_at: float | None = 0.95
    """Evaluation figure at which a stage is done, and with the last one the run; null = by epochs only."""
    promote_by: Literal["recall", "reward"] = "recall"
    replay_fraction: ShareBelowOne = 0.2
    """Share of rounds whose dialogues are of an earlier stage, against forgetting."""
    strategies: list[Strategy] = field(default_factory=lambda: [Strategy()])
    """Mixed by their weights inside every stage."""
    resets: ResetConfig = field(default_factory=ResetConfig)
    unfreeze: list[Unfreeze] = field(default_factory=_gradual)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By turns of a stage: dotted keys of the whole configuration and their values in that stage; of this section
    `strategies` and `resets`."""

    def __post_init__(self) -> None:
        """Refuse stages that don't grow and overrides of stages that don't exist."""
        turns = turn_counts(self)
        if not turns or sorted(set(turns)) != turns:
            raise ValueError(f"the turns {turns} must grow from stage to stage")
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} must lie in 1..epochs ({self.epochs})")
        if self.promote_at is not None and self.promote_by == "recall" and not 0 <= self.promote_at <= 1:
            raise ValueError(f"promote_at is {self.promote_at}; recall lies in 0..1 (promote_by: reward knows others)")
        if not sum(strategy.weight for strategy in self.strategies) > 0:
            raise ValueError("strategies needs at least one with a positive weight")
        for name in self.overrides:
            if name not in map(str, turns):
                raise ValueError(f"overrides.{name} is no stage; their turns are {', '.join(map(str, turns))}")


def turn_counts(config: CurriculumConfig) -> list[int]:
    """Answered turns of a dialogue, stage by stage. Raises ValueError where the rule never ends."""
    if config.kind == "custom":
        return list(config.turns)
    grows = config.increment >= 1 if config.kind == "linear" else config.factor > 1
    if config.first < 1 or config.last < config.first or not grows:
        raise ValueError(
            f"{config.kind} stages from {config.first} to {config.last} need 1 <= first <= last and a growing rule"
        )
    steps, exact = [], float(config.first)
    while exact < config.last:
        if not steps or round(exact) > steps[-1]:
            steps.append(round(exact))
        exact = exact + config.increment if config.kind == "linear" else exact * config.factor
    return [*(s for s in steps if s < config.last), config.last]
