"""Where rows come from: local files, the Hugging Face Hub, generators. Each is checked before any row is read.

A check looks at a source without reading its rows: files and their columns, the Hub's list of subsets and splits, a
generator's first batch.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from data.generators.registry import Rows, content_of, find_generator
from data.sources.batches import Batch
from data.sources.columns import check_columns
from data.sources.config import SourceConfig
from data.sources.json_exact import rows_to_batch
from data.sources.reading import FileQuery, find_files, first_columns, read_batches
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
    query = FileQuery(path=str(config.name), subset=config.subset, split=config.split, where=where)
    selection = find_files(query)
    for file in selection.files:
        check_columns(config, first_columns(file), where, absent=file.suffix == ".parquet")

    def batches(batch_size: int) -> Iterator[Batch]:
        unread = [name for name in config.drop_columns if name not in config.only]
        return read_batches(selection, batch_size=batch_size, without=unread, plain=False)

    known = all(file.suffix == ".parquet" for file in selection.files)
    return Source(config, where, batches, selection.fingerprint(), columns_known=known)


def _check_generator(config: SourceConfig, where: str, seed: int) -> Source:
    options = {k: v for k, v in (config.generator or {}).items() if k != "kind"}
    make = find_generator(str((config.generator or {})["kind"]), f"{where}.generator")

    def rows() -> Iterator[Rows]:
        return make(options, config.entries, config.split_name, seed)

    def batches(batch_size: int) -> Iterator[Batch]:
        number = 1
        for records in _gathered(rows(), batch_size, config.label):
            yield Batch(records, config.label, range(number, number + len(records)))
            number += len(records)

    try:
        first = next(iter(rows()), None)
    except InputError as error:
        raise InputError(f"{where}.generator: {error}") from None
    if first is not None and len(first):
        columns = list(first[0]) if isinstance(first, list) else first.schema.names
        check_columns(config, columns, where, absent=True)
    return Source(config, where, batches, _digest([options, config.split_name, seed, content_of(make, options)]))


def _gathered(made: Iterator[Rows], batch_size: int, label: str) -> Iterator[pa.RecordBatch]:
    """A generator's rows as batches: small lists are gathered, so that one schema covers a whole batch."""
    waiting: list[dict[str, Any]] = []
    for rows in made:
        if isinstance(rows, list):
            waiting += rows
            while len(waiting) >= batch_size:
                yield rows_to_batch(waiting[:batch_size], [label] * batch_size)
                del waiting[:batch_size]
        else:
            yield rows
    if waiting:
        yield rows_to_batch(waiting, [label] * len(waiting))


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


__all__ = ["check_sources"]
