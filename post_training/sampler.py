"""In which order examples are trained: from easy to hard where a recipe says so, and the same after every stop.

An epoch's order follows from the seed and the epoch's number alone, so a run that goes on in the middle of its third
epoch reads on where it was, and every process of a run deals from the same order.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainingArguments

from post_training.recipes.dataset import RowCurriculumConfig


def curriculum_order(difficulty: np.ndarray, mix: float, rng: np.random.Generator) -> np.ndarray:
    """Every index once, from easy to hard. difficulty: [examples], larger is harder; equal ones come in any order.

    The share `mix` of the examples, whichever they are, is taken out of the row and put down anywhere in it, so that
    easy ones still come at the end and hard ones at the beginning.
    """
    shuffled = rng.permutation(len(difficulty))
    ordered = shuffled[np.argsort(difficulty[shuffled], kind="stable")]
    moved, places = np.zeros((2, len(ordered)), dtype=bool)
    for chosen in (moved, places):
        chosen[rng.choice(len(ordered), round(mix * len(ordered)), replace=False)] = True
    order = np.empty_like(ordered)
    order[places] = rng.permutation(ordered[moved])
    order[~places] = ordered[~moved]
    return order


class CurriculumSampler(Sampler[int]):
    """Indices of examples in the order of a curriculum, each once an epoch.

    difficulty: [examples], as the column says it. `set_epoch` chooses the epoch that comes next.
    """

    def __init__(self, difficulty: np.ndarray, config: RowCurriculumConfig, seed: int) -> None:
        self.difficulty = difficulty if config.hardest == "highest" else -difficulty
        self.config = config
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.difficulty)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        ordered = self.config.epochs is None or self.epoch < self.config.epochs
        order = curriculum_order(self.difficulty, self.config.mix, rng) if ordered else rng.permutation(len(self))
        yield from order.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Give the order of epoch `epoch`, counted from 0, from the next iteration on."""
        self.epoch = epoch


def order_seed(args: TrainingArguments) -> int:
    """What decides the order of examples, together with the epoch: `data_seed`, which is by default the seed."""
    return args.seed if args.data_seed is None else args.data_seed


def begin_epoch(loader: Any, epoch: int, seed: int) -> None:
    """Make the samplers inside a Trainer's `loader` give the order of epoch `epoch`, whatever was drawn before.

    accelerate and transformers pass the number on to most, but not through the shell of a loader that skips what was
    trained already in one that deals to several processes; and samplers that draw from a generator (rows grouped by
    length, prompts repeated for GRPO) know no epochs, so that a resumed run would begin with the first one's order.
    """
    part = loader
    while (inner := getattr(part, "batch_sampler", None)) is not None:
        part = inner
    for sampler in (part, getattr(part, "sampler", None)):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        elif hasattr(sampler, "generator"):
            sampler.generator = torch.Generator().manual_seed(seed + epoch)


__all__ = ["CurriculumSampler", "begin_epoch", "curriculum_order", "order_seed"]
