"""JSON lines as Arrow batches and back, without the guesses of a JSON reader that change values.

Arrow's reader is fast, but takes strings that look like dates for timestamps, long integers for floats and a missing
key for null. Its result is used for a block of lines where it can be shown to be exact; other blocks are read value by
value (data.sources.json_exact). Every block has its own schema; data.sources.schema brings them together.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.types as pt

from data.sources.arrow_types import DEEPEST, is_list, to_rows, values_of
from data.sources.batches import Batch, row_places
from data.sources.json_exact import WHOLE_IN_FLOAT, clash_error, clashing_row, parse_json, rows_to_batch
from data.sources.open_file import check_text, open_bytes
from data.sources.schema import depth_inside, wider
from pipeline.errors import InputError

BLOCK = 8 << 20
LONGEST_ROW = 16 << 20
"""Bytes of one row; a longer one is a mistake, and no tokenizer gets through it."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LARGE = re.compile(rb"[0-9](?:[0-9]{17}|[eE])")
"""Where a number may stand that has no place among 64-bit integers or finite floats."""
_LEVEL = np.zeros(256, dtype=np.int8)
_LEVEL[[ord("["), ord("{")]] = 1
_LEVEL[[ord("]"), ord("}")]] = -1


def read_json_lines(file: Path, *, block_bytes: int = BLOCK) -> Iterator[Batch]:
    """Batches of whole lines, about `block_bytes` of text each; a .gz or .zst file is unpacked.

    Raises InputError when a line isn't a JSON object, a column changes its type or a value can't be kept, naming file,
    line and column.
    """
    line = 1
    known: dict[str, pa.DataType] = {}
    with open_bytes(file) as stream:
        for block in line_blocks(stream, file, block_bytes):
            check_text(block, file, line)
            if block.strip():
                batch = _parse(block, file, line)
                _check_types(batch, known)
                yield batch
            line += block.count(b"\n")


def line_blocks(stream: BinaryIO, file: Path, size: int) -> Iterator[bytes]:
    """The stream in pieces of whole lines, about `size` bytes each. Raises InputError for a line that is too long."""
    rest, line = b"", 1
    while data := stream.read(size):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(data) > LONGEST_ROW:
            long = next((i for i, text in enumerate(data.split(b"\n")) if len(text) > LONGEST_ROW), None)
            if long is not None:
                where = f"{file}:{line + long}"
                raise InputError(f"{where}: is longer than {LONGEST_ROW >> 20} MB; split the row or leave it out")
        if end:
            yield data[:end]
            line += data.count(b"\n", 0, end)
    if rest.strip():
        yield rest + b"\n"


def _parse(block: bytes, file: Path, line: int) -> Batch:
    if line == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    lines = None
    if b"\n\n" in block or b"\n\r\n" in block or not block[:1].strip() or block.count(b"\n") < 2:
        lines = [line + i for i, text in enumerate(block.split(b"\n")) if text.strip()]
    rows = block.count(b"\n") if lines is None else len(lines)
    records = _through_arrow(block, rows)
    numbers: Sequence[int] = range(line, line + rows) if lines is None else lines
    if records is None:
        lined = [(line + i, text) for i, text in enumerate(block.decode().split("\n")) if text.strip()]
        numbers, texts = [number for number, _ in lined], [text for _, text in lined]
        places = row_places(file, numbers)
        # To look at every value takes as long as to read it: most blocks show at a glance that there is no need.
        plain = not (_SURROGATE.search(block) or _LARGE.search(block) or _deepest(block) > DEEPEST)
        read = [_row(text, place) for text, place in zip(texts, places, strict=True)]
        records = rows_to_batch(read, places, storable=plain)
    return Batch(records, file, numbers)


def _row(text: str, place: str) -> dict[str, Any]:
    row = parse_json(text, place)
    if not isinstance(row, dict):
        raise InputError(f"{place}: is no JSON object ({text.strip()[:40]}); write one object with columns a line")
    return row


