"""Which dialogues come next: stages of growing length, when to go on, what is mixed in, what is still frozen.

A small object with `draw() / observe() / state_dict()`. Its choices follow from its seed and a counter, so a run that
is taken up again makes the same ones.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mrl.recipes.curriculum import CurriculumConfig, ResetConfig, Unfreeze, turn_counts
from mrl.recipes.optimizer import MODEL_PARTS as PARTS
from mrl.recipes.strategy import Strategy


@dataclass(frozen=True)
class Draw:
    """One round: turns of its dialogues, the strategies of that stage and which of them each row has (index), whether
    each row starts from a fresh memory, what the stage says of resets, and whether it is a replayed one."""

    turns: int
    strategies: list[Strategy]
    strategy: list[int]
    reset: list[bool]
    resets: ResetConfig
    replayed: bool


class Curriculum:
    """Where a run stands in its stages."""

    def __init__(
        self, config: CurriculumConfig, seed: int, by_turns: Mapping[int, CurriculumConfig] | None = None
    ) -> None:
        """by_turns: strategies and resets of the stages that have their own."""
        self.config, self.seed, self.by_turns = config, seed, by_turns or {}
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
        stage = self.by_turns.get(turns, self.config)
        strategy = rng.choices(range(len(stage.strategies)), [s.weight for s in stage.strategies], k=rows)
        resets = stage.resets
        fresh = resets.mode == "always" or self.epoch < resets.from_epoch
        reset = [fresh or rng.random() < resets.probability for _ in range(rows)]
        return Draw(turns, stage.strategies, strategy, reset, resets, replayed)

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
