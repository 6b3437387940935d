"""Which dialogues come next: stages of growing length, when to go on, what is mixed in, what is still frozen.

A small object with `draw() / observe() / state_dict()`. Its choices follow from its seed and a counter, so a run that
is taken up again makes the same ones.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mrl.rl.trajectory import Strategy
from mrl.training.optimizer import MODEL_PARTS as PARTS


@dataclass(kw_only=True)
class ResetConfig:
    """Whether a dialogue starts from a fresh memory.

    always: each does. random: from `from_epoch` on only with `probability`; the others continue from `carry`: own (a
    state that a dialogue of the same strategy and length left), pool (one that any dialogue left) or normal (random
    numbers of deviation `std`).
    """

    mode: Literal["always", "random"] = "always"
    from_epoch: int = 0
    probability: float = 0.6
    carry: Literal["own", "pool", "normal"] = "own"
    pool_size: int = 256
    """States kept for each kind of dialogue."""
    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it must lie in 0..1")
        if self.pool_size < 1:
            raise ValueError(f"pool_size is {self.pool_size}; without room for a state use mode: always")


@dataclass(kw_only=True)
class Unfreeze:
    """Parts of the model that learn from an epoch on, or once the evaluation reward has reached a value."""

    parts: list[str]
    epoch: int | None = 0
    reward: float | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"parts has {part!r}; the model's parts are {', '.join(PARTS)}")
        if self.epoch is None and self.reward is None:
            raise ValueError(f"{', '.join(self.parts)} would never learn: give an epoch or a reward")


def _gradual() -> list[Unfreeze]:
    return [
        Unfreeze(parts=["memory_attention", "memory_cross_attention"]),
        Unfreeze(parts=["encoder"], epoch=1),
        Unfreeze(parts=["decoder", "embedding"], epoch=2),
    ]


@dataclass(kw_only=True)
class CurriculumConfig:
    """Stages of growing length. linear: first, first + increment, ..., last. exponential: first times powers of
    factor, then last. custom: the list `steps`."""

    kind: Literal["custom", "linear", "exponential"] = "custom"
    steps: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 6, 8, 12, 16])
    first: int = 1
    last: int = 16
    increment: int = 2
    factor: float = 2.0
    epochs: int = 4
    """A stage lasts at most this long; then the next begins whatever the evaluation says. The last one lasts to the end
    of the run, so that the learning rate comes down in it."""
    min_epochs: int = 1
    """A stage lasts at least this long."""
    promote_at: float | None = 0.95
    """Evaluation figure at which a stage is done, and with the last one the run; null = by epochs only."""
    promote_by: Literal["recall", "reward"] = "recall"
    replay: float = 0.2
    """Share of batches taken from earlier stages, against forgetting."""
    strategies: list[Strategy] = field(default_factory=lambda: [Strategy()])
    """Mixed by their weights inside every stage."""
    resets: ResetConfig = field(default_factory=ResetConfig)
    unfreeze: list[Unfreeze] = field(default_factory=_gradual)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By step count: dotted keys of the whole configuration and their values in that stage."""

    def __post_init__(self) -> None:
        steps = step_counts(self)
        if not steps or min(steps) < 1 or sorted(set(steps)) != steps:
            raise ValueError(f"the step counts {steps} must be positive and grow from stage to stage")
        if not 0 <= self.replay < 1:
            raise ValueError(f"replay is {self.replay}; it must lie in 0..1, below 1")
        if not 1 <= self.min_epochs <= self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} must lie in 1..epochs ({self.epochs})")
        if not sum(strategy.weight for strategy in self.strategies) > 0:
            raise ValueError("strategies needs at least one with a positive weight")
        for name in self.overrides:
            if name not in map(str, steps):
                raise ValueError(f"overrides.{name} is no stage; the step counts are {', '.join(map(str, steps))}")


def step_counts(config: CurriculumConfig) -> list[int]:
    """Answered turns per dialogue, stage by stage. Raises ValueError where the rule never ends."""
    if config.kind == "custom":
        return list(config.steps)
    grows = config.increment >= 1 if config.kind == "linear" else config.factor > 1
    if config.first < 1 or config.last < config.first or not grows:
        raise ValueError(
            f"{config.kind} steps from {config.first} to {config.last} need 1 <= first <= last and a growing rule"
        )
    steps, exact = [], float(config.first)
    while exact < config.last:
        if not steps or round(exact) > steps[-1]:
            steps.append(round(exact))
        exact = exact + config.increment if config.kind == "linear" else exact * config.factor
    return [*(s for s in steps if s < config.last), config.last]


@dataclass(frozen=True)
class Draw:
    """One batch: step count, strategy of each row (index), whether each row starts from a fresh memory, where the
    others continue from, and the stage is a replayed one."""

    steps: int
    strategy: list[int]
    reset: list[bool]
    carry: str
    replayed: bool


class Curriculum:
    """Where a run stands in its stages."""

    def __init__(self, config: CurriculumConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.steps = step_counts(config)
        self.stage = self.epoch = self.stage_epoch = self.drawn = 0
        self.best_reward = float("-inf")
        self.finished = False

    def draw(self, rows: int) -> Draw:
        """What the next batch of `rows` dialogues consists of."""
        luck = random.Random(f"curriculum-{self.seed}-{self.drawn}")
        self.drawn += 1
        replayed = self.stage > 0 and luck.random() < self.config.replay
        steps = self.steps[luck.randrange(self.stage)] if replayed else self.steps[self.stage]
        weights = [strategy.weight for strategy in self.config.strategies]
        strategy = luck.choices(range(len(weights)), weights, k=rows)
        resets = self.config.resets
        fresh = resets.mode == "always" or self.epoch < resets.from_epoch
        reset = [fresh or luck.random() < resets.probability for _ in range(rows)]
        return Draw(steps, strategy, reset, resets.carry, replayed)

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
        if self.stage + 1 == len(self.steps):
            self.finished = passed
            return False
        self.stage += 1
        self.stage_epoch = 0
        return True

    def trainable(self) -> set[str]:
        """Parts of the model that learn now."""
        learning: set[str] = set()
        for rule in self.config.unfreeze:
            by_epoch = rule.epoch is not None and self.epoch >= rule.epoch
            by_reward = rule.reward is not None and self.best_reward >= rule.reward
            if by_epoch or by_reward:
                learning.update(rule.parts)
        return learning

    def overrides(self) -> dict[str, Any]:
        """Dotted keys that differ in the current stage."""
        return self.config.overrides.get(str(self.steps[self.stage]), {})

    def metrics(self) -> dict[str, float]:
        """Position for the log."""
        return {"stage": self.stage, "steps": self.steps[self.stage], "epoch": self.epoch}

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
    "step_counts",
]
