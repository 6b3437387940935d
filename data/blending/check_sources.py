"""Where rows come from: local files, the Hugging Face Hub, generators. Each is checked before any row is read.

A check looks at a source without reading its rows: files and their columns, the Hub's list of subsets and splits, a
generator's first batch.
"""

import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.generators.registry import Rows, code_of, find_generator
from data.sources.columns import check_columns
from data.sources.config import SUFFIXES, SourceConfig
from data.sources.json_lines import read_json_lines
from data.sources.stream import Source
from pipeline.errors import InputError


def check_sources(configs: Sequence[tuple[str, SourceConfig]], seed: int) -> list[Source]:
    """Check every source before any row is read, local ones first, the Hub (metadata only) last.

    `configs` are (place in the YAML, source). Raises InputError naming file, key and remedy.
    """
    found: dict[int, Source] = {}
    for i, (where, config) in enumerate(configs):
        if config.generator is not None:
            found[i] = _check_generator(config, where, seed)
        elif not config.is_hub:
            found[i] = _check_local(config, where)
    if len(found) < len(configs):
        from data.sources.hub import HubChecker  # imports `datasets`, which takes seconds

        hub = HubChecker()
        for i, (where, config) in enumerate(configs):
            if config.is_hub:
                batches, revision = hub.check(config, where)
                found[i] = Source(config, where, batches, f"{config.name}@{revision}", revision)
    return [found[i] for i in range(len(configs))]


def _check_local(config: SourceConfig, where: str) -> Source:
    files = _local_files(config, where)
    facts = []
    for file in files:
        try:
            columns = _peek_columns(file)
            status = file.stat()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{where}.name: {file} can't be read: {error}; repair it or leave it out") from None
        check_columns(config, columns, where, absent=file.suffix == ".parquet")
        facts.append([str(file.resolve()), status.st_size, status.st_mtime_ns])

    def batches(batch_size: int) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _read_local(file, batch_size, config)

    known = all(file.suffix == ".parquet" for file in files)
    return Source(config, where, batches, _digest(facts), columns_known=known)


def _local_files(config: SourceConfig, where: str) -> list[Path]:
    path = Path(str(config.name)).expanduser()
    if path.is_dir():
        folder = path / config.subset if config.subset else path
        files = [p for p in folder.rglob(f"{config.split_name}*") if p.name.endswith(SUFFIXES)]
        if not files:
            raise InputError(
                f"{where}: {folder} holds no data file that begins with {config.split_name} (.parquet, .jsonl);"
                " give subset and split, or a path to the files"
            )
    else:
        files = [Path(p) for p in glob.glob(str(path), recursive=True)]
        if not files:
            raise InputError(f"{where}.name: no file matches {config.name} (looked in {Path.cwd()}); correct the path")
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise InputError(f"{where}.name: {file} is none of {', '.join(SUFFIXES)}; convert it or name other files")
    return sorted(files)


def _peek_columns(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return pq.read_schema(file).names
    return next(iter(read_json_lines(file, block_bytes=1 << 16, peek=True))).schema.names


def _read_local(file: Path, batch_size: int, config: SourceConfig) -> Iterator[pa.RecordBatch]:
    if file.suffix != ".parquet":
        for batch in read_json_lines(file):
            for start in range(0, len(batch), batch_size):
                yield batch.slice(start, batch_size)
        return
    # without pre-buffering a row group isn't held in memory whole beside the batches made from it
    with pq.ParquetFile(file, pre_buffer=False) as reader:
        columns = [n for n in reader.schema_arrow.names if n in config.only or n not in config.drop_columns]
        yield from reader.iter_batches(batch_size, columns=columns)


def _check_generator(config: SourceConfig, where: str, seed: int) -> Source:
    options = {k: v for k, v in (config.generator or {}).items() if k != "kind"}
    make = find_generator(str((config.generator or {})["kind"]), f"{where}.generator")

    def rows() -> Iterator[Rows]:
        return make(options, config.entries, config.split_name, seed)

    def batches(batch_size: int) -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, Any]] = []
        for made in rows():
            if isinstance(made, list):  # small lists are gathered, so that one schema covers a whole batch
                waiting += made
                while len(waiting) >= batch_size:
                    yield _from_rows(waiting[:batch_size], config, where)
                    del waiting[:batch_size]
            else:
                yield made
        if waiting:
            yield _from_rows(waiting, config, where)

    try:
        first = next(iter(rows()), None)
    except InputError as error:
        raise InputError(f"{where}.generator: {error}") from None
    if first is not None and len(first):
        columns = list(first[0]) if isinstance(first, list) else first.schema.names
        check_columns(config, columns, where, absent=True)
    return Source(config, where, batches, _digest([options, seed, code_of(make)]))


def _from_rows(rows: list[dict[str, Any]], config: SourceConfig, where: str) -> pa.RecordBatch:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return pa.RecordBatch.from_pydict({name: [row.get(name) for row in rows] for name in columns})
    except pa.ArrowException as error:
        raise InputError(f"{where}: the rows of {config.label} don't fit one type a column: {error}") from None


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


__all__ = ["check_sources"]
