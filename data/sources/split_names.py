"""Names of splits, as people write them: `train`, `validation[:200]`, `train[10%:]`, and what a file's own name says.

| split | also called |
|---|---|
| train | training |
| validation | valid, val, dev |
| test | testing, eval, evaluation, held_out, heldout |

An alias is followed only where no file bears the name that was asked for. Any other name stands for itself.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation", "held_out", "heldout"),
}
CANONICAL = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
ASKED = re.compile(r"(?P<name>[^\[\]+]+?)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
SHARD = re.compile(r"(-\d+-of-\d+(-[0-9a-f]{16})?|[-_.]?\d+)$")
"""What numbers the files of one split: `train-00000-of-00004`, `train_07`."""


@dataclass(frozen=True)
class RowSlice:
    """Part of a split's rows, as in Python: a bound is a row, counted from the end where negative, or a percentage."""

    start: str | None
    stop: str | None

    def bounds(self, rows: int, where: str) -> tuple[int, int]:
        """First row and the one after the last, of so many. Percentages are rounded to the nearest row.

        Raises InputError when a bound lies outside or nothing is between them.
        """
        first, last = (self._row(bound, rows, where) for bound in (self.start or "0", self.stop or "100%"))
        if first >= last:
            raise InputError(f"{where}: the slice [{self}] keeps none of {rows} rows; widen it")
        return first, last

    @staticmethod
    def _row(bound: str, rows: int, where: str) -> int:
        share = bound.endswith("%")
        number = int(bound.removesuffix("%"))
        most = 100 if share else rows
        if abs(number) > most:
            raise InputError(
                f"{where}: {bound} lies outside of the split's {most if share else rows}{'%' * share} rows"
            )
        number += most if number < 0 else 0
        return round(rows * number / 100) if share else number

    def __str__(self) -> str:
        return f"{self.start or ''}:{self.stop or ''}"


def parse_split(asked: str, where: str) -> tuple[str, RowSlice | None]:
    """The name and the slice in `train[:10%]`. Raises InputError for what is neither."""
    found = ASKED.fullmatch(asked.strip())
    if not found:
        raise InputError(f"{where}: {asked!r} is no split; write one name, with a slice if wanted: train[:10%]")
    whole = found["start"] is None and found["stop"] is None
    return found["name"], None if whole else RowSlice(found["start"], found["stop"])


def same_split(one: str, other: str) -> bool:
    """Whether two names stand for one split."""
    return CANONICAL.get(one, one) == CANONICAL.get(other, other)


def bare_name(file: Path) -> str:
    """A file's name without its endings and without its number among the shards of a split."""
    name = file.name
    for ending in (".gz", ".zst"):
        name = name.removesuffix(ending)
    stem = name.rpartition(".")[0] or name
    return SHARD.sub("", stem) or stem


def folders_below(file: Path, root: Path) -> tuple[str, ...]:
    """The names of the folders between `root` and the file."""
    return file.absolute().relative_to(root.absolute()).parts[:-1]


def split_of(file: Path, root: Path) -> str | None:
    """The split that a file below `root` says it belongs to, by its name or by a folder's; None where it says none.

    A longer name with one of ours among its words (`train_sft`) is a split of its own.
    """
    name = bare_name(file)
    if name in CANONICAL:
        return name
    for folder in reversed(folders_below(file, root)):
        if folder in CANONICAL:
            return folder
    return name if _split_words(name) else None


def said_by_words(file: Path) -> str | None:
    """The canonical split that the words of a file's name say, all of one split: `gsm8k_train` says train."""
    said = {CANONICAL[word] for word in _split_words(bare_name(file))}
    return said.pop() if len(said) == 1 else None


def _split_words(name: str) -> set[str]:
    return set(re.split(r"[-_.\s]+", name)) & set(CANONICAL)


__all__ = [
    "ALIASES",
    "CANONICAL",
    "RowSlice",
    "bare_name",
    "folders_below",
    "parse_split",
    "said_by_words",
    "same_split",
    "split_of",
]
