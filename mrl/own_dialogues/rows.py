"""Rows of one's own dialogues as files to train on, to watch training by and to measure on.

What is written are exchanges as the reader of all stages sees them, marks settled, so that every stage reads the same.
"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrl.dialogues.check import spoken
from mrl.dialogues.dataset import Conversation, Exchange
from pipeline.artifact import write_text
from pipeline.errors import InputError

HELD_OUT, MOST_HELD_OUT = 0.1, 600
VALIDATION, MOST_VALIDATION = 0.05, 150
FEWEST = 20
"""Dialogues without which nothing can be split off."""


@dataclass(frozen=True)
class Split:
    """Dialogues to learn from, to watch training by, to measure on; no dialogue in two of them."""

    train: list[Conversation]
    validation: list[Conversation]
    held_out: list[Conversation]


def split_dialogues(given: Sequence[Conversation], held_out: Sequence[Conversation], seed: int) -> Split:
    """Whole dialogues, drawn by the seed; equal ones stay together. Raises InputError where there are too few."""
    distinct: dict[tuple[Any, ...], list[Conversation]] = {}
    for conversation in given:
        distinct.setdefault(spoken(conversation), []).append(conversation)
    for conversation in held_out:
        distinct.pop(spoken(conversation), None)
    groups = list(distinct.values())
    if len(groups) < FEWEST:
        raise InputError(f"--data: {len(groups)} different dialogues to learn from; give at least {FEWEST}")
    random.Random(seed).shuffle(groups)
    parts = []
    sizes = [(VALIDATION, MOST_VALIDATION), *([] if held_out else [(HELD_OUT, MOST_HELD_OUT)])]
    for share, most in sizes:
        count = min(most, max(1, round(share * len(distinct))))
        parts.append([group[0] for group in groups[:count]])
        groups = groups[count:]
    train = [conversation for group in groups for conversation in group]
    return Split(train, parts[0], list(held_out) if held_out else parts[1])


def write_rows(path: Path, conversations: Iterable[Conversation]) -> None:
    """Conversations as JSON lines, whole or not at all."""
    lines = []
    for conversation in conversations:
        first, *rest = map(_turn, conversation.exchanges)
        lines.append(json.dumps({**first, "interactions": rest}, ensure_ascii=False))
    write_text(path, "\n".join(lines) + "\n")


def _turn(exchange: Exchange) -> dict[str, Any]:
    turn: dict[str, Any] = {"query": exchange.query, "answer": exchange.answer}
    if exchange.think:
        turn["think"] = exchange.think
    if exchange.kind:
        turn["kind"] = exchange.kind
    if not exchange.facts and exchange.asks and not exchange.distance:
        return turn  # nothing of its dialogue is marked, and an empty list would be a mark
    facts = [list(fact) if isinstance(fact, tuple) else fact for fact in exchange.facts]
    # A turn that asks for what nobody has said has facts and no distance; 0 would say that it asks for nothing.
    known = {"distance": exchange.distance} if exchange.distance or not exchange.asks else {}
    return {**turn, "facts": facts, **known}
