"""Collected rows brought together: one schema, one order, shards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.blending.config import BlendConfig
from data.blending.copies import draw_copies
from data.blending.metadata import Blend
from data.blending.shards import Format, Rows, write_split
from data.blending.shuffle import shuffled
from data.blending.source_cache import Collected
from data.sources.arrow_types import TRACE
from data.sources.config import SourceConfig
from data.sources.schema import align_batch, align_schemas, fits_json
from data.sources.stream import Source
from pipeline.errors import InputError
from pipeline.progress import progress_bar

JSON_ROWS = 50_000
SOURCE = "__source"


def write_blend(
    parts: list[tuple[Source, Collected]], config: BlendConfig, folder: Path, scratch: Path, parquet: bool
) -> Blend:
    """Align, shuffle and write the rows of one blend."""
    copies = draw_copies([(s.config, c.rows) for s, c in parts], config.seed, config.held_out)
    collected = [c.rows for _, c in parts]
    rows_of = copies.rows_of(collected) if copies else collected
    total = sum(rows_of)
    if total <= config.held_out:
        raise InputError(
            f"{config.name}: {total} rows are left for {folder.name}, with held_out {config.held_out}; ask for more"
            " entries or loosen the filters"
        )
    schema = align_schemas((s.label, kind) for s, c in parts for kind in c.schemas())
    plain = fits_json(schema) and all(c.finite for _, c in parts)
    if not parquet and not plain:
        raise InputError(
            "--disable-parquet-optimization: JSON can't hold every value of these columns"
            f" ({', '.join(f'{f.name}: {f.type}' for f in schema)}); leave the flag out"
        )
    form: Format = "json" if plain and (total <= JSON_ROWS or not parquet) else "parquet"
    traced = pa.schema([*schema, *(pa.field(name, pa.string()) for name in TRACE)])
    size = sum(c.bytes * rows // max(c.rows, 1) for (_, c), rows in zip(parts, rows_of, strict=True))
    numbered = _numbered(parts, schema)
    ordered = shuffled(copies.repeat(numbered) if copies else numbered, config.seed, size, scratch)
    with progress_bar(total=total, desc=f"writing {folder.name}", unit="rows") as bar:
        rows = Rows(_traced(ordered, [s.config for s, _ in parts], traced, bar))
        splits = {}
        for split, count in (("validation", config.held_out), ("train", total - config.held_out)):
            if count:
                share = size * count // total
                splits[split] = write_split(
                    rows, rows=count, size=share, schema=traced, folder=folder, split=split, form=form
                )
    return Blend(parts, rows_of, traced, form, splits)


def _numbered(parts: list[tuple[Source, Collected]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows in the common schema, in the order of the sources, with the number of the source."""
    for i, (source, collected) in enumerate(parts):
        for batch in collected.batches():
            aligned = align_batch(batch, schema, source.label)
            yield aligned.append_column(SOURCE, pa.array(np.full(len(batch), i, dtype=np.int16)))


def _traced(
    batches: Iterator[pa.RecordBatch], sources: list[SourceConfig], schema: pa.Schema, bar: Any
) -> Iterator[pa.RecordBatch]:
    """The rows with the names of their source instead of its number."""
    names = [
        pa.array([s.dataset for s in sources], pa.string()),
        pa.array([s.subset for s in sources], pa.string()),
        pa.array([s.split_name for s in sources], pa.string()),
    ]
    for batch in batches:
        number = batch.column(SOURCE)
        columns = batch.drop_columns([SOURCE]).columns
        yield pa.RecordBatch.from_arrays([*columns, *(n.take(number) for n in names)], schema=schema)
        bar.update(len(batch))


__all__ = ["write_blend"]
