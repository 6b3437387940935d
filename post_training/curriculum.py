"""How hard an example is: by what is trained of it, or by a column of numbers; and packing that keeps the order."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset, Value
from trl import pack_dataset

from data.sources.messages import BadRow
from pipeline.errors import InputError, nearest
from post_training.dataset import PLACE, Splits
from post_training.examples import Example
from post_training.recipes.dataset import LENGTH, RowCurriculumConfig
from post_training.sampler import curriculum_order

DIFFICULTY = "difficulty"
"""Column of examples: a list of one number, larger is harder unless the recipe says otherwise."""
ROW_DIFFICULTY = "_difficulty"
"""The same in training rows, where it comes from a column of theirs."""
_PACKED_TOGETHER = 16
"""About so many packed examples are filled from the same neighbours: more fill better, fewer keep the order better."""


def with_row_difficulty(splits: Splits, config: RowCurriculumConfig | None) -> Splits:
    """The training rows with the curriculum's column under the name ROW_DIFFICULTY. Raises InputError."""
    if config is None or config.difficulty == LENGTH:
        return splits
    name, features = config.difficulty, splits.train.features
    if name not in features:
        there = [LENGTH, *(column for column in features if column != PLACE)]
        raise InputError(f"dataset.curriculum.difficulty: {splits.source} has no column {name}{nearest(name, there)}")
    kind = features[name]
    if not isinstance(kind, Value) or not kind.dtype.startswith(("int", "uint", "float")):
        raise InputError(
            f"dataset.curriculum.difficulty: the column {name} of {splits.source} holds "
            f"{kind.dtype if isinstance(kind, Value) else 'lists'}, not numbers; name another, or {LENGTH}"
        )
    return replace(splits, train=splits.train.rename_column(name, ROW_DIFFICULTY))


def row_difficulty(row: Mapping[str, Any], where: str) -> float | None:
    """What the column says of a row, None where rows have none. Raises BadRow with `where` for no finite number."""
    if ROW_DIFFICULTY not in row:
        return None
    value = row[ROW_DIFFICULTY]
    if value is None or not math.isfinite(value):
        raise BadRow("difficulty", f"{where}: its difficulty is {value}, which is no number to order it by")
    return float(value)


def with_difficulty(example: Example, config: RowCurriculumConfig | None, by_column: float | None) -> Example:
    """The example with the column DIFFICULTY, if there is a curriculum and something is left of the row."""
    if config is None or example.tensors is None:
        return example
    trained = example.prompt_tokens + max(example.answer_tokens, 0)
    difficulty = float(trained) if config.difficulty == LENGTH else by_column
    if difficulty is None:  # held-out rows need no such column
        return example
    return replace(example, tensors={**example.tensors, DIFFICULTY: [difficulty]})


def difficulties(examples: Dataset) -> np.ndarray:
    """The column DIFFICULTY as numbers, [examples]."""
    column = examples.select_columns([DIFFICULTY]).with_format("arrow")[:][DIFFICULTY]
    return np.asarray(column.combine_chunks().flatten())


def spread(examples: Dataset) -> dict[str, float]:
    """The lowest, middle and highest difficulty, for metrics.json."""
    numbers = difficulties(examples)
    return {"lowest": float(numbers.min()), "median": float(np.median(numbers)), "highest": float(numbers.max())}


def pack_neighbours(examples: Dataset, max_length: int, strategy: str, seed: int) -> Dataset:
    """TRL's packing over examples that are neighbours in difficulty; packed ones are as hard as their place says.

    TRL fills packed rows from a thousand examples at a time, longest first, which would leave little of an order.
    """
    rng = np.random.default_rng(seed)
    length = float(np.mean(examples["length"]))
    neighbours = max(2, round(_PACKED_TOGETHER * max_length / length))
    with PartialState().local_main_process_first():  # the other processes find the result cached
        ordered = examples.select(curriculum_order(difficulties(examples), 0.0, rng))
        packed = pack_dataset(
            ordered.select_columns(["input_ids", "labels"]), max_length, strategy, {"batch_size": neighbours}
        )
    return packed.add_column(DIFFICULTY, [[float(place)] for place in range(len(packed))])


__all__ = [
    "DIFFICULTY",
    "ROW_DIFFICULTY",
    "difficulties",
    "pack_neighbours",
    "row_difficulty",
    "spread",
    "with_difficulty",
    "with_row_difficulty",
]
