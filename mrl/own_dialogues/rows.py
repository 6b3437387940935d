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
    """Whole dialogues, drawn by the seed; equal ones stay together. Of those that ask for what was told every part has
    its share, one at least: of the others nothing can be measured. Raises InputError where there are too few."""
    distinct: dict[tuple[Any, ...], list[Conversation]] = {}
    for conversation in given:
        distinct.setdefault(spoken(conversation), []).append(conversation)
    for conversation in held_out:
        distinct.pop(spoken(conversation), None)
    groups = list(distinct.values())
    if len(groups) < FEWEST:
        raise InputError(f"--data: {len(groups)} different dialogues to learn from; give at least {FEWEST}")
    random.Random(seed).shuffle(groups)
    asking = [group for group in groups if asks_back(group[0])]
    silent = [group for group in groups if not asks_back(group[0])]
    portion = len(asking) / len(groups)
    parts = []
    sizes = [(VALIDATION, MOST_VALIDATION), *([] if held_out else [(HELD_OUT, MOST_HELD_OUT)])]
    for share, most in sizes:
        count = min(most, max(1, round(share * len(distinct))))
        some = max(1, round(portion * count), count - len(silent))
        parts.append([group[0] for group in (*asking[:some], *silent[: count - some])])
        asking, silent = asking[some:], silent[count - some :]
    train = [conversation for group in (*asking, *silent) for conversation in group]
    if not all(any(map(asks_back, part)) for part in (train, *parts)):
        raise InputError(
            f"--data: {sum(map(asks_back, given))} dialogues ask for anything said before, too few to learn from some, "
            "watch training by others and measure on others; mark `facts` (docs/own_dialogues.md)"
        )
    return Split(train, parts[0], list(held_out) if held_out else parts[1])


def asks_back(conversation: Conversation) -> bool:
    """Whether a dialogue asks for facts that it has told: then recall can be rewarded and measured."""
    return any(exchange.facts and exchange.distance for exchange in conversation.exchanges)


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