def _through_arrow(block: bytes, rows: int) -> pa.RecordBatch | None:
    """The block read by Arrow, None where its result isn't certain to be what the text says."""
    if _SURROGATE.search(block) or _deepest(block) > DEEPEST:
        return None
    options = pj.ReadOptions(block_size=len(block) + 1, use_threads=False)
    try:
        table = pj.read_json(pa.BufferReader(block), read_options=options)
        if any(_has_date(f.type) for f in table.schema):
            kinds = pa.schema([pa.field(f.name, _dates_as_text(f.type)) for f in table.schema])
            table = pj.read_json(
                pa.BufferReader(block), read_options=options, parse_options=pj.ParseOptions(explicit_schema=kinds)
            )
        if len(table) != rows or not table.num_columns:
            return None
        table.validate(full=True)  # a list that begins with null after rows of null comes out broken
        records = table.combine_chunks().to_batches()[0]
    except pa.ArrowException:
        return None
    return records if all(_certain(column) for column in records.columns) else None


def _deepest(block: bytes) -> int:
    """An upper bound of the levels of lists and objects in a line (brackets in texts count as well)."""
    level = np.cumsum(_LEVEL[np.frombuffer(block, np.uint8)], dtype=np.int32)
    starts = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))[:-1] + 1
    starts = np.concatenate([[0], starts])
    before = np.concatenate([[0], level[starts[1:] - 1]])
    return int((np.maximum.reduceat(level, starts) - before).max())


def _certain(array: pa.Array, depth: int = 0, listed: bool = False) -> bool:
    """Whether a column read by Arrow says what its text said: no missing keys, no rounded numbers."""
    kind = array.type
    if is_list(kind):
        return _certain(pc.list_flatten(array), depth, True)
    if pt.is_struct(kind):
        fields = [pc.struct_field(array, i) for i in range(kind.num_fields)]
        # a null inside an object may be a key that isn't there
        inside = depth_inside(depth, listed)
        return bool(fields) and all(f.null_count == array.null_count and _certain(f, inside) for f in fields)
    if pt.is_floating(kind):
        whole = pc.equal(array, pc.floor(array))
        if depth > 1 and pc.any(whole, min_count=0).as_py():
            return False  # 1 or 1.0
        return pc.all(pc.less(pc.abs(array), WHOLE_IN_FLOAT), min_count=0).as_py() is not False
    return pt.is_string(kind) or pt.is_int64(kind) or pt.is_boolean(kind) or (pt.is_null(kind) and depth == 0)


def _check_types(batch: Batch, known: dict[str, pa.DataType]) -> None:
    """Bring `known` up to date. Raises InputError where a column has become something else than in earlier blocks."""
    for f in batch.records.schema:
        before = known.get(f.name, pa.null())
        kind = wider(before, f.type)
        if kind is None:
            values = values_of(batch.records.column(f.name))
            index = clashing_row(values, before) or 0
            raise clash_error(f.name, values[index], batch.place(index))
        known[f.name] = kind


def _has_date(kind: pa.DataType) -> bool:
    if is_list(kind):
        return _has_date(kind.value_type)
    return any(_has_date(f.type) for f in kind) if pt.is_struct(kind) else pt.is_temporal(kind)


def _dates_as_text(kind: pa.DataType) -> pa.DataType:
    if is_list(kind):
        return pa.list_(_dates_as_text(kind.value_type))
    if pt.is_struct(kind):
        return pa.struct([pa.field(f.name, _dates_as_text(f.type)) for f in kind])
    return pa.string() if pt.is_temporal(kind) else kind


def to_json_lines(batch: pa.RecordBatch) -> bytes:
    """The batch as JSON lines. Raises ValueError for numbers that JSON doesn't know (NaN, infinity)."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    return "".join([f"{encode(row)}\n" for row in to_rows(batch)]).encode()


__all__ = ["LONGEST_ROW", "line_blocks", "read_json_lines", "to_json_lines"]
