"""Copies of dialogues in which two questions in a row are asked at once: an answer then has to say two facts.

People ask so now and then, too seldom for a small model to learn it from them: of 1,242 questions of the worked example
95 ask for two facts, and after its recipe 15 per cent of these were answered, of the others 91.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from mrl.dialogues.abstention import abstention_of
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import said_ago, settle_marks

JOINED = 0.5
"""Share of neighbouring questions that are asked at once."""


def with_joined_questions(conversations: Sequence[Conversation], seed: int) -> list[Conversation]:
    """The conversations, some neighbouring questions of each joined; the same seed joins the same ones."""
    return [_joined(c, random.Random(f"{seed} join {number}")) for number, c in enumerate(conversations)]


def _joined(conversation: Conversation, rng: random.Random) -> Conversation:
    made: list[Exchange] = []
    for exchange in conversation.exchanges:
        if made and _fit([*made, exchange]) and rng.random() < JOINED:
            made[-1] = _both(made[-1], exchange)
        else:
            made.append(exchange)
    if len(made) == len(conversation.exchanges):
        return conversation
    # Turns lie nearer to each other now: what is derived from the words is derived again.
    given = [(bool(e.facts), not e.facts) for e in made]
    return replace(conversation, exchanges=settle_marks(made, given))


def _fit(exchanges: Sequence[Exchange]) -> bool:
    # Both of the last two ask, for different things that were said before either of them was asked.
    *_, one, other = exchanges
    place = len(exchanges) - 2
    return (
        all(e.asks and e.query and e.facts and not e.think and abstention_of(e.answer) is None for e in (one, other))
        and len(one.facts) == len(other.facts) == 1
        and one.facts != other.facts
        and all(said_ago(exchanges, place, fact) for fact in other.facts)
    )


def _both(one: Exchange, other: Exchange) -> Exchange:
    return replace(
        one, query=f"{one.query} {other.query}", answer=f"{one.answer} {other.answer}",
        facts=(*one.facts, *other.facts), kind="",
    )  # fmt: skip
