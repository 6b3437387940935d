"""Copies of dialogues in which two questions in a row are asked at once: an answer then has to say two facts.

People ask so now and then, too seldom for a small model to learn it from them: of 1,242 questions of the worked example
95 ask for two facts, and after its recipe 15 per cent of these were answered, of the others 91.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import find_fact, said_ago
from mrl.own_dialogues.places import settled_again

JOINED = 0.5
"""Share of neighbouring questions that are asked at once."""
ASKS_BACK = ("?", "？", "؟")
"""Ends of an answer that asks something: what follows is said to that, and can't be said before it."""


def with_joined_questions(conversations: Sequence[Conversation], seed: int) -> list[Conversation]:
    """The conversations, some neighbouring questions of each joined; the same seed joins the same ones."""
    return [_joined(c, random.Random(f"{seed} join {number}")) for number, c in enumerate(conversations)]


def joined_questions(given: Sequence[Conversation], made: Sequence[Conversation]) -> int:
    """How many questions for two facts `with_joined_questions` has made of the conversations given to it."""
    return sum(len(before.exchanges) - len(after.exchanges) for before, after in zip(given, made, strict=True))


def _joined(conversation: Conversation, rng: random.Random) -> Conversation:
    made: list[Exchange] = []
    places: list[int] = []
    for place, exchange in enumerate(conversation.exchanges):
        if made and _fit([*made, exchange]) and rng.random() < JOINED:
            made[-1] = _both(made[-1], exchange)
        else:
            made.append(exchange)
            places.append(place)
    if len(made) == len(conversation.exchanges):
        return conversation
    return replace(conversation, exchanges=settled_again(made, places))


def _fit(exchanges: Sequence[Exchange]) -> bool:
    # Both of the last two ask, for different things that were said before either of them was asked; the second isn't
    # said because the first answer asked back.
    *_, one, other = exchanges
    place = len(exchanges) - 2
    return (
        all(e.asks and e.query and e.facts and not e.think and not abstains(e.answer) for e in (one, other))
        and len(one.facts) == len(other.facts) == 1
        and not any(find_fact(a.answer, b.facts[0]) for a, b in ((one, other), (other, one)))
        and all(said_ago(exchanges, place, fact) for fact in other.facts)
        and not one.answer.rstrip().endswith(ASKS_BACK)
    )


def _both(one: Exchange, other: Exchange) -> Exchange:
    # The second question stood a turn further from what it asks for.
    return replace(
        one, query=f"{one.query} {other.query}", answer=f"{one.answer} {other.answer}",
        facts=(*one.facts, *other.facts), kind="", distance=max(one.distance, other.distance - 1),
        distance_given=one.distance_given or other.distance_given,
    )  # fmt: skip
