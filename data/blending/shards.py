"""A stream of rows as files of equal numbers of rows: JSON lines for small corpora, parquet for large ones."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data.sources.arrow_types import TRACE
from data.sources.json_lines import to_json_lines

Format = Literal["json", "parquet"]
SUFFIX = {"json": "jsonl", "parquet": "parquet"}
SHARD_ROWS = {"json": 10_000, "parquet": 50_000}
SHARD_BYTES = 500 << 20
ROW_GROUP = 2_000


@dataclass
class Shard:
    """One file of the result."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Rows:
    """A stream of batches of any size, taken in exact numbers of rows."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches = batches
        self.rest: pa.RecordBatch | None = None

    def take(self, count: int) -> Iterator[pa.RecordBatch]:
        """The next `count` rows, in pieces."""
        while count > 0:
            batch = self.rest if self.rest is not None else next(self.batches)
            piece = batch.slice(0, count)
            self.rest = batch.slice(count) if len(batch) > count else None
            count -= len(piece)
            yield piece


def write_split(
    source: Rows, *, rows: int, size: int, schema: pa.Schema, folder: Path, split: str, form: Format
) -> list[Shard]:
    """Take the next `rows` rows into files `split-00000-of-0000N` in `folder`. `size`: about their bytes in memory.

    What is in which file depends on the numbers of rows only, not on the batches they come in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, -(-rows // SHARD_ROWS[form]), -(-size // SHARD_BYTES))
    bounds = [rows * i // count for i in range(count + 1)]
    made = []
    for i in range(count):
        path = folder / f"{split}-{i:05d}-of-{count:05d}.{SUFFIX[form]}"
        wanted = bounds[i + 1] - bounds[i]
        with path.open("wb") as opened:
            file = _HashedFile(opened)
            if form == "json":
                for batch in source.take(wanted):
                    for start in range(0, len(batch), ROW_GROUP):
                        file.write(to_json_lines(batch.slice(start, ROW_GROUP)))
            else:
                _write_parquet(source, wanted, schema, file)
        made.append(Shard(f"{folder.name}/{path.name}", wanted, path.stat().st_size, file.digest.hexdigest()))
    return made


class _HashedFile:
    """A file that is written from front to back, and the SHA-256 of what went in."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write_parquet(source: Rows, rows: int, schema: pa.Schema, file: _HashedFile) -> None:
    # A dictionary pays for columns of few values; for long texts it is built and then thrown away.
    few = [p for p in _leaf_paths(schema) if p in TRACE or p.endswith(".role")]
    with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, use_dictionary=few) as writer:
        for start in range(0, rows, ROW_GROUP):
            group = pa.Table.from_batches(source.take(min(ROW_GROUP, rows - start)), schema)
            writer.write_table(group, row_group_size=ROW_GROUP)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Names of the schema's leaf columns as parquet has them (`messages.list.element.role`)."""

    def paths(prefix: str, kind: pa.DataType) -> list[str]:
        if pa.types.is_list(kind):
            return paths(f"{prefix}.list.element", kind.value_type)
        if pa.types.is_struct(kind):
            return [p for f in kind for p in paths(f"{prefix}.{f.name}", f.type)]
        return [prefix]

    return [p for f in schema for p in paths(f.name, f.type)]


__all__ = ["Format", "Rows", "Shard", "write_split"]
