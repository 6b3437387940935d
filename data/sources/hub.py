"""Datasets of the Hugging Face Hub, streamed by the `datasets` library. Apart, since that takes seconds to import."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import datasets
from datasets.exceptions import DatasetNotFoundError
from datasets.table import CastError

from data.sources.batches import Batch
from data.sources.config import SourceConfig
from pipeline.config import nearest
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying

logger = logging.getLogger(__name__)


class HubChecker:
    """Asks the Hub for each dataset and subset once, however many sources read from it."""

    def __init__(self) -> None:
        datasets.disable_progress_bars()
        self.builders: dict[tuple[str, str | None, str | None], Any] = {}

    def check(self, config: SourceConfig, where: str) -> tuple[Callable[[int], Iterator[Batch]], str | None]:
        """How to stream the source, and the commit it is read at. Downloads metadata, no rows."""
        builder = self._builder(str(config.name), config.subset, config.revision, where)
        splits = list(builder.config.data_files or {})
        if config.split not in splits:
            raise InputError(
                f"{where}.split: {config.name} has no split {config.split}"
                f"{f' in subset {config.subset}' if config.subset else ''}{nearest(config.split_name, splits)}"
            )

        def batches(batch_size: int) -> Iterator[Batch]:
            number = 1
            stream = builder.as_streaming_dataset(split=config.split).with_format("arrow")
            try:
                for table in stream.iter(batch_size):
                    for records in table.to_batches():
                        yield Batch(records, config.label, range(number, number + len(records)))
                        number += len(records)
            except CastError as error:
                raise InputError(
                    f"{where}: the files of {config.label} have other columns than its subset declares"
                    f" ({_one_line(error)}); report it to the owner, or name its files by a local path"
                ) from None

        return batches, getattr(builder, "hash", None)

    def _builder(self, name: str, subset: str | None, revision: str | None, where: str) -> Any:
        if (name, subset, revision) not in self.builders:
            keep_hub_offline_if_unreachable()
            try:
                self.builders[name, subset, revision] = retrying(
                    lambda: datasets.load_dataset_builder(name, subset, revision=revision),
                    what=f"asking the Hub about {name}",
                )
            except DatasetNotFoundError:
                raise InputError(
                    f"{where}.name: the Hub has no dataset {name} that can be read from here; check the name, and for"
                    " a private or gated one log in with `hf auth login`; a local path begins with ./"
                ) from None
            except ValueError as error:
                raise InputError(f"{where}.subset: {_one_line(error)}") from None
            except (ConnectionError, OSError) as error:
                raise InputError(
                    f"{where}.name: the Hub can't be asked about {name} ({first_line(error)}); check the network, or"
                    " give a local path"
                ) from None
        return self.builders[name, subset, revision]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


__all__ = ["HubChecker"]
