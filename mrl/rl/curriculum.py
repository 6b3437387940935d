"""Which dialogues come next: stages of growing length, when to go on, what is mixed in, what is still frozen.

A small object with `draw() / observe() / state_dict()`. Its choices follow from its seed and a counter, so a run that
is taken up again makes the same ones.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from mrl.rl.trajectory import Strategy
from mrl.training.optimizer import MODEL_PARTS as PARTS
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
    """By turns of a stage: dotted keys of the whole configuration and their values in that stage."""

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


@dataclass(frozen=True)
class Draw:
    """One round: turns of its dialogues, strategy of each row (index), whether each row starts from a fresh memory,
    where the others continue from, and whether the stage is a replayed one."""

    turns: int
    strategy: list[int]
    reset: list[bool]
    carry: str
    replayed: bool


class Curriculum:
    """Where a run stands in its stages."""

    def __init__(self, config: CurriculumConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.turns = turn_counts(config)
        self.stage = self.epoch = self.stage_epoch = self.drawn = 0
        self.best_reward = float("-inf")
        self.finished = False

    @property
    def present(self) -> int:
        """Turns of a dialogue in the present stage."""
        return self.turns[self.stage]

    def draw(self, rows: int) -> Draw:
        """What the next round of `rows` dialogues consists of."""
        rng = random.Random(f"curriculum-{self.seed}-{self.drawn}")
        self.drawn += 1
        replayed = self.stage > 0 and rng.random() < self.config.replay_fraction
        turns = self.turns[rng.randrange(self.stage)] if replayed else self.present
        weights = [strategy.weight for strategy in self.config.strategies]
        strategy = rng.choices(range(len(weights)), weights, k=rows)
        resets = self.config.resets
        fresh = resets.mode == "always" or self.epoch < resets.from_epoch
        reset = [fresh or rng.random() < resets.probability for _ in range(rows)]
        return Draw(turns, strategy, reset, resets.carry, replayed)

    def observe(self, *, reward: float, recall: float | None) -> bool:
        """Tell the result of an epoch's evaluation at the current length; True when a new stage begins.

        The last stage makes `finished` true when it passes. Without facts (recall None) the reward decides.
        """
        self.epoch += 1
        self.stage_epoch += 1
        self.best_reward = max(self.best_reward, reward)
        by_recall = self.config.promote_by == "recall" and recall is not None
        figure, bar = (recall if by_recall else reward), self.config.promote_at
        passed = bar is not None and figure >= bar and self.stage_epoch >= self.config.min_epochs
        if not passed and self.stage_epoch < self.config.epochs:
            return False
        if self.stage + 1 == len(self.turns):
            self.finished = passed
            return False
        self.stage += 1
        self.stage_epoch = 0
        return True

    def trainable(self) -> set[str]:
        """Parts of the model that learn now."""
        learning: set[str] = set()
        for rule in self.config.unfreeze:
            if rule.reached(self.epoch, self.best_reward):
                learning.update(rule.parts)
        return learning

    def metrics(self) -> dict[str, float]:
        """Position for the log."""
        return {"stage": self.stage, "turns": self.present, "epoch": self.epoch}

    def identity(self) -> dict[str, Any]:
        """What a saved position belongs to."""
        return {"seed": self.seed, "config": asdict(self.config)}

    def state_dict(self) -> dict[str, Any]:
        """Position, and the curriculum it is a position in."""
        position = ("stage", "epoch", "stage_epoch", "drawn", "best_reward", "finished")
        return {"identity": self.identity(), **{name: getattr(self, name) for name in position}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved position. Raises ValueError naming what differs when it is another curriculum's."""
        mine, theirs = self.identity(), state["identity"]
        if mine != theirs:
            flat_mine, flat_theirs = _flat(mine), _flat(theirs)
            names = sorted(n for n in flat_mine.keys() | flat_theirs.keys() if flat_mine.get(n) != flat_theirs.get(n))
            name = names[0] if names else "config"
            raise ValueError(
                f"the checkpoint belongs to another curriculum: {name} is {flat_theirs.get(name)!r} there and "
                f"{flat_mine.get(name)!r} here; use its configuration, another output_dir, or resume: never"
            )
        for name in ("stage", "epoch", "stage_epoch", "drawn", "best_reward", "finished"):
            setattr(self, name, state[name])


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {k: v for name, part in tree.items() for k, v in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip(".").removeprefix("config."): tree}


__all__ = [
    "PARTS",
    "Curriculum",
    "CurriculumConfig",
    "Draw",
    "ResetConfig",
    "Unfreeze",
    "turn_counts",
]
