"""How often each collected row is in a blend: drawn by seed from `entries`, `sample` and `weight` of its source.

Rows that are held out are chosen first, by the order of the shuffle, and are there once; only the others are repeated.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.blending.shuffle import KEY
from data.sources.config import SourceConfig


@dataclass(frozen=True)
class Copies:
    """For the rows of all sources, one after the other: how often each is there, and where in the order at first."""

    counts: np.ndarray
    keys: np.ndarray
    held_out_until: float
    """The largest key of a row that is held out."""
    seed: int

    def rows_of(self, sizes: Sequence[int]) -> list[int]:
        """Rows in the blend by source; `sizes` are those collected."""
        ends = np.cumsum([0, *sizes])
        return [int(self.counts[a:b].sum()) for a, b in itertools.pairwise(ends)]

    def repeat(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows so often, each copy with its own place in the order in the column KEY."""
        random = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(2,)))
        start = 0
        for batch in batches:
            counts, keys = self.counts[start : start + len(batch)], self.keys[start : start + len(batch)]
            start += len(batch)
            taken = np.repeat(np.arange(len(batch)), counts)
            again = np.flatnonzero(np.diff(taken, prepend=-1) == 0)
            places = keys[taken]
            # copies stand behind all that is held out, so that they are trained on
            places[again] = self.held_out_until + (1 - self.held_out_until) * random.random(len(again))
            if len(taken):
                yield batch.take(pa.array(taken)).append_column(KEY, pa.array(places))


def draw_copies(sources: Sequence[tuple[SourceConfig, int]], seed: int, held_out: int) -> Copies | None:
    """The copies for sources with so many collected rows each; None where every row is there once."""
    counts = [_counts(config, rows, seed, place) for place, (config, rows) in enumerate(sources)]
    whole = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
    if (whole == 1).all():
        return None
    keys = np.random.default_rng(seed).random(len(whole))
    present = np.flatnonzero(whole)
    first = present[np.argsort(keys[present], kind="stable")[:held_out]]
    whole[first] = 1
    return Copies(whole, keys, float(keys[first].max()) if len(first) else 0.0, seed)


def _counts(config: SourceConfig, rows: int, seed: int, place: int) -> np.ndarray:
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, place)))
    chosen = np.arange(rows)
    if config.sample == "random" and config.entries is not None and config.entries < rows:
        chosen = random.choice(rows, config.entries, replace=False)
    counts = np.zeros(rows, dtype=np.int64)
    counts[chosen] = int(config.weight)
    part = round((config.weight - int(config.weight)) * len(chosen))
    counts[random.choice(chosen, part, replace=False)] += 1
    return counts


__all__ = ["Copies", "draw_copies"]
