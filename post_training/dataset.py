"""The `dataset` section: rows from a Hub name, a folder of data_collection.py or files, as splits."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from datasets import Dataset, load_dataset

from data.sources.files import is_local
from data.sources.hf_dataset import load_local
from data.sources.reading import FileQuery, Selection, check_disjoint, find_files
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying
from post_training.recipes.dataset import DatasetConfig, EvaluationSetConfig, HeldOutConfig

logger = logging.getLogger(__name__)
PLACE = "_place"
"""Column that keeps where a row stands in its source, as `file:row`, for messages about it."""


@dataclass(frozen=True)
class Splits:
    """Rows to train, rows to evaluate by name, and what identifies them. The column PLACE says where a row stands."""

    train: Dataset
    held_out: Mapping[str, Dataset]
    source: str
    fingerprint: str


def load_splits(config: DatasetConfig, *, seed: int) -> Splits:
    """Load the rows that the section names. Raises InputError."""
    train, fingerprint = _load(config, config.split)
    held_out: dict[str, Dataset] = {}
    match config.held_out:
        case HeldOutConfig(split=str(split)):
            held_out["held_out"], held_fingerprint = _load(config, split, "dataset.held_out")
            if is_local(config.name):
                chosen = (_selection(config, s, f"dataset{w}") for s, w in ((config.split, ""), (split, ".held_out")))
                check_disjoint(*chosen)
            fingerprint = hashlib.sha256((fingerprint + held_fingerprint).encode()).hexdigest()[:16]
        case HeldOutConfig(rows=rows, fraction=fraction):
            size = rows if rows is not None else max(1, round(len(train) * (fraction or 0)))
            if size >= len(train):
                raise InputError(f"dataset.held_out: {size} rows to hold out of {len(train)} leave none to train on")
            parts = train.train_test_split(test_size=size, seed=seed)
            train, held_out["held_out"] = parts["train"], parts["test"]
    for name, section in config.evaluate_on.items():
        rows, _ = _load(section, section.split, f"dataset.evaluate_on.{name}")
        held_out[name] = rows.select(range(min(section.rows or len(rows), len(rows))))
    if config.rows is not None and config.rows < len(train):
        train = train.select(range(config.rows))
    logger.info("%s: %d rows, %d held out", config.name, len(train), sum(map(len, held_out.values())))
    return Splits(train, held_out, config.name, fingerprint)


def _load(config: DatasetConfig | EvaluationSetConfig, split: str, where: str = "dataset") -> tuple[Dataset, str]:
    """The rows of a split, with their places, and sixteen digits that stand for their content."""
    if is_local(config.name):
        selection = _selection(config, split, where)
        rows = load_local(selection, PLACE)
        if len(rows) == 0:
            raise InputError(f"{where}.name: {config.name} has no rows")
        return rows, rows._fingerprint[:16]
    keep_hub_offline_if_unreachable()
    try:
        rows = retrying(
            lambda: load_dataset(config.name, config.subset, split=split, revision=config.revision),
            what=f"loading {config.name}",
        )
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{where}.name: {config.name} ({split}) can't be loaded: {first_line(error)}") from None
    except OSError as error:
        raise InputError(f"{where}.name: {config.name} can't be loaded from the Hub: {first_line(error)}") from None
    if len(rows) == 0:
        raise InputError(f"{where}.name: {config.name} ({split}) has no rows")
    fingerprint = hashlib.sha256(f"{config.name}{config.revision}{rows._fingerprint}".encode()).hexdigest()[:16]
    return rows.add_column(PLACE, [f"{config.name} ({split}):{n}" for n in range(1, len(rows) + 1)]), fingerprint


def _selection(config: DatasetConfig | EvaluationSetConfig, split: str, where: str) -> Selection:
    if config.revision is not None:
        raise InputError(f"{where}.revision: {config.name} is a local path and has no revisions; leave it out")
    return find_files(FileQuery(path=config.name, subset=config.subset, split=split, where=where))
