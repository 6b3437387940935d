"""Preference rows as interactions with a memory: `{query, answer, rejected, interactions: [...]}`.

    datasets:
      - name: ../shared/data/preference/small_mixed_pairs.parquet
        preferences: {max_turns: 8}

Takes all formats that `data.sources.pairs.rows` reads. Earlier exchanges are what the memory is told first; the last
one has two answers, `answer` (the chosen one) and `rejected`. Other columns stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from data.sources.arrow_types import to_rows
from data.sources.batches import Batch
from data.sources.messages import BadRow, BadRows, MessageOptions
from data.sources.pairs.rows import pair_row
from data.sources.to_episodes import to_exchanges
from pipeline.ranges import PositiveInt

TURN = {name: pa.string() for name in ("query", "answer", "think", "rejected", "rejected_think")}
ROW = {**TURN, "interactions": pa.list_(pa.struct(list(TURN.items())))}
REPLACED = (*ROW, "chosen", "prompt", "system")


@dataclass(kw_only=True, frozen=True)
class PreferencesConfig:
    """`preferences:` of a dataset entry."""

    max_turns: PositiveInt | None = None
    """Exchanges of a row at most, the one with two answers among them; of longer dialogues the oldest are left out."""


def pair_exchanges(row: Mapping[str, Any], where: str, options: MessageOptions) -> list[dict[str, Any]]:
    """The exchanges of a preference row, the last of which has `rejected` beside `answer`. Raises BadRow where the two
    conversations differ in more than their last answer, or in nothing."""
    pair = pair_row(row, where, options)
    if pair.tools or len(pair.chosen) != 1 or len(pair.rejected) != 1 or pair.prompt[-1]["role"] != "user":
        raise BadRow(
            "more than an answer",
            f"{where}: chosen and rejected must be two answers of the assistant to one question and alike before that; "
            "cut them after the first answer in which they differ, or drop the row",
        )
    exchanges = to_exchanges([*pair.prompt, *pair.chosen], where)
    other = to_exchanges([*pair.prompt, *pair.rejected], where)[-1]
    last = exchanges[-1]
    if not all(turn["query"].strip() and turn["answer"].strip() for turn in (*exchanges, other)):
        raise BadRow("no content", f"{where}: a question or an answer is empty; give it words or drop the row")
    if (last["answer"], last["think"]) == (other["answer"], other["think"]):
        raise BadRow("identical", f"{where}: chosen and rejected are the same; nothing is preferred: drop the row")
    last |= {"rejected": other["answer"], "rejected_think": other["think"]}
    return exchanges


def to_preferences(batch: Batch, config: PreferencesConfig, options: MessageOptions, bad: BadRows) -> pa.RecordBatch:
    """A batch of pairs as a batch of dialogues; it may be empty. `bad` says what happens to rows that are none."""
    others = [name for name in batch.records.schema.names if name not in REPLACED]
    rows, origin = [], []
    for index, row in enumerate(to_rows(batch.records)):
        place = batch.place(index)
        exchanges = bad.attempt(lambda row=row, place=place: pair_exchanges(row, place, options))
        if exchanges is not None:
            first, *later = exchanges[-(config.max_turns or len(exchanges)) :]
            rows.append({**first, "interactions": later})
            origin.append(index)
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in ROW.items()}
    picked = pa.array(origin, pa.int64())
    columns |= {name: batch.records.column(name).take(picked) for name in others}
    return pa.RecordBatch.from_pydict(columns)


__all__ = ["PreferencesConfig", "pair_exchanges", "to_preferences"]
