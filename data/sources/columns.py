"""Edits of a source's columns: rows kept by value, columns dropped and renamed, each checked by name."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from data.sources.arrow_types import TRACE, cast_exactly, plain_type
from data.sources.batches import Batch
from data.sources.config import SourceConfig
from pipeline.config import nearest
from pipeline.errors import InputError

logger = logging.getLogger(__name__)


def only_rows(batch: Batch, config: SourceConfig, where: str) -> Batch:
    """The rows of a batch that `only` keeps: none where uneven rows (JSON) lack the column just here. A column that the
    whole source lacks is refused by `check_columns`. Raises InputError where a column can't be compared with values."""
    for name, values in config.only.items():
        if name not in batch.records.schema.names:
            return batch.slice(0, 0)
        column = batch.records.column(name)
        wanted = pa.array(_comparable(values, column.type, f"{where}.only.{name}"), _compared(column.type))
        mask = pc.is_in(cast_exactly(column, wanted.type), wanted)
        batch = batch.filter(mask.to_numpy(zero_copy_only=False))
    return batch


def _compared(kind: pa.DataType) -> pa.DataType:
    kind = plain_type(kind)
    return pa.float64() if pt.is_floating(kind) else kind if not pt.is_null(kind) else pa.string()


def _comparable(values: Sequence[str], kind: pa.DataType, where: str) -> list[Any]:
    """The values of the YAML, which are texts, as values of the column."""
    kind = plain_type(kind)
    if pt.is_string(kind) or pt.is_null(kind):
        return list(values)
    read: Callable[[str], Any] | None = None
    if pt.is_boolean(kind):
        read = {"true": True, "false": False, "True": True, "False": False}.__getitem__
    elif pt.is_integer(kind):
        read = int
    elif pt.is_floating(kind):
        read = float
    if read is None:
        raise InputError(f"{where}: the column is a {kind}; only compares texts, numbers and true or false")
    try:
        made = [read(value) for value in values]
        pa.array(made, _compared(kind))
    except (KeyError, ValueError, OverflowError, pa.ArrowException):
        raise InputError(
            f"{where}: the column is {kind} and never {' or '.join(map(repr, values))}; correct it"
        ) from None
    return made


class ColumnEdit:
    """Drops and renames columns; what a source of uneven rows (JSON) lacks is only known at its end."""

    def __init__(self, config: SourceConfig, where: str) -> None:
        self.config, self.where = config, where
        self.seen: dict[str, None] = {}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.schema.names
        check_columns(self.config, names, self.where)
        self.seen.update(dict.fromkeys(names))
        kept = [n for n in names if n not in self.config.drop_columns]
        return batch.select(kept).rename_columns([self.config.rename_columns.get(n, n) for n in kept])

    def finish(self) -> None:
        if self.seen:
            check_columns(self.config, list(self.seen), self.where, absent=True)


def check_columns(config: SourceConfig, names: Sequence[str], where: str, *, absent: bool = False) -> None:
    """Refuse edits that clash with the columns `names`; with `absent`, also edits of columns that aren't there."""
    if doubled := next((n for n in names if list(names).count(n) > 1), None):
        raise InputError(
            f"{where}: {config.label} has two columns called {doubled}; only one name a column can be kept"
        )
    kept = [n for n in names if n not in config.drop_columns]
    for old, new in config.rename_columns.items():
        if new in kept and old in kept and new not in config.rename_columns:
            raise InputError(
                f"{where}.rename_columns: {old} can't become {new}, {config.label} already has a column {new};"
                f" choose another name or add {new} to drop_columns"
            )
        if absent and old not in names:
            raise InputError(f"{where}.rename_columns: {config.label} has no column {old}{nearest(old, list(names))}")
    final = [config.rename_columns.get(n, n) for n in kept]
    if clash := next((n for n in final if n in TRACE), None):
        raise InputError(
            f"{where}: {config.label} already has a column {clash}, which the blend adds itself; add it to"
            " drop_columns or rename it"
        )
    if not final:
        raise InputError(f"{where}.drop_columns leaves no column of {config.label} ({', '.join(names)}); keep one")
    if absent:
        if unknown := next((n for n in config.only if n not in names), None):
            raise InputError(f"{where}.only: {config.label} has no column {unknown}{nearest(unknown, list(names))}")
        for name in config.drop_columns:
            if name not in names:
                logger.warning(
                    "%s.drop_columns: %s has no column %s%s", where, config.label, name, nearest(name, list(names))
                )


__all__ = ["ColumnEdit", "check_columns", "only_rows"]
