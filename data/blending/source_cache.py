"""One source's chosen rows on disk: what a killed build keeps and the next one doesn't fetch again."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from data.blending.row_filters import RowFilters
from data.sources.arrow_types import all_finite
from data.sources.stream import Source, Tally
from pipeline.artifact import write_json
from pipeline.progress import progress_bar

logger = logging.getLogger(__name__)
DONE = "done.json"


@dataclass
class Collected:
    """The rows of a finished source and how they came about."""

    folder: Path
    rows: int = 0
    read: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that were read and aren't here, by reason."""
    bytes: int = 0
    """Size in memory."""
    finite: bool = True
    """No NaN and no infinity among the numbers."""
    revision: str | None = None
    parts: list[tuple[str, int]] = field(default_factory=list)
    """File name and size; the schema is the same within a part."""

    def schemas(self) -> Iterator[pa.Schema]:
        for name, _ in self.parts:
            with pa.OSFile(str(self.folder / name)) as file:
                yield pa.ipc.open_stream(file).schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        for name, _ in self.parts:
            with pa.OSFile(str(self.folder / name)) as file:
                yield from pa.ipc.open_stream(file)


def finished(folder: Path) -> Collected | None:
    """What an earlier process left complete in `folder`, None where it has to be collected."""
    try:
        facts = json.loads((folder / DONE).read_text(encoding="utf-8"))
        found = Collected(folder=folder, **facts)
        if all((folder / name).stat().st_size == size for name, size in found.parts):
            return found
    except (OSError, ValueError, TypeError):
        pass
    return None


def collect(source: Source, folder: Path, *, batch_size: int, filters: RowFilters) -> Collected:
    """Stream a source into `folder`, keeping up to `entries` rows that pass (all of them, where `entries` are drawn at
    random later); or take what is finished there already."""
    if found := finished(folder):
        filters.restore(folder)
        logger.info("%s: %d rows are here from an earlier run, not read again", source.label, found.rows)
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = Collected(folder, revision=source.revision)
    writer = _PartWriter(folder)
    started = time.monotonic()
    tally = Tally()
    most = source.config.entries if source.config.sample == "first" else None
    stream = source.stream(batch_size, tally)
    with progress_bar(total=most, desc=source.label, unit="rows") as bar:
        try:
            for batch in stream:
                kept, end, left_out = filters.select(batch, source.label, None if most is None else most - result.rows)
                tally.left_out.update(left_out)
                result.rows += len(kept)
                result.bytes += kept.nbytes
                result.finite = result.finite and all(all_finite(c) for c in kept.columns)
                if len(kept):
                    writer.write(kept)
                bar.update(len(kept))
                if result.rows == most:
                    tally.unread(len(batch) - end)
                    break
        finally:
            stream.close()
            result.parts = writer.close()
    filters.save(folder)
    result.read, result.left_out = tally.read, dict(sorted(tally.left_out.items()))
    facts = asdict(result)
    del facts["folder"]
    write_json(folder / DONE, facts)
    _log(source, result, time.monotonic() - started)
    return result


class _PartWriter:
    """Arrow stream files, a new one wherever the schema changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self.writer: pa.ipc.RecordBatchStreamWriter | None = None
        self.schema: pa.Schema | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self.writer is None or batch.schema != self.schema:
            self._end_part()
            self.paths.append(self.folder / f"part-{len(self.paths):05d}.arrow")
            self.schema = batch.schema
            self.writer = pa.ipc.new_stream(str(self.paths[-1]), batch.schema)
        self.writer.write_batch(batch)

    def _end_part(self) -> None:
        if self.writer is not None:
            self.writer.close()
            with self.paths[-1].open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> list[tuple[str, int]]:
        self._end_part()
        return [(p.name, p.stat().st_size) for p in self.paths]


def _log(source: Source, result: Collected, seconds: float) -> None:
    left_out = ", ".join(f"{count} {reason}" for reason, count in result.left_out.items())
    logger.info(
        "%s: %d rows of %d read in %.1f s (%.0f rows/s)%s",
        source.label,
        result.rows,
        result.read,
        seconds,
        result.read / max(seconds, 1e-9),
        f"; left out: {left_out}" if left_out else "",
    )


__all__ = ["Collected", "collect", "finished"]
