"""Dialogues as memory episodes of a fixed length: `{query, answer, think, facts, distance, interactions: [...]}`.

    datasets:
      - name: ../shared/data/sft/chat_multi_turn_sgd.parquet
        interactions: {steps: 4}

Takes rows with `messages` (what a system message says goes before the first query; neighbours of one role are joined;
`<think>…</think>` at the start of an answer becomes `think`) and rows that are episodes already. A dialogue of more
than steps + 1 exchanges gives one row from its beginning or, with `windows: all`, one for each stretch of that length;
shorter dialogues give none. Other columns stay.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from data.sources.carried_facts import mark
from pipeline.errors import InputError

TURN = {
    "query": pa.string(), "answer": pa.string(), "think": pa.string(), "facts": pa.list_(pa.string()),
    "distance": pa.int32(),
}  # fmt: skip
EPISODE = {**TURN, "interactions": pa.list_(pa.struct(list(TURN.items())))}


@dataclass(kw_only=True)
class InteractionsConfig:
    """`interactions:` of a dataset entry."""

    steps: int
    """Interactions after the first one."""
    windows: Literal["first", "all"] = "first"
    """Which stretches of a longer dialogue become rows."""
    facts: Literal["as_given", "carried"] = "as_given"
    """carried: where rows have none, facts are the names and numbers that an answer takes from earlier turns
    (data/sources/carried_facts.py)."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an episode has at least 1 interaction after the first")


def exchanges_of(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The exchanges of a row of either form; a last question without an answer is left out. Raises InputError."""
    if "messages" in row:
        return list(_pairs(row["messages"] or [], where))
    if not {"query", "answer", "interactions"} <= set(row):
        raise InputError(
            f"{where}: interactions needs rows with messages, or with query, answer and interactions; these have "
            f"{', '.join(row)}"
        )
    turns = [row, *(row["interactions"] or [])]
    return [{name: turn.get(name) for name in TURN} for turn in turns]


def _pairs(messages: list[dict[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    waiting = {"system": [], "user": []}
    answer: list[str] = []

    def done() -> dict[str, Any]:
        query = "\n".join([*waiting["system"], *waiting["user"]])
        think, said = _think("\n".join(answer))
        waiting["system"], waiting["user"] = [], []
        return {"query": query, "answer": said, "think": think, "facts": None, "distance": None}

    for message in messages:
        role, text = message.get("role"), (message.get("content") or "").strip()
        if role in waiting:
            if answer:
                yield done()
                answer = []
            waiting[role].append(text)
        elif role == "assistant":
            if waiting["user"]:  # a greeting before anybody has asked has nothing that it answers
                answer.append(text)
        else:
            raise InputError(f"{where}: a message has the role {role!r}; interactions knows system, user and assistant")
    if answer:
        yield done()


def _think(text: str) -> tuple[str | None, str]:
    if text.startswith("<think>") and "</think>" in text:
        think, _, said = text.removeprefix("<think>").partition("</think>")
        return think.strip(), said.strip()
    return None, text


def to_interactions(batch: pa.RecordBatch, config: InteractionsConfig, where: str) -> pa.RecordBatch:
    """A batch of dialogues as a batch of episodes of exactly `config.steps` steps; it may be empty."""
    others = [name for name in batch.schema.names if name not in (*EPISODE, "messages")]
    rows, origin = [], []
    size = config.steps + 1
    for index, row in enumerate(batch.to_pylist()):
        exchanges = exchanges_of(row, where)
        last = len(exchanges) - size
        starts = range(0, last + 1, size) if config.windows == "all" else range(min(1, last + 1))
        for start in starts:
            turns = exchanges[start : start + size]
            if all(turn["query"] and turn["answer"] for turn in turns):
                first, *later = mark(turns) if config.facts == "carried" else turns
                rows.append({**first, "interactions": later})
                origin.append(index)
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in EPISODE.items()}
    picked = pa.array(origin, pa.int64())
    columns |= {name: batch.column(name).take(picked) for name in others}
    return pa.RecordBatch.from_pydict(columns)
