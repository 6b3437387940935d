"""Arrow types without their encodings, and the one for free-form values: what a column holds, however it is stored.

Values whose form differs from row to row (the arguments of tool calls, say) are JSON text in a column of Arrow's own
type `arrow.json`. `datasets` reads it as its feature `Json` and gives the values back; `to_rows` does so here, to the
last digit.
"""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

TRACE = ("_source_dataset", "_source_subset", "_source_split")
"""Columns that a blend adds to every row."""
JSON = pa.json_(pa.string())
DEEPEST = 100
"""Levels of lists and objects within one another; what nests deeper is refused."""
INTEGERS = range(-(2**63), 2**64)
"""What the loaders of free-form values can read back."""


def is_list(kind: pa.DataType) -> bool:
    return (
        pt.is_list(kind)
        or pt.is_large_list(kind)
        or pt.is_fixed_size_list(kind)
        or pt.is_list_view(kind)
        or pt.is_large_list_view(kind)
    )


def is_json(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding: `large_string`, `string_view` and dictionaries of strings are all `string`.

    A map becomes a list of its keys and values, an object that is always empty a free-form value.
    """
    if is_json(kind) or (pt.is_struct(kind) and kind.num_fields == 0):
        return JSON
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_decimal32(kind) or pt.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if pt.is_map(kind):
        pair = [pa.field("key", plain_type(kind.key_type)), pa.field("value", plain_type(kind.item_type))]
        return pa.list_(pa.struct(pair))
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(f.name, plain_type(f.type)) for f in kind])
    return kind


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with `plain_type` columns and no schema metadata. Raises pa.ArrowException naming the column."""
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        kind = plain_type(array.type)
        try:
            arrays.append(array if array.type == kind else cast_exactly(array, kind))
        except (pa.ArrowException, ValueError) as error:
            raise pa.ArrowInvalid(f"column {name} ({array.type}): {error}") from None
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def cast_exactly(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast `array` to a type that `wider` allowed. Raises pa.ArrowInvalid when a value wouldn't survive."""
    if array.type.equals(kind):
        return array
    if pt.is_null(array.type):
        return pa.nulls(len(array), kind)
    if is_json(kind):
        return pa.ExtensionArray.from_storage(JSON, pa.array(_as_texts(array), pa.string()))
    if isinstance(array, pa.ExtensionArray):
        return cast_exactly(array.storage, kind)
    if pt.is_dictionary(array.type):
        return cast_exactly(array.dictionary_decode(), kind)
    if pt.is_run_end_encoded(array.type):
        return cast_exactly(pc.run_end_decode(array), kind)
    if pt.is_map(array.type):
        pairs = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
        listed = pa.ListArray.from_arrays(array.offsets, pairs, mask=pc.is_null(array) if array.null_count else None)
        return cast_exactly(listed, kind)
    if pt.is_struct(kind) and pt.is_struct(array.type):
        given = {array.type.field(i).name: i for i in range(array.type.num_fields)}
        children = [
            # `flatten`-like access: `field` ignores the parent's offset and nulls, `struct_field` keeps both
            cast_exactly(pc.struct_field(array, given[f.name]), f.type)
            if f.name in given
            else pa.nulls(len(array), f.type)
            for f in kind
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=pc.is_null(array))
    if is_list(kind) and is_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths.cast(pa.int32()))])
        values = cast_exactly(pc.list_flatten(array), kind.value_type)
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=pc.is_null(array))
    return array.cast(kind)


def _as_texts(array: pa.Array) -> list[str | None]:
    try:
        return [None if value is None else json_text(value) for value in values_of(array)]
    except TypeError as error:  # bytes, dates and decimals are nothing that JSON knows
        raise pa.ArrowInvalid(str(error)) from None


def json_text(value: Any) -> str:
    """A free-form value as it is stored. Raises pa.ArrowInvalid for what no reader would give back."""
    problem = unstorable(value)
    if problem:
        raise pa.ArrowInvalid(problem)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def unstorable(value: Any, depth: int = 0) -> str | None:
    """Why a value can't be stored: too deep, an integer beyond 64 bits, no finite number, half a character; or None."""
    if isinstance(value, str):
        return None if value.isprintable() or _is_text(value) else "holds half of a surrogate pair"
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return None if value in INTEGERS else f"the integer {str(value)[:30]} doesn't fit 64 bits; make it a string"
    if isinstance(value, float):
        finite = value - value == 0
        return None if finite else f"{value} is no number that JSON knows; make it a string or null"
    if depth == DEEPEST:
        return f"nests deeper than {DEEPEST} levels; flatten it or make it a string"
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((problem for item in inner if (problem := unstorable(item, depth + 1))), None)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def values_of(array: pa.Array) -> list[Any]:
    """The column as Python values, free-form ones decoded."""
    decode = _decoder(array.type)
    values = array.to_pylist()
    return values if decode is None else [decode(value) for value in values]


def to_rows(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """The rows as Python values, free-form ones decoded."""
    rows = batch.to_pylist()
    for f in batch.schema:
        if decode := _decoder(f.type):
            for row in rows:
                row[f.name] = decode(row[f.name])
    return rows


def _decoder(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What turns the stored form of a value of this type into the value; None where they are the same."""
    if is_json(kind):
        return lambda text: None if text is None else json.loads(text)
    if is_list(kind):
        inner = _decoder(kind.value_type)
        return inner and (lambda items: None if items is None else [inner(item) for item in items])
    if pt.is_struct(kind):
        fields = {f.name: decode for f in kind if (decode := _decoder(f.type))}

        def decode_fields(value: dict[str, Any] | None) -> dict[str, Any] | None:
            return value and {name: fields[name](item) if name in fields else item for name, item in value.items()}

        return decode_fields if fields else None
    return None


def all_finite(array: pa.Array) -> bool:
    """Whether no number in the column is NaN or infinite, which JSON can't write."""
    if is_list(array.type):
        return all_finite(pc.list_flatten(array))
    if pt.is_struct(array.type):
        return all(all_finite(pc.struct_field(array, i)) for i in range(array.type.num_fields))
    return not pt.is_floating(array.type) or pc.all(pc.is_finite(array), min_count=0).as_py() is not False


__all__ = [
    "DEEPEST",
    "INTEGERS",
    "JSON",
    "TRACE",
    "all_finite",
    "cast_exactly",
    "is_json",
    "is_list",
    "json_text",
    "plain_batch",
    "plain_type",
    "to_rows",
    "unstorable",
    "values_of",
]
