"""Which rows of a blend are kept: by the length of their text, and only one of equal ones."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.blending.texts import column_of, default_text_columns, text_leaves
from data.sources.arrow_types import values_of
from pipeline.errors import InputError, SettingError
from pipeline.hub import refuse_unreachable
from pipeline.ranges import NonNegativeInt, PositiveInt, Text


@dataclass(kw_only=True, frozen=True)
class LengthFilter:
    """Keeps rows whose text is neither too short nor too long."""

    min: NonNegativeInt = 0
    max: PositiveInt | None = None
    """Inclusive bounds on the sum over `columns`."""
    unit: Literal["characters", "tokens"] = "characters"
    columns: list[Text] = field(default_factory=list)
    """Text columns, by their names after renaming: strings, or anything with strings inside, such as `messages`. A
    message's role doesn't count. Default: messages, or chosen and rejected, or an episode's turns."""
    tokenizer: Text | None = None
    """For tokens: a local folder or tokenizer.json, or a model of the Hub. No special tokens are counted."""

    def __post_init__(self) -> None:
        if self.max is not None and self.max < self.min:
            raise SettingError("max", f"min {self.min} and max {self.max} leave no length; give 0 <= min <= max")
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise SettingError("tokenizer", "tokenizer has to be given when unit is tokens, and only then")

    def open(self, where: str) -> Callable[[pa.RecordBatch, str], np.ndarray]:
        """Load the tokenizer if there is one. The result maps (batch, label) to a mask of the rows to keep."""
        count = count_characters if self.unit == "characters" else _token_counter(str(self.tokenizer), where)

        def keep(batch: pa.RecordBatch, label: str) -> np.ndarray:
            total = np.zeros(len(batch), dtype=np.int64)
            for name in self.columns or default_text_columns(batch.schema.names, label, f"{where}.columns"):
                texts, rows = text_leaves(column_of(batch, name, label, f"{where}.columns"))
                total += np.bincount(rows, weights=count(texts), minlength=len(batch)).astype(np.int64)
            mask = total >= self.min
            return mask if self.max is None else mask & (total <= self.max)

        return keep


def count_characters(texts: pa.Array) -> np.ndarray:
    """Unicode code points of each text."""
    return pc.utf8_length(texts).to_numpy(zero_copy_only=False)


def _token_counter(name: str, where: str) -> Callable[[pa.Array], np.ndarray]:
    from tokenizers import Tokenizer

    path = Path(name).expanduser()
    if not path.exists():
        refuse_unreachable(name, f"{where}.tokenizer")
    try:
        if path.is_dir():
            path = path / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(path)) if path.exists() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises bare Exception
        raise InputError(
            f"{where}.tokenizer: {name} can't be loaded ({' '.join(str(error).split())[:200]}); give a folder with"
            " tokenizer.json or a model of the Hub"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: pa.Array) -> np.ndarray:
        encodings = tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return np.fromiter((len(e) for e in encodings), dtype=np.int64, count=len(texts))

    return count


class Deduplicator:
    """Keeps the first of rows that are equal in some columns. Equal means equal: nothing is normalised.

    Remembers 16 bytes of hash a kept row (about 100 bytes in memory).
    """

    reason = "duplicates"
    file = "hashes.bin"

    def __init__(self, columns: Sequence[str] | None) -> None:
        """`columns` by their names after renaming; None compares whole rows."""
        self.columns = columns
        self.seen: set[bytes] = set()
        self.fresh: list[bytes] = []

    def keys(self, batch: pa.RecordBatch, label: str) -> list[bytes]:
        """What stands for each row."""
        names = sorted(batch.schema.names) if self.columns is None else list(self.columns)
        values = [values_of(column_of(batch, name, label, "deduplicate")) for name in names]
        made = []
        for row in zip(*values, strict=True):
            present = {n: _without_nulls(v) for n, v in zip(names, row, strict=True) if v is not None}
            text = json.dumps(present, sort_keys=True, ensure_ascii=False, default=repr)
            made.append(hashlib.blake2b(text.encode(), digest_size=16).digest())
        return made

    def knows(self, key: bytes) -> bool:
        """Whether an equal row was kept before."""
        return key in self.seen

    def remember(self, key: bytes) -> None:
        """Take note of a row that is kept."""
        self.seen.add(key)
        self.fresh.append(key)

    def take_fresh(self) -> bytes:
        """What was remembered since the last call, for `restore` in a later process."""
        joined, self.fresh = b"".join(self.fresh), []
        return joined

    def restore(self, saved: bytes) -> None:
        """Remember the rows of a source that an earlier process has finished."""
        self.seen.update(saved[i : i + 16] for i in range(0, len(saved), 16))


def _without_nulls(value: Any) -> Any:
    """A field that one source lacks and another has as null makes no difference between rows."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


__all__ = ["Deduplicator", "LengthFilter", "count_characters"]
