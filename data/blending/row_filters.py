"""Which rows of a blend's sources stay, and how many of the others left for which reason."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from data.blending.config import BlendConfig
from data.blending.contamination import Contamination
from data.blending.near_duplicates import NearDuplicates
from data.blending.selection import Deduplicator

Mask = Callable[[pa.RecordBatch, str], np.ndarray]


class Memory(Protocol):
    """What knows the rows that were kept before, in this source or an earlier one of the blend."""

    reason: str
    file: str

    def keys(self, batch: pa.RecordBatch, label: str) -> Sequence[Any]: ...
    def knows(self, key: Any) -> bool: ...
    def remember(self, key: Any) -> None: ...
    def take_fresh(self) -> bytes: ...
    def restore(self, saved: bytes) -> None: ...


class RowFilters:
    """The filters of one blend."""

    def __init__(self, config: BlendConfig, contamination: Contamination | None) -> None:
        """contamination: what the blends of a dataset share. Raises InputError for a tokenizer that can't be loaded."""
        self.masks: list[tuple[str, Mask]] = []
        if config.length is not None:
            self.masks.append(("length", config.length.open("length")))
        if contamination is not None:
            self.masks.append((contamination.reason, contamination.keep))
        self.memories: list[Memory] = []
        if config.deduplicate:
            self.memories.append(Deduplicator(None if config.deduplicate is True else config.deduplicate))
        if config.near_duplicates is not None:
            self.memories.append(NearDuplicates(config.near_duplicates))

    def select(self, batch: pa.RecordBatch, label: str, most: int | None) -> tuple[pa.RecordBatch, int, Counter[str]]:
        """The first `most` rows of the batch that stay; up to which row it was looked at; the others by reason."""
        if not self.masks and not self.memories:
            kept = batch.slice(0, most)
            return kept, len(kept), Counter()
        reasons: list[str | None] = [None] * len(batch)
        for reason, mask in self.masks:
            for i in np.flatnonzero(~mask(batch, label)):
                reasons[i] = reasons[i] or reason
        keys = [memory.keys(batch, label) for memory in self.memories]
        kept: list[int] = []
        end = 0
        for end, reason in enumerate(reasons, start=1):
            i = end - 1
            if reason is None:
                reasons[i] = next((m.reason for m, k in zip(self.memories, keys, strict=True) if m.knows(k[i])), None)
            if reasons[i] is None:
                kept.append(i)
                for memory, made in zip(self.memories, keys, strict=True):
                    memory.remember(made[i])
                if len(kept) == most:
                    break
        rows = batch if len(kept) == len(batch) else batch.take(pa.array(kept, pa.int64()))
        return rows, end, Counter(reason for reason in reasons[:end] if reason is not None)

    def save(self, folder: Path) -> None:
        """Keep what was remembered of a source that is finished."""
        for memory in self.memories:
            (folder / memory.file).write_bytes(memory.take_fresh())

    def restore(self, folder: Path) -> None:
        """Remember the rows of a source that was finished in an earlier process."""
        for memory in self.memories:
            memory.restore((folder / memory.file).read_bytes())


__all__ = ["RowFilters"]
