"""The rows of local files, one reader for all rooms: parquet, JSON lines, JSON arrays, CSV and TSV, text; .gz and .zst.

Values come out as they are written: dates in JSON stay texts, long integers stay integers, objects gain no keys of
other rows, every column of a CSV file is text, a line of a text file is a row `{text}`. What can't be kept is refused
with file, row and column.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.sources.arrow_types import plain_batch, to_rows
from data.sources.batches import Batch, row_places
from data.sources.files import FileQuery, Selection, find_files
from data.sources.json_exact import parse_json, rows_to_batch
from data.sources.json_lines import BLOCK, LONGEST_ROW, line_blocks, read_json_lines
from data.sources.open_file import check_text, open_bytes
from data.sources.schema import align_batch, align_schemas
from data.sources.split_names import same_split
from pipeline.errors import InputError

SPLIT_COLUMN = "split"
ROWS = 1000


def read_batches(
    selection: Selection, *, batch_size: int = ROWS, without: Sequence[str] = (), plain: bool = True
) -> Iterator[Batch]:
    """The selected rows in order, in batches of at most `batch_size`, each of one file and one schema.

    without: columns not to be read where the format allows it. plain: whether columns get plain types
    (data.sources.arrow_types). Raises InputError with file and row, also where no row is selected.
    """
    first, last = _bounds(selection)
    seen: set[str] = set()
    number = given = 0
    for file in selection.files:
        for batch in _file_batches(file, batch_size, without, selection.split_column):
            if selection.split_column:
                batch = _of_split(batch, selection, seen)
            start, stop = max(first - number, 0), len(batch) if last is None else min(last - number, len(batch))
            number += len(batch)
            if stop > start:
                given += stop - start
                batch = batch.slice(start, stop - start)
                yield batch.with_records(_plain(batch)) if plain else batch
            if last is not None and number >= last:
                return
    if not given:
        raise _nothing(selection, seen)


def read_rows(selection: Selection) -> Iterator[tuple[str, dict[str, Any]]]:
    """The selected rows one by one, each with its place (`file:row`), as Python values.

    Raises InputError, also where a file of a built blend isn't what was built.
    """
    selection.check_built()
    for batch in read_batches(selection):
        yield from zip(batch.places(), to_rows(batch.records), strict=True)


def read_table(selection: Selection, place_column: str | None = None) -> pa.Table:
    """All selected rows as one table of plain types, free-form values as `arrow.json`.

    place_column: name of a column to add that holds `file:row`.
    """
    batches = []
    for batch in read_batches(selection):
        records = batch.records
        if place_column is not None:
            records = records.append_column(place_column, pa.array(batch.places()))
        batches.append(records)
    schema = align_schemas((selection.query.path, batch.schema) for batch in batches)
    return pa.Table.from_batches([align_batch(b, schema, selection.query.path) for b in batches], schema)


def count_rows(selection: Selection) -> int:
    """How many rows a selection has before its slice."""
    if not selection.split_column and all(file.suffix == ".parquet" for file in selection.files):
        return sum(_parquet(file).metadata.num_rows for file in selection.files)
    whole = Selection(selection.query, selection.files, selection.split, None, selection.split_column)
    return sum(len(batch) for batch in read_batches(whole, plain=False))


def first_columns(file: Path) -> list[str]:
    """The columns of a file's first rows (of all rows, in a parquet file)."""
    if file.suffix == ".parquet":
        return _parquet(file).schema_arrow.names
    small = 1 << 16
    batches = read_json_lines(file, block_bytes=small) if _is_json_lines(file) else _file_batches(file, 1, (), False)
    first = next(iter(batches), None)
    if first is None:
        raise InputError(f"{file}: has no rows; leave it out")
    return first.records.schema.names


