"""Rows whose texts are nearly the same: the first is kept, the others are left out.

Two texts are as alike as the share of their runs of words that both have (Jaccard). Candidates are found by MinHash and
locality-sensitive hashing (Broder 1997; Leskovec et al., "Mining of Massive Datasets", chapter 3), datasketch's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data.blending.texts import row_texts, word_ngrams
from pipeline.ranges import OpenShare, PositiveInt, Text

if TYPE_CHECKING:
    from datasketch import MinHash

SEED = 1


@dataclass(kw_only=True, frozen=True)
class NearDuplicatesConfig:
    """`near_duplicates:` of a blend."""

    threshold: OpenShare = 0.8
    """Rows that are estimated to be at least so alike are duplicates."""
    ngram: PositiveInt = 5
    """So many words make one run."""
    permutations: PositiveInt = 128
    """Numbers in a row's signature: the estimate is good to about 1 / sqrt(permutations)."""
    columns: list[Text] = field(default_factory=list)
    """Columns whose texts count. Default: those that hold a row's text by its kind."""


class NearDuplicates:
    """The signatures of all rows that were kept, to look rows up in. About 2 kB a row."""

    reason = "near duplicates"
    file = "signatures.bin"

    def __init__(self, config: NearDuplicatesConfig) -> None:
        from datasketch import MinHashLSH  # imports scipy, which takes half a second

        self.config = config
        self.index = MinHashLSH(threshold=config.threshold, num_perm=config.permutations)
        self.kept: list[MinHash] = []
        self.saved = 0

    def keys(self, batch: pa.RecordBatch, label: str) -> list[MinHash]:
        """The signature of each row."""
        return [self._signature(texts) for texts in row_texts(batch, self.config.columns, label, "near_duplicates")]

    def _signature(self, texts: list[str]) -> MinHash:
        from datasketch import MinHash

        whole = "\n".join(texts)
        runs = set(word_ngrams(whole, self.config.ngram)) or {whole}
        made = MinHash(num_perm=self.config.permutations, seed=SEED)
        made.update_batch([run.encode() for run in sorted(runs)])
        return made

    def knows(self, key: MinHash) -> bool:
        """Whether a row that is nearly the same was kept before."""
        return any(key.jaccard(self.kept[i]) >= self.config.threshold for i in self.index.query(key))

    def remember(self, key: MinHash) -> None:
        """Take note of a row that is kept."""
        self.index.insert(len(self.kept), key)
        self.kept.append(key)

    def take_fresh(self) -> bytes:
        """The signatures since the last call, for `restore` in a later process."""
        fresh, self.saved = self.kept[self.saved :], len(self.kept)
        return b"".join(key.hashvalues.astype(np.uint64).tobytes() for key in fresh)

    def restore(self, saved: bytes) -> None:
        """Remember the rows of a source that an earlier process has finished."""
        from datasketch import MinHash

        for values in np.frombuffer(saved, np.uint64).reshape(-1, self.config.permutations):
            made = MinHash(num_perm=self.config.permutations, seed=SEED)
            made.hashvalues = values.astype(made.hashvalues.dtype)
            self.remember(made)
        self.saved = len(self.kept)


__all__ = ["NearDuplicates", "NearDuplicatesConfig"]
