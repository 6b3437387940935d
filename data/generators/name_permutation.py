"""More stories from few: the same ones with their people and places exchanged for one another.

    generator:
      kind: renamed
      path: ../shared/data/mrl/babi_episodes.parquet
      split: train
      where: {task: [qa1_single-supporting-fact]}
      names: [[Mary, John, Sandra, Daniel], [kitchen, garden, office]]

Each row made is a row of the file in which the words of a list are permuted, everywhere alike, so that its questions
keep their answers; a model can't learn by heart what is true in one story. Rows follow a new order each time round.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.sources.folds import check_fold, in_fold
from data.sources.reading import FileQuery, find_files, read_rows
from pipeline.config import parse_config
from pipeline.errors import InputError

BATCH = 512


@dataclass(kw_only=True)
class RenamedOptions:
    """What the YAML's `generator:` section may say."""

    path: str
    """a file or folder of episodes"""
    split: str | None = None
    """kept: files named after this split, or rows whose column `split` has it"""
    where: dict[str, list[str]] = field(default_factory=dict)
    """kept: rows whose column has one of the listed values"""
    without_fold: int | None = None
    """left out: each tenth of the rows that the other keys keep, beginning with this one (0 to 9), to validate on"""
    names: list[list[str]]
    """words that may stand for one another, a list for each kind"""

    def __post_init__(self) -> None:
        words = [word for kind in self.names for word in kind]
        if not words or len(words) != len(set(words)):
            raise ValueError("names are lists of words, each word in one list only")
        check_fold(self.without_fold, "without_fold")


def exchange(value: Any, rename: Callable[[str], str]) -> Any:
    """The value with every text in it renamed."""
    if isinstance(value, str):
        return rename(value)
    if isinstance(value, list):
        return [exchange(item, rename) for item in value]
    if isinstance(value, dict):
        return {key: exchange(item, rename) for key, item in value.items()}
    return value


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[list[dict[str, Any]]]:
    """Batches of renamed rows (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(RenamedOptions, dict(options), source="generator")
    if entries is None:
        raise InputError("generator: kind renamed makes rows without end; say how many with `entries`")
    rows = [
        row
        for _, row in read_rows(find_files(FileQuery(path=parsed.path, split=parsed.split, key="path")))
        if all(str(row.get(column)) in wanted for column, wanted in parsed.where.items())
    ]
    if parsed.without_fold is not None:
        rows = [row for number, row in enumerate(rows) if not in_fold(number, parsed.without_fold)]
    if not rows:
        raise InputError(f"generator: {parsed.path} has no row of that split and where; correct them")
    return _batches(parsed, rows, entries, f"{seed} {split}")


def _batches(options: RenamedOptions, rows: list[dict], entries: int, seed: str) -> Iterator[list[dict[str, Any]]]:
    words = sorted((word for kind in options.names for word in kind), key=len, reverse=True)
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")
    turns = ("query", "answer", "think", "facts", "interactions")
    made: list[dict[str, Any]] = []
    for index in range(entries):
        luck = random.Random(f"{seed} {index}")
        if index % len(rows) == 0:
            order = luck.sample(range(len(rows)), len(rows))
        names = {a: b for kind in options.names for a, b in zip(kind, luck.sample(kind, len(kind)), strict=True)}
        row = rows[order[index % len(rows)]]

        def rename(text: str, names: dict[str, str] = names) -> str:
            return pattern.sub(lambda found: names[found[0]], text)

        made.append({key: exchange(value, rename) if key in turns else value for key, value in row.items()})
        if len(made) == BATCH:
            yield made
            made = []
    if made:
        yield made


GENERATORS = {"renamed": generate}
