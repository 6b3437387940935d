"""Dialogues as memory episodes of a fixed length: `{query, answer, think, facts, distance, interactions: [...]}`.

    datasets:
      - name: ../shared/data/sft/chat_multi_turn_sgd.parquet
        interactions: {steps: 4}

Takes rows with `messages` (what a system message says goes before the first query; neighbours of one role are joined;
`<think>…</think>` at the start of an answer becomes `think`) and rows that are episodes already. A dialogue of more
than steps + 1 exchanges gives one row from its beginning or, with `windows: all`, one for each stretch of that length;
shorter dialogues give none. Other columns stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from data.sources.arrow_types import JSON, to_rows
from data.sources.batches import Batch
from data.sources.carried_facts import mark
from data.sources.json_exact import build_array
from data.sources.messages import BadRow, BadRows, Message, MessageOptions, conversation_of
from pipeline.errors import InputError
from pipeline.ranges import PositiveInt

TURN = {
    "query": pa.string(), "answer": pa.string(), "think": pa.string(), "facts": pa.list_(pa.string()),
    "distance": pa.int32(),
}  # fmt: skip
SPELLINGS = {**TURN, "facts": JSON}
"""Where a fact has several spellings: its list stands among texts."""
COLUMNS = (*TURN, "interactions")


@dataclass(kw_only=True, frozen=True)
class InteractionsConfig:
    """`interactions:` of a dataset entry."""

    steps: PositiveInt
    """Interactions after the first one."""
    windows: Literal["first", "all"] = "first"
    """Which stretches of a longer dialogue become rows."""
    facts: Literal["as_given", "carried"] = "as_given"
    """carried: where rows have none, facts are the names and numbers that an answer takes from earlier turns
    (data/sources/carried_facts.py)."""


def exchanges_of(row: Mapping[str, Any], where: str, options: MessageOptions) -> list[dict[str, Any]]:
    """The exchanges of a row of either form; a last question without an answer is left out. Raises InputError.

    where: `file:row`, for messages.
    """
    if "messages" in row or "conversations" in row:
        return to_exchanges(conversation_of(row, where, options), where)
    if not {"query", "answer", "interactions"} <= set(row):
        raise InputError(
            f"{where}: interactions needs rows with messages, or with query, answer and interactions; these have "
            f"{', '.join(row)}"
        )
    turns = [row, *(row["interactions"] or [])]
    return [{name: turn.get(name) for name in TURN} for turn in turns]


def to_exchanges(messages: Sequence[Message], where: str) -> list[dict[str, Any]]:
    """Parsed messages as `{query, answer, think, facts, distance}`. Raises BadRow where a tool is called or no question
    is answered.

    What a system message says goes before the next query. A greeting before anybody has asked answers nothing and is
    left out, as is a last question.
    """
    asked: list[Message] = []
    made = []
    for message in messages:
        if message["role"] == "tool" or message.get("tool_calls"):
            raise BadRow("tools", f"{where}: the conversation calls tools, which an episode can't; drop the row")
        if message["role"] != "assistant":
            asked.append(message)
        elif any(m["role"] == "user" for m in asked):
            query = "\n".join(m["content"].strip() for m in sorted(asked, key=lambda m: m["role"] != "system"))
            answer = {"answer": message["content"], "think": message.get("think")}
            made.append({"query": query, **answer, "facts": None, "distance": None})
            asked = []
    if not made:
        raise BadRow("no answer", f"{where}: no question of the conversation is answered; drop the row")
    return made


def to_interactions(batch: Batch, config: InteractionsConfig, options: MessageOptions, bad: BadRows) -> pa.RecordBatch:
    """A batch of dialogues as a batch of episodes of exactly `config.steps` steps; it may be empty.

    `bad` says what happens to rows that are no dialogues, and counts those that are too short.
    """
    unused = (*COLUMNS, "messages", "conversations")
    others = [name for name in batch.records.schema.names if name not in unused]
    rows, origin = [], []
    size = config.steps + 1
    for index, row in enumerate(to_rows(batch.records)):
        place = batch.place(index)
        exchanges = bad.attempt(lambda row=row, place=place: exchanges_of(row, place, options))
        if exchanges is None:
            continue
        last = len(exchanges) - size
        starts = range(0, last + 1, size) if config.windows == "all" else range(min(1, last + 1))
        if not starts:
            bad.counts[f"of fewer than {size} exchanges"] += 1
        for start in starts:
            turns = exchanges[start : start + size]
            if not all(turn["query"] and turn["answer"] for turn in turns):
                bad.counts["with a turn without words"] += 1
            else:
                first, *later = mark(turns) if config.facts == "carried" else turns
                rows.append({**first, "interactions": later})
                origin.append(index)
    columns = _columns(rows)
    picked = pa.array(origin, pa.int64())
    columns |= {name: batch.records.column(name).take(picked) for name in others}
    return pa.RecordBatch.from_pydict(columns)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """The columns of episodes. Facts are free-form values where one of them has spellings."""
    every = (turn for row in rows for turn in (row, *row["interactions"]))
    several = any(isinstance(fact, list) for turn in every for fact in turn["facts"] or ())
    turn = SPELLINGS if several else TURN
    kinds = {**turn, "interactions": pa.list_(pa.struct(list(turn.items())))}
    return {name: build_array([row[name] for row in rows], kind) for name, kind in kinds.items()}
