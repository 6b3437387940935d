"""JSON lines as Arrow batches and back, without the guesses of a JSON reader that change values.

Arrow's reader takes the schema of the first block for the whole file and turns strings that look like dates into
timestamps. Here every block has its own schema (data.blending.schema brings them together) and strings stay strings.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.types as pt

from data.sources.arrow_types import is_list
from pipeline.errors import InputError

JSON_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
BLOCK = 8 << 20


def read_json_lines(file: Path, *, block_bytes: int = BLOCK, peek: bool = False) -> Iterator[pa.RecordBatch]:
    """Batches of whole lines, about `block_bytes` of text each; only the first one with `peek`.

    Raises InputError when a line isn't a JSON object or a column changes its type, naming file and line.
    """
    line, found = 1, False
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        for block in _blocks(stream, block_bytes):
            if line == 1 and block.lstrip()[:1] == b"[":
                raise InputError(f"{file}: is a JSON array; write one object a line (JSON lines)")
            if block.strip():
                found = True
                yield from _parse(block, file, line)
            if peek and found:
                return
            line += block.count(b"\n")
    if not found:
        raise InputError(f"{file}: has no rows; leave it out")


def _blocks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(size):
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield data[:end]
    if rest.strip():
        yield rest + b"\n"


def _parse(block: bytes, file: Path, line: int) -> list[pa.RecordBatch]:
    options = pj.ReadOptions(block_size=len(block) + 1, use_threads=False)
    try:
        table = pj.read_json(pa.BufferReader(block), read_options=options)
        if any(_has_date(f.type) for f in table.schema):
            kinds = pa.schema([pa.field(f.name, _dates_as_text(f.type)) for f in table.schema])
            table = pj.read_json(
                pa.BufferReader(block), read_options=options, parse_options=pj.ParseOptions(explicit_schema=kinds)
            )
    except pa.ArrowException as error:
        raise InputError(f"{file}:{_bad_line(block, line)}: not usable as JSON lines: {error}; correct it") from None
    return table.combine_chunks().to_batches()


def _bad_line(block: bytes, first: int) -> int:
    """The first line that isn't a JSON object; the block's first line where each alone is fine."""
    for i, text in enumerate(block.splitlines()):
        try:
            if text.strip() and not isinstance(json.loads(text), dict):
                return first + i
        except ValueError:
            return first + i
    return first


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
    return "".join([f"{encode(row)}\n" for row in batch.to_pylist()]).encode()


__all__ = ["JSON_SUFFIXES", "read_json_lines", "to_json_lines"]
