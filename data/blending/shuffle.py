"""A uniformly random order for more rows than fit in memory.

Each row draws a key from the seed, in the order of the sources; the result is the rows in the order of their keys.
Rows are spread over bucket files by ranges of the key, then each bucket is sorted in memory. The order depends on the
seed and the number of a row only, not on batch sizes, bucket sizes or the machine.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

BUCKET_BYTES = 16 << 20
MOST_BUCKETS = 256  # as many files are open at a time
CHUNK_BYTES = 4 << 20
KEY = "__key"


def shuffled(batches: Iterable[pa.RecordBatch], seed: int, total_bytes: int, folder: Path) -> Iterator[pa.RecordBatch]:
    """The rows of `batches` (one schema) in random order, as batches of up to one bucket.

    Rows that have a place in the order already, in the column KEY, keep it. `total_bytes` is about the size of all rows
    in memory; `folder` takes the bucket files.
    """
    random = np.random.default_rng(seed)

    def keyed() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            placed = KEY in batch.schema.names
            yield batch if placed else batch.append_column(KEY, pa.array(random.random(len(batch))))

    for batch in _in_order(keyed(), 0.0, 1.0, total_bytes, folder):
        yield batch.drop_columns([KEY])


def _in_order(
    batches: Iterable[pa.RecordBatch], low: float, high: float, total_bytes: int, folder: Path
) -> Iterator[pa.RecordBatch]:
    count = min(-(-total_bytes // BUCKET_BYTES), MOST_BUCKETS)
    if count <= 1 or high - low < 1e-12:
        yield from _sorted(list(batches))
        return
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _spread(batches, low, high, count, folder)
    for i, size in sizes.items():
        path, width = folder / f"{i:03d}.arrow", (high - low) / count
        bounds = (low + i * width, low + (i + 1) * width)
        with pa.OSFile(str(path)) as file:  # not a memory map: mapped pages would count as this process's memory
            yield from _in_order(pa.ipc.open_stream(file), *bounds, size, folder / f"{i:03d}")
        path.unlink()


def _spread(batches: Iterable[pa.RecordBatch], low: float, high: float, count: int, folder: Path) -> dict[int, int]:
    """Write each row to the file of its bucket. Returns the bytes in each bucket that got rows."""
    writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
    sizes: dict[int, int] = {}
    try:
        for batch in _gathered(batches):
            keys = batch.column(KEY).to_numpy()
            bucket = np.clip(((keys - low) / (high - low) * count).astype(np.int64), 0, count - 1)
            order = np.argsort(bucket, kind="stable")
            moved = batch.take(pa.array(order))
            ends = np.cumsum(np.bincount(bucket, minlength=count))
            for i in range(count):
                start = ends[i - 1] if i else 0
                if ends[i] == start:
                    continue
                part = moved.slice(start, ends[i] - start)
                if i not in writers:
                    writers[i] = pa.ipc.new_stream(str(folder / f"{i:03d}.arrow"), batch.schema)
                writers[i].write_batch(part)
                sizes[i] = sizes.get(i, 0) + part.nbytes
    finally:
        for writer in writers.values():
            writer.close()
    return dict(sorted(sizes.items()))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Fewer, larger batches, so that the piece for one bucket is more than a few rows."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= CHUNK_BYTES:
            yield pa.concat_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def _sorted(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if batches:
        whole = pa.concat_batches(batches)
        batches.clear()
        yield whole.take(pa.array(np.argsort(whole.column(KEY).to_numpy(), kind="stable")))


__all__ = ["KEY", "shuffled"]
