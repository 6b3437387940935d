"""The texts of rows: which columns hold them and what stands in them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from data.sources.arrow_types import is_json, is_list, values_of
from data.sources.schema import row_kind
from pipeline.errors import InputError

TEXT_COLUMNS = {
    "chat": ["messages"],
    "preference": ["chosen", "rejected"],
    "episode": ["query", "answer", "interactions"],
}
"""What counts as the text of a row where the YAML names no columns."""
_WORD = re.compile(r"\w+")


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


def row_texts(batch: pa.RecordBatch, columns: Sequence[str], label: str, where: str) -> list[list[str]]:
    """The texts of each row: of `columns`, or of those that hold texts by the kind of row, or of all."""
    if not columns:
        columns = TEXT_COLUMNS.get(row_kind(batch.schema.names), batch.schema.names)
    made: list[list[str]] = [[] for _ in range(len(batch))]
    for name in columns:
        texts, rows = text_leaves(column_of(batch, name, label, where))
        for text, row in zip(texts.to_pylist(), rows, strict=True):
            made[row].append(text)
    return made


def word_ngrams(text: str, n: int) -> Iterator[str]:
    """Every run of n words of a text, in lower case, without what stands between them; none where it has fewer."""
    words = _WORD.findall(text.lower())
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


__all__ = ["column_of", "default_text_columns", "row_texts", "text_leaves", "word_ngrams"]
