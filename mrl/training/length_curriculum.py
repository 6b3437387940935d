"""The length curriculum of supervised memory training: first short dialogues, twice as long once they are recalled."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from mrl.dialogues.collation import Episodes, collate_episodes
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.dialogues.tokenization import EncodedDialogues
from mrl.recipes.supervised import LengthCurriculumConfig
from pipeline.errors import InputError

logger = logging.getLogger(__name__)


class LengthCurriculum:
    """Chooses each batch's dialogues; a part of the checkpoint.

    Lesson n (n steps) has the dialogues of more than n / 2 and up to n steps, and longer ones cut to n steps if
    something is asked in what is left. Which lesson a batch comes from depends on (seed, step) alone.
    """

    def __init__(self, data: EncodedDialogues, config: LengthCurriculumConfig, batch_size: int, seed: int) -> None:
        self.data, self.config, self.seed = data, config, seed
        self.steps = _doubling(config, int(data.turns.max()) - 1)
        self.members = [_members(data, self.steps, i) for i in range(len(self.steps))]
        self.left_out = len(data) - len(np.unique(np.concatenate(self.members)))
        """Dialogues that no lesson has: nothing is asked in them, or not in what is left of them."""
        if self.left_out == len(data):
            raise InputError(
                f"data.train: in none of the {len(data)} dialogues is anything asked of memory within {self.steps[-1]} "
                "turns after the first; give rows with `facts` or a `distance`, or raise curriculum.longest"
            )
        if self.left_out:
            logger.warning(
                "%d of %d dialogues are in no lesson: nothing is asked of memory in them", self.left_out, len(data)
            )
        kept = [i for i, members in enumerate(self.members) if len(members)]
        self.steps, self.members = [self.steps[i] for i in kept], [self.members[i] for i in kept]
        self.samplers = [
            BucketBatchSampler(
                data.longest(steps + 1)[members],
                max(1, min(batch_size, config.max_batch_turns // (steps + 1))),
                seed,
                salt=steps,
            )
            for steps, members in zip(self.steps, self.members, strict=True)
        ]
        self.at = self.spent = 0
        self.recall = 0.0

    @property
    def final(self) -> bool:
        """Whether the longest dialogues are being learnt."""
        return self.at == len(self.steps) - 1

    def batch(self, step: int) -> tuple[Episodes, bool]:
        """The global batch of a training step, and whether it is one of the present lesson."""
        rng = np.random.default_rng((self.seed, step))
        lesson = self.at
        if self.at and rng.random() < self.config.replay_fraction:
            lesson = int(rng.integers(self.at))
        chosen = self.members[lesson][self.samplers[lesson].next()]
        batch = collate_episodes(self.data, chosen, self.steps[lesson] + 1, int(rng.integers(2**62)))
        return batch, lesson == self.at

    @property
    def now(self) -> int:
        """Steps of the present lesson."""
        return self.steps[self.at]

    def observe(self, recalled: float, asked: float) -> bool:
        """Take in the recall on a batch of the present lesson; True when this opens the next one."""
        now = recalled / max(1.0, asked)
        keep = self.config.smoothing if self.spent else 0.0
        self.recall, self.spent = keep * self.recall + (1 - keep) * now, self.spent + 1
        over = self.config.max_steps is not None and self.spent >= self.config.max_steps
        if self.final or not (over or (self.spent >= self.config.min_steps and self.recall >= self.config.threshold)):
            return False
        self.at, self.spent, self.recall = self.at + 1, 0, 0.0
        return True

    def state_dict(self) -> dict[str, Any]:
        own = {"at": self.at, "spent": self.spent, "recall": self.recall, "steps": self.steps}
        return own | {"samplers": [sampler.state_dict() for sampler in self.samplers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["steps"] != self.steps:
            raise ValueError(f"the checkpoint's lessons had {state['steps']} steps, these have {self.steps}")
        self.at, self.spent, self.recall = state["at"], state["spent"], state["recall"]
        for sampler, saved in zip(self.samplers, state["samplers"], strict=True):
            sampler.load_state_dict(saved)


def _doubling(config: LengthCurriculumConfig, available: int) -> list[int]:
    """Steps of each lesson: doubled from `start`, the last one exactly the longest."""
    longest = max(1, min(available, config.longest or available))
    if config.start is None:
        return [longest]
    steps = list(_powers(config.start, longest))
    return [*steps, longest]


def _powers(start: int, below: int) -> Iterator[int]:
    while start < below:
        yield start
        start *= 2


def _members(data: EncodedDialogues, lessons: list[int], number: int) -> np.ndarray:
    """Dialogues of a lesson, by their number."""
    steps = lessons[number]
    shorter = lessons[number - 1] if number else -1
    asks = np.concatenate([[0], np.cumsum(data.asks)])
    ends = np.minimum(data.first[1:], data.first[:-1] + steps + 1)
    asked = asks[ends] - asks[data.first[:-1]] > 0
    return np.flatnonzero((data.turns - 1 > shorter) & asked)
