"""The `dataset` section: rows from a Hub name, a folder of data_collection.py or files, as splits that can be trained.

Prompts longer than `max_prompt_length` tokens are filtered out (not cut: a preference between two answers to half a
question teaches nothing). Rows are encoded here, in batches, so that TRL's row-by-row preparation isn't needed.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from accelerate import PartialState
from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerBase

from data.sources.files import is_local
from data.sources.hf_dataset import load_local
from data.sources.reading import FileQuery, Selection, check_disjoint, find_files
from pipeline.errors import InputError
from pipeline.hub import retrying
from post_training.chat import IGNORED, encode, encode_pair

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class HeldOutConfig:
    """Section `dataset.held_out`: rows that are evaluated and never trained. One of the three keys."""

    split: str | None = None
    """A split of its own."""
    rows: int | None = None
    """So many rows taken from the training split, by seed."""
    fraction: float | None = None
    """This share of the training split, by seed."""

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.split, self.rows, self.fraction)) != 1:
            raise ValueError("give exactly one of split, rows and fraction")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ValueError(f"fraction must lie between 0 and 1, not {self.fraction}")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows must be at least 1, not {self.rows}")


@dataclass(kw_only=True)
class DatasetConfig:
    """Section `dataset`: which rows to train on."""

    name: str
    """A Hub name, a folder, or a path or glob of files (data/sources/files.py says which)."""
    subset: str | None = None
    split: str = "train"
    """Of a folder's files by name, or of the rows of a file by their column `split`; `train[:10%]` is a part."""
    revision: str | None = None
    rows: int | None = None
    """At most so many training rows, the first ones."""
    held_out: HeldOutConfig | None = None
    max_prompt_length: int | None = None
    """Preference pairs whose prompt has more tokens are left out."""


@dataclass(frozen=True)
class Splits:
    """Rows to train, rows to evaluate, and what identifies them."""

    train: Dataset
    held_out: Dataset | None
    source: str
    fingerprint: str


def load_splits(config: DatasetConfig, *, columns: str, seed: int) -> Splits:
    """Load the rows that the section names. `columns` is `messages` or `preferences`. Raises InputError."""
    train, fingerprint = _load(config, config.split)
    held_out: Dataset | None = None
    match config.held_out:
        case HeldOutConfig(split=str(split)):
            held_out, held_fingerprint = _load(config, split, "dataset.held_out")
            if is_local(config.name):
                chosen = (_selection(config, s, f"dataset{w}") for s, w in ((config.split, ""), (split, ".held_out")))
                check_disjoint(*chosen)
            fingerprint = hashlib.sha256((fingerprint + held_fingerprint).encode()).hexdigest()[:16]
        case HeldOutConfig(rows=rows, fraction=fraction):
            size = rows if rows is not None else max(1, round(len(train) * (fraction or 0)))
            if size >= len(train):
                raise InputError(f"dataset.held_out: {size} rows to hold out of {len(train)} leave none to train on")
            parts = train.train_test_split(test_size=size, seed=seed)
            train, held_out = parts["train"], parts["test"]
    if config.rows is not None and config.rows < len(train):
        train = train.select(range(config.rows))
    for rows in filter(None, (train, held_out)):
        _require_columns(rows, columns, config.name)
    logger.info("%s: %d rows, %d held out", config.name, len(train), len(held_out) if held_out else 0)
    return Splits(train, held_out, config.name, fingerprint)


def _require_columns(rows: Dataset, columns: str, name: str) -> None:
    if len(rows) == 0:
        raise InputError(f"dataset.name: {name} has no rows")
    needed = {"messages": ["messages"], "preferences": ["chosen", "rejected"]}[columns]
    missing = [column for column in needed if column not in rows.column_names]
    if missing and not (columns == "messages" and {"prompt", "completion"} <= set(rows.column_names)):
        raise InputError(
            f"dataset.name: {name} has no column {', '.join(missing)} (it has {', '.join(rows.column_names)}); rename "
            "it with rename_columns in the blend"
        )


def _load(config: DatasetConfig, split: str, where: str = "dataset") -> tuple[Dataset, str]:
    """The rows of a split and sixteen digits that stand for their content."""
    if is_local(config.name):
        selection = _selection(config, split, where)
        rows = load_local(selection)
        return rows, rows._fingerprint[:16]
    try:
        rows = retrying(
            lambda: load_dataset(config.name, config.subset, split=split, revision=config.revision),
            what=f"loading {config.name}",
        )
    except (ValueError, FileNotFoundError) as error:
        first = str(error).strip().split("\n")[0]
        raise InputError(f"dataset.name: {config.name} ({split}) can't be loaded: {first}") from None
    except OSError as error:
        raise InputError(f"dataset.name: {config.name}: the Hub can't be reached: {error}") from None
    return rows, hashlib.sha256(f"{config.name}{config.revision}{rows._fingerprint}".encode()).hexdigest()[:16]


