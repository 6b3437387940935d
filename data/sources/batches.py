"""Rows of a file as an Arrow batch that knows where they stand, for messages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Batch:
    """Rows of one file (or of another source, named by a path-like text) with their numbers there, counted from 1."""

    records: pa.RecordBatch
    file: Path | str
    numbers: Sequence[int]
    """Lines of JSON-lines and text files, rows of the others."""

    def __len__(self) -> int:
        return len(self.records)

    def place(self, index: int) -> str:
        """`file:number` of a row of the batch."""
        return f"{self.file}:{self.numbers[index]}"

    def places(self) -> list[str]:
        return row_places(self.file, self.numbers)

    def slice(self, start: int, length: int | None = None) -> "Batch":
        stop = None if length is None else start + length
        return replace(self, records=self.records.slice(start, length), numbers=self.numbers[start:stop])

    def filter(self, mask: np.ndarray) -> "Batch":
        """The rows where `mask` is true."""
        if mask.all():
            return self
        return self.take(np.flatnonzero(mask))

    def take(self, indices: np.ndarray) -> "Batch":
        return replace(
            self, records=self.records.take(pa.array(indices)), numbers=[self.numbers[int(i)] for i in indices]
        )

    def with_records(self, records: pa.RecordBatch) -> "Batch":
        """Other columns of the same rows."""
        return replace(self, records=records)


def row_places(file: Path | str, numbers: Sequence[int]) -> list[str]:
    """`file:number` of each row."""
    return [f"{file}:{number}" for number in numbers]


__all__ = ["Batch", "row_places"]
