"""What it means that a fact is said, for marks, rewards and evaluation alike; and what a dialogue's turns ask for.

A fact is said where its words stand in the text, whole and in their order; case and the signs between words don't
count. A fact with several spellings (`[Dr. Smith, Smith]` in a row's `facts`) is said where one of them is.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mrl.dialogues.abstention import abstention_of

if TYPE_CHECKING:
    from mrl.dialogues.dataset import Exchange


type Fact = str | tuple[str, ...]
"""What an answer has to say: words, or several spellings of which one is enough."""


def ways_of(fact: Fact) -> tuple[str, ...]:
    """The spellings of a fact, as given."""
    return (fact,) if isinstance(fact, str) else fact


@lru_cache(maxsize=65536)
def _pattern(fact: Fact) -> re.Pattern[str] | None:
    spelled = [words for way in ways_of(fact) if (words := re.findall(r"\w+", way))]
    # Of two spellings that begin at the same word the longer one is meant.
    spelled.sort(key=len, reverse=True)
    ways = "|".join(r"\W+".join(map(re.escape, words)) for words in spelled)
    return re.compile(rf"\b(?:{ways})\b", re.IGNORECASE) if ways else None


def find_fact(text: str, fact: Fact) -> tuple[int, int] | None:
    """Where a fact is said first, as begin and end in the text; None where it isn't, or has no word."""
    pattern = _pattern(fact)
    found = pattern.search(text) if pattern else None
    return found.span() if found else None


def recalled(answer: str, facts: Sequence[Fact]) -> bool:
    """Whether every fact is said in the answer. No facts: False."""
    return bool(facts) and all(find_fact(answer, fact) for fact in facts)


def share_said(answer: str, facts: Sequence[Fact]) -> float:
    """Which share of the facts is said in the answer. No facts: 0."""
    return sum(find_fact(answer, fact) is not None for fact in facts) / max(1, len(facts))


def case_variants(fact: Fact) -> list[str]:
    """The spellings of a fact in the cases that people write them in, as given first."""
    cases = [[way, way.lower(), way.upper(), way[:1].upper() + way[1:], way.title()] for way in ways_of(fact)]
    return list(dict.fromkeys(variant for spelled in cases for variant in spelled))


def read_facts(value: Any) -> tuple[Fact, ...] | None:
    """The `facts` of a row: texts, and lists of texts that are spellings of one; none where it has none. None
    where it is neither."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        return None
    facts = [tuple(fact) if isinstance(fact, list | tuple) else fact for fact in value]
    texts = [way for fact in facts for way in (fact if isinstance(fact, tuple) and fact else (fact,))]
    return tuple(facts) if all(isinstance(text, str) and text.strip() for text in texts) else None


def settle_marks(exchanges: Sequence["Exchange"], given: Sequence[tuple[bool, bool]]) -> tuple["Exchange", ...]:
    """The exchanges of a dialogue with `distance` and `asks` settled. given: of each, whether its row says which facts
    it needs (an empty list is said as well), and whether it says how far back they lie.

    A distance that isn't given is how many turns ago the farthest fact was last said. A turn asks for memory where its
    distance is above 0, or where its facts stand in neither its query nor any earlier turn (0: it isn't known when they
    were said). A dialogue in which nothing is marked asks in every turn.

    An answer that says that it wasn't told takes memory too: only there can it be seen that nothing was. That it says
    so is its fact, and no turn lies between it and where that was told (0).
    """
    if not any(facts or distance for facts, distance in given):
        return tuple(e if e.asks else replace(e, asks=True) for e in exchanges)
    settled: list[Exchange] = []
    for place, (exchange, (_, has_distance)) in enumerate(zip(exchanges, given, strict=True)):
        if (sentence := abstention_of(exchange.answer)) is not None:
            settled.append(replace(exchange, facts=exchange.facts or (sentence,), distance=0, asks=True))
            continue
        if has_distance or not exchange.facts:
            asks = exchange.distance > 0
            settled.append(exchange if exchange.asks == asks else replace(exchange, asks=asks))
            continue
        backs = [said_ago(exchanges, place, fact) for fact in exchange.facts]
        distance = max((back for back in backs if back is not None), default=0)
        settled.append(replace(exchange, distance=distance, asks=distance > 0 or None in backs))
    return tuple(settled)


def said_ago(exchanges: Sequence["Exchange"], place: int, fact: Fact) -> int | None:
    """How many turns before `place` a fact was last said, 0 where the query says it, None where nobody does."""
    if find_fact(exchanges[place].query or "", fact):
        return 0
    for back in range(1, place + 1):
        earlier = exchanges[place - back]
        if find_fact(f"{earlier.query or ''}\n{earlier.answer}", fact):
            return back
    return None


__all__ = [
    "Fact",
    "case_variants",
    "find_fact",
    "read_facts",
    "recalled",
    "said_ago",
    "settle_marks",
    "share_said",
    "ways_of",
]
