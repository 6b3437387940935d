"""Which rows of a blend are kept: by the length of their text, and only one of equal ones."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from data.sources.arrow_types import is_json, is_list, values_of
from data.sources.schema import row_kind
from pipeline.errors import InputError, SettingError
from pipeline.ranges import NonNegativeInt, PositiveInt, Text

TEXT_COLUMNS = {
    "chat": ["messages"],
    "preference": ["chosen", "rejected"],
    "episode": ["query", "answer", "interactions"],
}
"""What counts as the text of a row where the YAML names no columns."""


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


def default_text_columns(names: Sequence[str], label: str, where: str) -> list[str]:
    """The columns that hold a row's text. Raises InputError where the rows are of no known kind."""
    kind = row_kind(names)
    if kind not in TEXT_COLUMNS:
        raise InputError(f"{where} has to name the text columns, {label} has {', '.join(names)}")
    return TEXT_COLUMNS[kind]


def column_of(batch: pa.RecordBatch, name: str, label: str, where: str) -> pa.Array:
    """A column by name. Raises InputError when the source lacks it."""
    if name not in batch.schema.names:
        raise InputError(f"{where}: {label} has no column {name}; its columns are {', '.join(batch.schema.names)}")
    return batch.column(name)


def text_leaves(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Every string in a column, with the index of the row it is in. Roles of messages are left out."""
    return _leaves(array, np.arange(len(array)))


def _leaves(array: pa.Array, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    kind = array.type
    if pt.is_string(kind):
        present = array.is_valid().to_numpy(zero_copy_only=False)
        return array.drop_null(), rows[present]
    if is_json(kind):
        found = [(text, row) for value, row in zip(values_of(array), rows, strict=True) for text in _texts(value)]
        return pa.array([text for text, _ in found], pa.string()), np.array([r for _, r in found], dtype=np.int64)
    if is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        return _leaves(pc.list_flatten(array), np.repeat(rows, lengths))
    if pt.is_struct(kind):
        found = [_leaves(pc.struct_field(array, i), rows) for i, f in enumerate(kind) if f.name != "role"]
        if found:
            return pa.concat_arrays([texts for texts, _ in found]), np.concatenate([index for _, index in found])
    return pa.array([], pa.string()), np.zeros(0, dtype=np.int64)


def _texts(value: Any) -> Iterator[str]:
    """Strings inside a free-form value, roles left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != "role":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def count_characters(texts: pa.Array) -> np.ndarray:
    """Unicode code points of each text."""
    return pc.utf8_length(texts).to_numpy(zero_copy_only=False)


def _token_counter(name: str, where: str) -> Callable[[pa.Array], np.ndarray]:
    from tokenizers import Tokenizer

    path = Path(name).expanduser()
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

    def __init__(self, columns: Sequence[str] | None) -> None:
        """`columns` by their names after renaming; None compares whole rows."""
        self.columns = columns
        self.seen: set[bytes] = set()
        self.fresh: list[bytes] = []

    def keep(self, batch: pa.RecordBatch, label: str, where: str, most: int | None = None) -> np.ndarray:
        """A mask of the first `most` rows that weren't seen before; the rows after them are not remembered."""
        names = sorted(batch.schema.names) if self.columns is None else list(self.columns)
        values = [values_of(column_of(batch, name, label, where)) for name in names]
        mask = np.zeros(len(batch), dtype=bool)
        kept = 0
        for i, row in enumerate(zip(*values, strict=True)):
            if kept == most:
                break
            present = {n: _without_nulls(v) for n, v in zip(names, row, strict=True) if v is not None}
            text = json.dumps(present, sort_keys=True, ensure_ascii=False, default=repr)
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest not in self.seen:
                self.seen.add(digest)
                self.fresh.append(digest)
                mask[i] = True
                kept += 1
        return mask

    def take_fresh(self) -> bytes:
        """The hashes that were added since the last call, for `restore` in a later process."""
        joined, self.fresh = b"".join(self.fresh), []
        return joined

    def restore(self, hashes: bytes) -> None:
        """Remember the rows of a source that an earlier process has finished."""
        self.seen.update(hashes[i : i + 16] for i in range(0, len(hashes), 16))


def _without_nulls(value: Any) -> Any:
    """A field that one source lacks and another has as null makes no difference between rows."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


__all__ = ["Deduplicator", "LengthFilter", "count_characters", "text_leaves"]
