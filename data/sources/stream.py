"""A checked source as a stream of Arrow batches, whether its rows are files, of the Hub or made.

`stream` yields record batches with plain types (see data.sources.arrow_types), columns dropped and renamed, in the
order of the source; a fault of the network costs a pause and neither loses nor repeats a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from data.sources.arrow_types import plain_batch
from data.sources.batches import Batch
from data.sources.columns import ColumnEdit, only_rows
from data.sources.config import SourceConfig
from data.sources.to_episodes import to_interactions
from pipeline.errors import InputError
from pipeline.hub import retrying


@dataclass
class Source:
    """A checked source, ready to stream."""

    config: SourceConfig
    where: str
    """`file: datasets[2]`, for messages."""
    batches: Callable[[int], Iterator[Batch]]
    """Raw batches of about so many rows from the start; may be called again."""
    fingerprint: str
    """Changes when the rows would come out differently, as far as that can be told without reading them."""
    revision: str | None = None
    """Commit of a Hub dataset."""
    columns_known: bool = False
    """All columns were seen, and edits of absent ones reported, when the source was checked."""

    @property
    def label(self) -> str:
        return self.config.label

    def stream(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """Batches with columns dropped and renamed and plain types. Raises InputError naming what can't be done."""
        edit = ColumnEdit(self.config, self.where)
        for batch in _resuming(lambda: self.batches(batch_size), self.label):
            kept = only_rows(batch, self.config, self.where)
            edited = kept.with_records(self._plain(edit(kept.records)))
            if self.config.interactions is None:
                yield edited.records
            elif len(episodes := to_interactions(edited, self.config.interactions)):
                yield episodes
        if not self.columns_known:
            edit.finish()

    def _plain(self, records: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return plain_batch(records)
        except pa.ArrowException as error:
            raise InputError(f"{self.where}: {self.label}: {error}; add it to drop_columns or convert it") from None


def _resuming(open_stream: Callable[[], Iterator[Batch]], label: str) -> Iterator[Batch]:
    """Batches of a stream that is opened again after a passing fault, without the rows that were already given out."""
    given = 0
    stream: Iterator[Batch] | None = None

    def advance() -> Batch | None:
        nonlocal stream
        if stream is None:
            stream = _without_first(open_stream(), given)
        try:
            return next(stream, None)
        except Exception:
            stream = None
            raise

    while (batch := retrying(advance, what=f"reading {label} at row {given}")) is not None:
        given += len(batch)
        yield batch


def _without_first(stream: Iterator[Batch], rows: int) -> Iterator[Batch]:
    for batch in stream:
        if rows < len(batch):
            yield batch.slice(rows)
        rows = max(0, rows - len(batch))


__all__ = ["Source"]
