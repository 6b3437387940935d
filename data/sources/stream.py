"""A checked source as a stream of Arrow batches, whether its rows are files, of the Hub or made.

`stream` yields record batches with plain types (see data.sources.arrow_types), columns dropped and renamed, in the
order of the source; a fault of the network costs a pause and neither loses nor repeats a row.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from data.sources.arrow_types import plain_batch
from data.sources.batches import Batch
from data.sources.columns import ColumnEdit, only_rows
from data.sources.config import SourceConfig
from data.sources.messages import BadRows
from data.sources.pairs.to_interactions import to_preferences
from data.sources.to_episodes import to_interactions
from data.sources.to_messages import check_messages, to_messages
from pipeline.errors import InputError
from pipeline.hub import retrying


@dataclass
class Tally:
    """How many rows were read of a source, and how many aren't used, by reason."""

    read: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    several: bool = False
    """A row that is given out may be one of several made from a row that was read, or of none."""

    def unread(self, rows: int) -> None:
        """Take back the last rows of a batch, which nobody looked at."""
        self.read -= 0 if self.several else rows


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

    def stream(self, batch_size: int, tally: "Tally") -> Iterator[pa.RecordBatch]:
        """Batches with columns dropped and renamed and plain types. Raises InputError naming what can't be done.

        tally: counts the rows that are read and those that are left out here.
        """
        edit = ColumnEdit(self.config, self.where)
        bad = BadRows(self.config.bad_rows, tally.left_out)
        for batch in _resuming(lambda: self.batches(batch_size), self.label):
            tally.read += len(batch)
            kept = only_rows(batch, self.config, self.where)
            if len(kept) < len(batch):
                tally.left_out["other values (only)"] += len(batch) - len(kept)
            edited = kept.with_records(self._plain(edit(kept.records)))
            if self.config.interactions is not None:
                made = to_interactions(edited, self.config.interactions, self.config.messages, bad)
                tally.several = True
            elif self.config.preferences is not None:
                made = to_preferences(edited, self.config.preferences, self.config.messages, bad)
            elif self.config.conversations is not None:
                made = to_messages(edited, self.config.messages, bad)
            else:
                made = edited.records
                check_messages(edited)
            if len(made):
                yield made
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


__all__ = ["Source", "Tally"]
