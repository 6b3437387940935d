"""Arrow types without their encodings: what a column holds, however its file stores it."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

TRACE = ("_source_dataset", "_source_subset", "_source_split")
"""Columns added to every row."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding: `large_string`, `string_view` and dictionaries of strings are all `string`."""
    if pt.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.binary()
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(f.name, plain_type(f.type)) for f in kind])
    return kind


def is_list(kind: pa.DataType) -> bool:
    return (
        pt.is_list(kind)
        or pt.is_large_list(kind)
        or pt.is_fixed_size_list(kind)
        or pt.is_list_view(kind)
        or pt.is_large_list_view(kind)
    )


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with `plain_type` columns and no schema metadata."""
    arrays = []
    for array in batch.columns:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        kind = plain_type(array.type)
        arrays.append(array if array.type == kind else cast_exactly(array, kind))
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def cast_exactly(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast `array` to a type that `wider` allowed. Raises pa.ArrowInvalid when a value wouldn't survive."""
    if array.type.equals(kind):
        return array
    if pt.is_null(array.type):
        return pa.nulls(len(array), kind)
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


def all_finite(array: pa.Array) -> bool:
    """Whether no number in the column is NaN or infinite, which JSON can't write."""
    if is_list(array.type):
        return all_finite(pc.list_flatten(array))
    if pt.is_struct(array.type):
        return all(all_finite(pc.struct_field(array, i)) for i in range(array.type.num_fields))
    return not pt.is_floating(array.type) or pc.all(pc.is_finite(array), min_count=0).as_py() is not False


__all__ = ["TRACE", "all_finite", "cast_exactly", "is_list", "plain_batch", "plain_type"]
