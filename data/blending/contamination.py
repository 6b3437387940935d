"""Rows that share text with benchmarks, which a model would then know by heart: found by runs of words, left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.blending.texts import row_texts, word_ngrams
from data.sources.arrow_types import plain_batch
from data.sources.files import FileQuery, all_files, hash_file
from data.sources.reading import find_files, read_batches
from pipeline.errors import InputError
from pipeline.ranges import PositiveInt, Text


@dataclass(kw_only=True, frozen=True)
class DecontaminateConfig:
    """`decontaminate:` of a blend."""

    against: list[Text]
    """Local files, folders or globs of benchmark rows; every split of them counts."""
    columns: list[Text] = field(default_factory=list)
    """Columns of the benchmarks whose texts count. Default: all that hold texts."""
    ngram: PositiveInt = 13
    """So many words in a row, whatever their case and punctuation, are an overlap. Shorter texts overlap with none."""

    def __post_init__(self) -> None:
        """Refuse an empty list, which would leave out nothing."""
        if not self.against:
            raise ValueError("against is empty; name the files of a benchmark")

    def files(self) -> list[Path]:
        """The benchmarks' files. Raises InputError where a name matches none."""
        where = "decontaminate.against"
        return [file for i, name in enumerate(self.against) for file in all_files(name, f"{where}[{i}]")]

    def fingerprint(self) -> list[str]:
        """What stands for the content of the benchmarks."""
        return [hash_file(file) for file in self.files()]


class Contamination:
    """The runs of words of all benchmarks, to look rows up in."""

    reason = "contaminated"

    def __init__(self, config: DecontaminateConfig) -> None:
        """Read the benchmarks. Raises InputError where they hold no text that is long enough."""
        self.ngram = config.ngram
        # hashes instead of the words themselves: a tenth of the memory, and no two runs share one of 64 bits
        self.runs = {hash(run) for text in _texts(config) for run in word_ngrams(text, config.ngram)}
        if not self.runs:
            raise InputError(
                f"decontaminate: no text of {', '.join(config.against)} has {config.ngram} words; lower ngram"
            )

    def keep(self, batch: pa.RecordBatch, label: str) -> np.ndarray:
        """A mask of the rows that share no run of words with a benchmark."""
        rows = row_texts(batch, [], label, "decontaminate")
        clean = (not any(hash(run) in self.runs for t in row for run in word_ngrams(t, self.ngram)) for row in rows)
        return np.fromiter(clean, dtype=bool, count=len(batch))


def _texts(config: DecontaminateConfig) -> Iterator[str]:
    for file in config.files():
        for batch in read_batches(find_files(FileQuery(path=str(file), where="decontaminate", key="against"))):
            records = plain_batch(batch.records)
            columns = config.columns or records.schema.names
            for row in row_texts(records, columns, str(file), "decontaminate.columns"):
                yield from row


__all__ = ["Contamination", "DecontaminateConfig"]
