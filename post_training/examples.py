"""From rows to examples: exactly the tensors that the trainer gets, and an account of every row on the way.

Rows are encoded in batches and cut first; only then is asked whether anything is left to train and whether two answers
still differ. Each row's fate is counted: `rows_read` = `rows` + what was dropped, by reason. An example that was cut
has lost its end; `cut` says how many there are.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from data.sources.messages import BadRow
from pipeline.errors import InputError
from post_training.dataset import PLACE, Splits
from post_training.recipes.dataset import ExamplesConfig

logger = logging.getLogger(__name__)
KEPT = "kept"
DROPPED = {
    "dropped_bad": "say no conversation or pair",
    "dropped_too_long": "too long",
    "dropped_nothing_to_train": "with nothing to train in what is left of them",
    "identical": "whose two answers are the same",
    "identical_after_cut": "whose two answers are the same once they are cut",
}
"""Why a row is left out, and how the log says it."""
_ACCOUNT = ("fate", "cut", "prompt_tokens", "answer_tokens")
_BATCH = 500


@dataclass(frozen=True)
class Limit:
    """How long an example may be. `split`: TRL's packing splits longer ones into pieces, so they aren't cut here."""

    tokens: int | None
    over_length: Literal["cut", "drop", "refuse"]
    split: bool = False

    def admits(self, length: int, where: str) -> bool:
        """Whether an example of `length` tokens stays. Raises InputError under `refuse`."""
        if self.tokens is None or length <= self.tokens or self.over_length == "cut":
            return True
        if self.over_length == "refuse":
            raise InputError(
                f"{where}: {length} tokens, more than trainer.max_length {self.tokens}; raise it, or set "
                "dataset.over_length: cut or drop"
            )
        return False

    @property
    def end(self) -> int | None:
        """Where an example is cut; None for nowhere."""
        return None if self.split else self.tokens


@dataclass(frozen=True)
class Example:
    """One row's outcome: its fate and, when it is kept, its tensors by column, with what is counted of them.

    prompt_tokens, answer_tokens: tokens with a label, the second -1 where the template doesn't tell them apart.
    """

    fate: str
    tensors: Mapping[str, list[Any]] | None = None
    length: int = 0
    cut: bool = False
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Examples:
    """What is trained and what is evaluated, encoded.

    held_out: by name, the section `held_out` under that one. fingerprint: of the source. examples_fingerprint: of the
    tensors in `train`, so also of template, tokenizer and limits. counts, held_out_counts: figures of the rows.
    """

    train: Dataset
    held_out: dict[str, Dataset]
    source: str
    fingerprint: str
    examples_fingerprint: str
    counts: dict[str, int]
    held_out_counts: dict[str, dict[str, int]]

    @property
    def evaluated(self) -> Dataset | dict[str, Dataset] | None:
        """The held-out rows as the Trainer takes them: one set as it is, several by name."""
        return next(iter(self.held_out.values())) if set(self.held_out) == {"held_out"} else self.held_out or None


def parse_rows[P](
    batch: Mapping[str, list[Any]], parse: Callable[[dict[str, Any], str], P], config: ExamplesConfig
) -> list[P | None]:
    """`parse` of each row with its place; None for a bad one under `bad_rows: drop`. Raises InputError."""
    parsed: list[P | None] = []
    for values in zip(*batch.values(), strict=True):
        row = dict(zip(batch, values, strict=True))
        try:
            parsed.append(parse(row, row[PLACE]))
        except BadRow as error:
            if config.bad_rows == "refuse":
                raise InputError(f"{error}; dataset.bad_rows: drop leaves such rows out") from None
            parsed.append(None)
    return parsed


def build_examples(
    splits: Splits,
    make: Callable[[Mapping[str, list[Any]], Limit], list[Example]],
    *,
    columns: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    held_out_limit: Limit,
    options: Sequence[Any],
    workers: int | None,
) -> Examples:
    """Encode all splits: `make` turns a batch of rows into their outcomes.

    columns: what the rows may bring; others aren't read. options: whatever else decides the outcome, for the cache.
    Held-out rows have to bring what the training rows bring.
    """
    brought = [name for name in columns if name in splits.train.column_names]
    for name, rows in splits.held_out.items():
        if name != "held_out" and (missing := [c for c in brought[:1] if c not in rows.column_names]):
            raise InputError(f"dataset.evaluate_on.{name}: the rows have no column {missing[0]}, as the others have")
    key = [splits.fingerprint, options, _identity(tokenizer), _own_code()]
    train, counts = _encode(splits.train, make, columns, limit, [*key, "train", vars(limit)], workers, splits.source)
    held_out, held_out_counts = {}, {}
    for name, rows in splits.held_out.items():
        key_of_set = [*key, name, vars(held_out_limit)]
        held_out[name], held_out_counts[name] = _encode(
            rows, make, columns, held_out_limit, key_of_set, workers, f"{splits.source} ({name})"
        )
    return Examples(train, held_out, splits.source, splits.fingerprint, fingerprint(train), counts, held_out_counts)


def _encode(
    rows: Dataset,
    make: Callable[[Mapping[str, list[Any]], Limit], list[Example]],
    columns: Sequence[str],
    limit: Limit,
    key: Sequence[Any],
    workers: int | None,
    what: str,
) -> tuple[Dataset, dict[str, int]]:
    """The examples of one split and their figures. Raises InputError when none is left."""
    read = rows.select_columns([column for column in (*columns, PLACE) if column in rows.column_names])

    def outcomes(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return _as_columns(make(batch, limit))

    key_hash = hashlib.sha256(json.dumps([read._fingerprint, *key], default=str).encode()).hexdigest()
    with PartialState().local_main_process_first():  # the other processes find the result cached
        encoded = read.map(
            outcomes, batched=True, batch_size=_BATCH, remove_columns=read.column_names, num_proc=workers,
            desc=f"encoding {what}", new_fingerprint=key_hash[:32],
        )  # fmt: skip
    counts = _counts(encoded, limit)
    kept = np.flatnonzero(np.asarray(encoded["fate"]) == KEPT)
    _log(counts, what)
    if not len(kept):
        reasons = ", ".join(f"{counts[name]} {words}" for name, words in DROPPED.items() if counts.get(name))
        raise InputError(
            f"dataset.name: no row of {what} is left to use ({reasons}); raise trainer.max_length or mend them"
        )
    if len(kept) < len(encoded):
        encoded = encoded.select(kept)
    return encoded.remove_columns(list(_ACCOUNT)), counts


def _as_columns(examples: Sequence[Example]) -> dict[str, list[Any]]:
    """Outcomes as the columns of a batch; a dropped row keeps its place, empty."""
    names = next((list(e.tensors) for e in examples if e.tensors is not None), None)
    account = {name: [getattr(e, name) for e in examples] for name in (*_ACCOUNT, "length")}
    if names is None:
        return account
    return {name: [e.tensors[name] if e.tensors is not None else [] for e in examples] for name in names} | account


def _counts(encoded: Dataset, limit: Limit) -> dict[str, int]:
    fates = Counter(encoded["fate"])
    table = encoded.with_format("arrow")[:]
    prompt, answer = np.asarray(table["prompt_tokens"]), np.asarray(table["answer_tokens"])
    counts = {"rows_read": len(encoded), "rows": fates[KEPT]}
    counts["split" if limit.split else "cut"] = int(np.asarray(table["cut"]).sum())
    counts |= {name: fates[name] for name in DROPPED}
    counts["trained_tokens"] = int(prompt.sum() + np.maximum(answer, 0).sum())
    if (answer >= 0).all():
        counts |= {"trained_prompt_tokens": int(prompt.sum()), "trained_answer_tokens": int(answer.sum())}
    return counts


def _log(counts: Mapping[str, int], what: str) -> None:
    figures = ", ".join(f"{name} {value}" for name, value in counts.items() if value or name in ("rows", "rows_read"))
    logger.info("%s: %s", what, figures)
    for name, words in DROPPED.items():
        if counts[name]:
            logger.warning("%s: %d of %d rows are left out, %s", what, counts[name], counts["rows_read"], words)
    if counts.get("cut"):
        logger.warning(
            "%s: %d of %d rows are longer than trainer.max_length and trained without their end; dataset.over_length "
            "says what else can be done with them",
            what, counts["cut"], counts["rows_read"],
        )  # fmt: skip


def fingerprint(rows: Dataset) -> str:
    """Sixteen digits that stand for every number of every example, in order."""
    digest = hashlib.sha256(json.dumps(sorted(rows.column_names)).encode())
    for batch in rows.with_format("arrow").iter(batch_size=5000):
        for name in sorted(rows.column_names):
            column = batch[name].combine_chunks()
            if str(column.type).startswith(("list", "large_list")):
                digest.update(np.diff(np.asarray(column.offsets)).tobytes())
                column = column.flatten()
            digest.update(np.asarray(column).tobytes())
    return digest.hexdigest()[:16]


def _identity(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """What decides how a tokenizer encodes: its vocabulary, rules, special tokens and template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    digest = hashlib.sha256(rules.encode()).hexdigest()
    return [digest, str(tokenizer.chat_template), tokenizer.special_tokens_map, type(tokenizer).__name__]


def _own_code() -> str:
    """A digest of the files that make examples, so that a cache of an older version of them isn't used."""
    here = Path(__file__).parent
    files = ("chat.py", "chat_template.py", "rows.py", "examples.py", "conversations.py", "curriculum.py", "pairs.py")
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in files)).hexdigest()


__all__ = ["KEPT", "Example", "Examples", "Limit", "build_examples", "fingerprint", "parse_rows"]