def check_disjoint(train: Selection, held_out: Selection) -> None:
    """Raises InputError where held-out rows are training rows as well."""
    if not {f.resolve() for f in train.files} & {f.resolve() for f in held_out.files}:
        return
    if train.split_column and held_out.split_column and not same_split(train.split or "", held_out.split or ""):
        return
    if train.files == held_out.files and (train.rows or held_out.rows):
        spans = [s.rows.bounds(count_rows(s), s.query.at("split")) if s.rows else None for s in (train, held_out)]
        if None not in spans and (spans[0][1] <= spans[1][0] or spans[1][1] <= spans[0][0]):  # ty: ignore[not-subscriptable]
            return
    raise InputError(
        f"{held_out.query.at('split')}: the held-out rows are training rows as well ({held_out.files[0]}); name a split"
        " with files of its own"
    )


def _bounds(selection: Selection) -> tuple[int, int | None]:
    if selection.rows is None:
        return 0, None
    return selection.rows.bounds(count_rows(selection), selection.query.at("split"))


def _plain(batch: Batch) -> pa.RecordBatch:
    try:
        return plain_batch(batch.records)
    except pa.ArrowException as error:
        raise InputError(f"{batch.place(0)}: {error}; drop the column (drop_columns) or convert it") from None


def _of_split(batch: Batch, selection: Selection, seen: set[str]) -> Batch:
    """Rows whose column `split` is the one asked for; all, where there is no such column and `train` is."""
    names = batch.records.schema.names
    wanted = str(selection.split)
    if SPLIT_COLUMN not in names:
        if same_split(wanted, "train"):
            return batch
        raise InputError(
            f"{selection.query.at('split')}: {batch.file} has no split {wanted!r}: neither its name nor a column"
            f" `{SPLIT_COLUMN}` says one; leave split out, or name a folder with a file for each split"
        )
    values = [str(value) for value in batch.records.column(SPLIT_COLUMN).to_pylist()]
    seen.update(values)
    exact = np.array([value == wanted for value in values], dtype=bool)
    return batch.filter(exact if exact.any() else np.array([same_split(v, wanted) for v in values], dtype=bool))


def _nothing(selection: Selection, seen: set[str]) -> InputError:
    if seen:
        splits = ", ".join(sorted(seen)[:12])
        return InputError(
            f"{selection.query.at('split')}: no row of {selection.query.path} has the split {selection.split!r}; the"
            f" column `{SPLIT_COLUMN}` has {splits}"
        )
    return InputError(f"{selection.query.at()}: {selection.files[0]} has no rows; leave it out")


def _file_batches(file: Path, batch_size: int, without: Sequence[str], split_column: bool) -> Iterator[Batch]:
    kind = file.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if kind == "parquet":
        kept_out = [name for name in without if not (split_column and name == SPLIT_COLUMN)]
        yield from _parquet_batches(file, batch_size, kept_out)
        return
    made = {"csv": _separated, "tsv": _separated, "txt": _text}.get(kind, _json)(file, batch_size)
    for batch in made:
        for start in range(0, len(batch), batch_size):
            yield batch.slice(start, batch_size)


def _parquet(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, pre_buffer=False)  # else a row group is in memory whole beside its batches
    except (pa.ArrowException, OSError) as error:
        raise _bad_parquet(file, error) from None


def _bad_parquet(file: Path, error: Exception) -> InputError:
    return InputError(f"{file}: isn't readable as parquet ({' '.join(str(error).split())[:120]}); get it again")


def _parquet_batches(file: Path, batch_size: int, without: Sequence[str]) -> Iterator[Batch]:
    number = 1
    with _parquet(file) as reader:
        columns = [name for name in reader.schema_arrow.names if name not in without]
        batches = reader.iter_batches(batch_size, columns=columns)
        while True:
            try:
                records = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise _bad_parquet(file, error) from None
            if records is None:
                return
            _check_sizes(records, file, number)
            yield Batch(records, file, range(number, number + len(records)))
            number += len(records)


