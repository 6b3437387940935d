"""What rows look like: Arrow schemas of several sources brought together without losing a value, or refused by name.

Aligned: a column that some sources lack (filled with null), a null-typed column (takes the type that others have),
integers or floats of different widths (the wider; 64-bit integers with floats only where every value survives), the
large/view/dictionary encodings of strings and lists. Objects inside a column whose keys differ become free-form values
(data.sources.arrow_types), so that none gains keys of another; so does what else differs deeper than in the objects of
a list, and a text beside a list or an object there. Anything else that differs is refused.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from data.sources.arrow_types import JSON, cast_exactly, is_json, is_list
from pipeline.errors import InputError


def depth_inside(depth: int, listed: bool) -> int:
    """How deep the fields of an object are that stands `depth` deep, in a list or not: see `wider`."""
    return depth + 1 if listed or depth else 2


def wider(one: pa.DataType, other: pa.DataType, depth: int = 0, listed: bool = False) -> pa.DataType | None:
    """The type that holds every value of both, None when there is none. Both are plain types.

    depth: 0 for a column, 1 for a field of the objects that a column lists (of messages), 2 and more for what is
    deeper or in an object that is a column's value: from there on anything goes. listed: whether they are in a list.
    """
    if one.equals(other) or pt.is_null(other):
        return one
    if pt.is_null(one):
        return other
    nested = [pt.is_struct(t) or is_list(t) or is_json(t) for t in (one, other)]
    if pt.is_struct(one) and pt.is_struct(other):
        return _wider_struct(one, other, depth_inside(depth, listed))
    if is_list(one) and is_list(other):
        inner = wider(one.value_type, other.value_type, depth, True)
        return None if inner is None else pa.list_(inner)
    if is_json(one) or is_json(other):
        return JSON if all(nested) or depth else None
    if pt.is_integer(one) and pt.is_integer(other):
        signed = [pt.is_signed_integer(t) for t in (one, other)]
        return max(one, other, key=lambda t: t.bit_width) if signed[0] == signed[1] else pa.int64()
    if pt.is_floating(one) and pt.is_floating(other):
        return max(one, other, key=lambda t: t.bit_width)
    numbers = [pt.is_integer(t) or pt.is_floating(t) for t in (one, other)]
    if all(numbers) and depth < 2:
        return pa.float64()
    return JSON if depth > 1 or (depth == 1 and any(nested)) else None


def _wider_struct(one: pa.StructType, other: pa.StructType, depth: int) -> pa.DataType | None:
    theirs = {f.name: f.type for f in other}
    if set(theirs) != {f.name for f in one}:
        return JSON
    kinds = {f.name: wider(f.type, theirs[f.name], depth) for f in one}
    return None if None in kinds.values() else pa.struct([pa.field(name, kind) for name, kind in kinds.items()])


def align_schemas(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for all sources, columns in order of first appearance. `schemas` are (label of source, plain schema).

    Raises InputError that names the column, both sources and both types where they can't be brought together.
    """
    kinds: dict[str, pa.DataType] = {}
    first: dict[str, str] = {}
    for label, schema in schemas:
        for f in schema:
            if f.name not in kinds:
                kinds[f.name], first[f.name] = f.type, label
                continue
            kind = wider(kinds[f.name], f.type)
            if kind is None:
                path, left, right = _difference(f.name, kinds[f.name], f.type)
                raise InputError(
                    f"column {path} is {left} in {first[f.name]} but {right} in {label}; drop it (drop_columns) or"
                    " give one of the two another name (rename_columns)"
                )
            if pt.is_null(kinds[f.name]) and not pt.is_null(f.type):
                first[f.name] = label
            kinds[f.name] = kind
    return pa.schema(list(kinds.items()))


def _difference(path: str, one: pa.DataType, other: pa.DataType) -> tuple[str, str, str]:
    """The innermost place where two types clash, with both types there."""
    if is_list(one) and is_list(other):
        return _difference(f"{path}[]", one.value_type, other.value_type)
    if pt.is_struct(one) and pt.is_struct(other):
        for f in other:
            index = one.get_field_index(f.name)
            if index >= 0 and wider(one.field(index).type, f.type, 1) is None:
                return _difference(f"{path}.{f.name}", one.field(index).type, f.type)
    return path, _shown(one), _shown(other)


def _shown(kind: pa.DataType) -> str:
    if is_list(kind):
        return "a list"
    if pt.is_struct(kind):
        return f"an object ({', '.join(f.name for f in kind)})"
    return str(kind)


def align_batch(batch: pa.RecordBatch, schema: pa.Schema, label: str) -> pa.RecordBatch:
    """Rows of one source in the common schema. Raises InputError when a number wouldn't survive the common type."""
    arrays = []
    for f in schema:
        index = batch.schema.get_field_index(f.name)
        try:
            arrays.append(cast_exactly(batch.column(index), f.type) if index >= 0 else pa.nulls(len(batch), f.type))
        except pa.ArrowInvalid as error:
            raise InputError(
                f"column {f.name} of {label} doesn't fit {f.type}, which another source needs: {error}; drop it"
                " (drop_columns) or give it another name (rename_columns)"
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def fits_json(schema: pa.Schema) -> bool:
    """Whether JSON lines can hold every value of these types and their loaders give it back unchanged.

    Free-form values are not: `datasets` would take a text like "5" in them for a number.
    """

    def fits(kind: pa.DataType) -> bool:
        if is_list(kind):
            return fits(kind.value_type)
        if pt.is_struct(kind):
            return all(fits(f.type) for f in kind)
        return (
            pt.is_string(kind)
            or (pt.is_integer(kind) and kind != pa.uint64())
            or pt.is_boolean(kind)
            or pt.is_null(kind)
            or kind == pa.float64()
        )

    return all(fits(f.type) for f in schema)


def card_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The columns in the form of a dataset card's `features`, so that readers needn't guess types from JSON."""

    def value(kind: pa.DataType) -> dict[str, Any]:
        if is_list(kind):
            inner = value(kind.value_type)
            return {"list": inner["struct"] if set(inner) == {"struct"} else inner.get("dtype", inner)}
        if pt.is_struct(kind):
            return {"struct": [{"name": f.name, **value(f.type)} for f in kind]}
        if is_json(kind):
            return {"dtype": "json"}
        names = {
            "double": "float64", "float": "float32", "halffloat": "float16", "bool": "bool", "date32[day]": "date32",
            "date64[ms]": "date64",
        }  # fmt: skip
        return {"dtype": names.get(str(kind), str(kind))}

    return [{"name": f.name, **value(f.type)} for f in schema]


def row_kind(columns: Sequence[str]) -> str:
    """What the rows are for, by their columns: `preference`, `chat`, `episode` or `other`."""
    has: Callable[..., bool] = lambda *names: set(names) <= set(columns)  # noqa: E731
    if has("chosen", "rejected"):
        return "preference"
    if has("messages"):
        return "chat"
    return "episode" if has("query", "answer", "interactions") else "other"


__all__ = [
    "align_batch",
    "align_schemas",
    "card_features",
    "fits_json",
    "row_kind",
    "wider",
]
