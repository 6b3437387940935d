"""JSON rows as Arrow columns, value by value: the slow way that keeps everything or says which row it can't keep.

Types are inferred over all rows of a batch. Objects whose keys differ, and what else is free in its form, become
free-form values (data.sources.arrow_types); numbers, texts and lists that share a column don't go together.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from data.sources.arrow_types import DEEPEST, INTEGERS, JSON, is_json, is_list, unstorable
from data.sources.schema import depth_inside, wider
from pipeline.errors import InputError

WHOLE_IN_FLOAT = 2**53
"""Integers up to here are exact as float64."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return made


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number that JSON knows")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


def parse_json(text: str, where: str, remedy: str = "correct it") -> Any:
    """One JSON value, exactly. Raises InputError with `where` for what isn't one, or nests too deep."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise InputError(f"{where}: nests deeper than {DEEPEST} levels; flatten it") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: isn't JSON ({error.msg} at character {error.pos + 1}); {remedy}") from None
    except ValueError as error:
        raise InputError(f"{where}: isn't usable as JSON ({' '.join(str(error).split())[:160]}); {remedy}") from None


def rows_to_batch(rows: Sequence[dict[str, Any]], places: Sequence[str], *, storable: bool = False) -> pa.RecordBatch:
    """A batch of rows, each column of the narrowest type that holds all its values exactly.

    `places` name the rows for messages. storable: whether it is known that every value can be stored. Raises InputError
    with place, column and remedy where there is no such type.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    arrays = []
    for name in columns:
        values = [row.get(name) for row in rows]
        if not storable and any(unstorable(value) for value in values):
            raise _unstorable(name, values, places)
        kind = infer_type(values)
        if kind is None:
            raise _clash(name, values, places)
        try:
            arrays.append(build_array(values, kind))
        except (pa.ArrowException, ValueError, OverflowError):
            raise _unstorable(name, values, places) from None
    if not columns:
        raise InputError(f"{places[0]}: is an empty object; give it columns or drop the row")
    return pa.RecordBatch.from_arrays(arrays, names=columns)


def infer_type(values: Iterable[Any], depth: int = 0, listed: bool = False) -> pa.DataType | None:
    """The type of a column of Python values; None when they don't go together. For depth and listed see `wider`."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if not kinds:
        return pa.null()
    if len(kinds) > 1 and kinds != {int, float}:
        mixed_text = depth == 1 and bool(kinds & {list, dict})
        return JSON if depth > 1 or mixed_text or kinds == {list, dict} else None
    if dict in kinds:
        keys = set(present[0])
        if not keys or any(set(value) != keys for value in present):
            return JSON
        inside = depth_inside(depth, listed)
        inner = {key: infer_type((value[key] for value in present), inside) for key in present[0]}
        return None if None in inner.values() else pa.struct([pa.field(key, kind) for key, kind in inner.items()])
    if list in kinds:
        item = infer_type((item for value in present for item in value), depth, True)
        return None if item is None else pa.list_(item)
    if kinds == {int, float}:
        exact = all(abs(value) <= WHOLE_IN_FLOAT for value in present if isinstance(value, int))
        return JSON if depth > 1 else pa.float64() if exact else None
    if kinds == {int}:
        return pa.uint64() if max(present) > INTEGERS.stop // 2 - 1 and min(present) >= 0 else pa.int64()
    return {str: pa.string(), bool: pa.bool_(), float: pa.float64()}[kinds.pop()]


def build_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array of an inferred type. Raises pa.ArrowException or OverflowError where one doesn't fit."""
    if is_json(kind):
        texts = [None if value is None else _ENCODER.encode(value) for value in values]
        return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))
    if not _has_json(kind):
        return pa.array(values, kind)
    mask = pa.array([value is None for value in values], pa.bool_())
    if is_list(kind):
        ends = [0]
        for value in values:
            ends.append(ends[-1] + len(value or ()))
        items = build_array([item for value in values for item in value or ()], kind.value_type)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, type=kind, mask=mask)
    children = [build_array([None if v is None else v[f.name] for v in values], f.type) for f in kind]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def _has_json(kind: pa.DataType) -> bool:
    if is_list(kind):
        return _has_json(kind.value_type)
    return is_json(kind) or (pa.types.is_struct(kind) and any(_has_json(f.type) for f in kind))


def clashing_row(values: Sequence[Any], known: pa.DataType) -> int | None:
    """The first value that a column of type `known` can't take beside its own."""
    for index, value in enumerate(values):
        kind = infer_type([value])
        wide = None if kind is None else wider(known, kind)
        if wide is None:
            return index
        known = wide
    return None


def _clash(name: str, values: Sequence[Any], places: Sequence[str]) -> InputError:
    index = clashing_row(values, pa.null())
    if index is None:
        return _unstorable(name, values, places)
    return clash_error(name, values[index], places[index], next(v for v in values if v is not None))


def clash_error(name: str, value: Any, place: str, earlier: Any = None) -> InputError:
    """What to say of a value that is of another kind than those before it in its column."""
    other = f", earlier rows have {_kind(earlier)}" if earlier is not None and _kind(earlier) != _kind(value) else ""
    return InputError(
        f"{place}: column {name} is {_kind(value)} here ({str(value)[:40]}){other}, or differs from them inside; give"
        " all rows one kind of value, or drop the column (drop_columns)"
    )


def _unstorable(name: str, values: Sequence[Any], places: Sequence[str]) -> InputError:
    for value, place in zip(values, places, strict=True):
        if problem := unstorable(value):
            return InputError(f"{place}: column {name} {_sentence(problem)}")
    whole = next((i for i, v in enumerate(values) if isinstance(v, int) and abs(v) > WHOLE_IN_FLOAT), 0)
    return InputError(
        f"{places[whole]}: column {name} has integers that its other numbers leave no exact type for"
        f" ({str(values[whole])[:30]}); make them strings"
    )


def _sentence(problem: str) -> str:
    return problem if problem.startswith(("holds", "nests")) else f"holds what can't be kept: {problem}"


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


__all__ = ["build_array", "clash_error", "clashing_row", "infer_type", "parse_json", "rows_to_batch"]