def _check_sizes(records: pa.RecordBatch, file: Path, number: int) -> None:
    if records.nbytes > LONGEST_ROW:
        for i in range(len(records)):
            if records.slice(i, 1).nbytes > LONGEST_ROW:
                raise InputError(f"{file}:{number + i}: is longer than {LONGEST_ROW >> 20} MB; split or leave it out")


def _is_json_lines(file: Path) -> bool:
    """Whether a JSON file holds one object a line and not one array."""
    if not file.name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson", ".json")):
        return False
    with open_bytes(file) as stream:
        start = stream.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
    return not start.startswith(b"[")


def _json(file: Path, batch_size: int) -> Iterator[Batch]:
    if _is_json_lines(file):
        yield from read_json_lines(file)
        return
    with open_bytes(file) as stream:
        data = stream.read()
    check_text(data, file, 1)
    rows = parse_json(data.decode("utf-8-sig"), str(file), "give an array of objects, or one object a line")
    bad = next((i for i, row in enumerate(rows, start=1) if not isinstance(row, dict)), None)
    if bad is not None:
        raise InputError(f"{file}:{bad}: is no JSON object; give an array of objects with columns")
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        numbers = range(start + 1, start + 1 + len(part))
        yield Batch(rows_to_batch(part, row_places(file, numbers)), file, numbers)


def _separated(file: Path, batch_size: int) -> Iterator[Batch]:
    """CSV or TSV with a first line of column names. Every value is text."""
    tabs = ".tsv" in file.suffixes
    csv.field_size_limit(LONGEST_ROW)
    with open_bytes(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter="\t" if tabs else ",", strict=True)
        header: list[str] | None = None
        rows: list[list[str]] = []
        number = 0
        while (row := _next_record(reader, file, number + 1)) is not None:
            if header is None:
                header = _check_header(row, file)
                continue
            if not row:
                continue
            number += 1
            if len(row) != len(header):
                raise InputError(f"{file}:{number}: row {number} has {len(row)} values, its header {len(header)} names")
            rows.append(row)
            if len(rows) == batch_size:
                yield _texts_batch(header, rows, file, number)
                rows = []
        if rows and header:
            yield _texts_batch(header, rows, file, number)


def _next_record(reader: Any, file: Path, number: int) -> list[str] | None:
    try:
        return next(reader, None)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}:{number}: isn't UTF-8 ({error.reason}); convert the file") from None
    except csv.Error as error:
        raise InputError(f"{file}:{number}: isn't usable as CSV ({error}); correct it") from None


def _check_header(names: list[str], file: Path) -> list[str]:
    wrong = next((n for n in names if not n.strip() or names.count(n) > 1), None)
    if wrong is not None or not names:
        shown = "an empty name" if not (wrong or "").strip() else f"{wrong!r} twice"
        raise InputError(f"{file}: its first line has {shown}; give every column a name of its own")
    return names


def _texts_batch(header: list[str], rows: list[list[str]], file: Path, last: int) -> Batch:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(columns, names=header), file, range(last - len(rows) + 1, last + 1))


def _text(file: Path, batch_size: int) -> Iterator[Batch]:
    """Lines that aren't blank, as the column `text`."""
    line = 1
    with open_bytes(file) as stream:
        for block in line_blocks(stream, file, BLOCK):
            check_text(block, file, line)
            lines = block.decode().removeprefix("\ufeff").split("\n")
            numbers = [line + i for i, text in enumerate(lines) if text.strip()]
            texts = [text.removesuffix("\r") for text in lines if text.strip()]
            line += len(lines) - 1
            if texts:
                yield Batch(pa.RecordBatch.from_pydict({"text": texts}), file, numbers)


__all__ = [
    "FileQuery",
    "Selection",
    "check_disjoint",
    "count_rows",
    "find_files",
    "first_columns",
    "read_batches",
    "read_rows",
    "read_table",
]