def _selection(config: DatasetConfig, split: str, where: str) -> Selection:
    if config.revision is not None:
        raise InputError(f"dataset.revision: {config.name} is a local path and has no revisions; leave it out")
    return find_files(FileQuery(path=config.name, subset=config.subset, split=split, where=where))


def _map(rows: Dataset, function: Callable[..., dict], what: str, workers: int | None) -> Dataset:
    """`rows.map` in batches, first on the main process so that the others find the result cached."""
    with PartialState().local_main_process_first():
        return rows.map(
            function, batched=True, batch_size=500, remove_columns=rows.column_names, num_proc=workers, desc=what
        )


def encode_messages(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    assistant_only: bool,
    max_length: int | None,
    workers: int | None = None,
) -> Splits:
    """Splits with columns `input_ids`, `labels`, `length`. Rows in which nothing is trained are left out."""

    def to_ids(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if "messages" in batch:
            conversations = batch["messages"]
        else:
            turns = zip(batch["prompt"], batch["completion"], strict=True)
            conversations = [_turns(p, "user") + _turns(c, "assistant") for p, c in turns]
        encoded = encode(tokenizer, conversations, assistant_only=assistant_only, max_length=max_length)
        kept = [e for e in encoded if any(label != IGNORED for label in e.labels[1:])]
        return {
            "input_ids": [e.ids for e in kept],
            "labels": [e.labels for e in kept],
            "length": [len(e.ids) for e in kept],
        }

    return _encode_splits(splits, to_ids, "encoding conversations", workers)


def encode_preferences(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None,
    max_prompt_length: int | None,
    workers: int | None = None,
) -> Splits:
    """Splits with columns `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Left out: pairs whose prompt is longer than `max_prompt_length`, leaves no room below `max_length`, or whose answers
    are the same.
    """

    def to_ids(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        prompts = batch.get("prompt") or [None] * len(batch["chosen"])
        columns: dict[str, list[Any]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
        for prompt, chosen, rejected in zip(prompts, batch["chosen"], batch["rejected"], strict=True):
            ids = encode_pair(tokenizer, *split_pair(prompt, chosen, rejected))
            too_long = max_prompt_length is not None and len(ids[0]) > max_prompt_length
            if too_long or (max_length is not None and len(ids[0]) >= max_length) or ids[1] == ids[2]:
                continue
            for column, value in zip(columns.values(), ids, strict=True):
                column.append(value)
        return columns

    return _encode_splits(splits, to_ids, "encoding preference pairs", workers)


def _encode_splits(splits: Splits, to_ids: Callable[..., dict], what: str, workers: int | None) -> Splits:
    train = _map(splits.train, to_ids, what, workers)
    held_out = _map(splits.held_out, to_ids, what, workers) if splits.held_out is not None else None
    for name, before, after in (("training", splits.train, train), ("held-out", splits.held_out, held_out)):
        if after is not None and before is not None and len(after) < len(before):
            logger.warning(
                "%d of %d %s rows are left out: too long, or nothing to train",
                len(before) - len(after),
                len(before),
                name,
            )
        if after is not None and len(after) == 0:
            raise InputError(
                f"dataset.name: no {name} row of {splits.source} is left after the length limits; raise them"
            )
    return replace(splits, train=train, held_out=held_out)


def _turns(value: Any, role: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(value)


def split_pair(prompt: Any, chosen: Any, rejected: Any) -> tuple[list[dict], list[dict], list[dict]]:
    """A preference row as (prompt, chosen answer, rejected answer), each a list of messages.

    Reads whole conversations that share their beginning, with or without a `prompt` of messages or of plain text, and
    answers given alone.
    """
    first, second = _turns(chosen, "assistant"), _turns(rejected, "assistant")
    shared = 0
    while shared < min(len(first), len(second)) - 1 and _same(first[shared], second[shared]):
        shared += 1
    stem = first[:shared] if shared or prompt is None else _turns(prompt, "user")
    if not stem:
        raise InputError("dataset.name: a preference row has no prompt and its two conversations share no beginning")
    return stem, first[shared:], second[shared:]


def _same(first: dict, second: dict) -> bool:
    return first.get("role") == second.get("role") and first.get("content") == second.get("content")


def describe(splits: Splits) -> str:
    """The data's facts as one JSON object, for manifests."""
    return json.dumps({"source": splits.source, "fingerprint": splits.fingerprint, "rows": len(splits.train)})
