"""What it means that a fact is said, for marks, rewards and evaluation alike; and what a dialogue's turns ask for.

A fact is said where its words stand in the text, whole and in their order; case and the signs between words don't
count.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrl.dialogues.dataset import Exchange


@lru_cache(maxsize=65536)
def _pattern(fact: str) -> re.Pattern[str] | None:
    words = re.findall(r"\w+", fact)
    return re.compile(r"\b" + r"\W+".join(map(re.escape, words)) + r"\b", re.IGNORECASE) if words else None


def find_fact(text: str, fact: str) -> tuple[int, int] | None:
    """Where a fact is said first, as begin and end in the text; None where it isn't, or has no word."""
    pattern = _pattern(fact)
    found = pattern.search(text) if pattern else None
    return found.span() if found else None


def recalled(answer: str, facts: Sequence[str]) -> bool:
    """Whether every fact is said in the answer. No facts: False."""
    return bool(facts) and all(find_fact(answer, fact) for fact in facts)


def case_variants(fact: str) -> list[str]:
    """The fact in the cases that people write it in, as given first."""
    return list(dict.fromkeys([fact, fact.lower(), fact.upper(), fact[:1].upper() + fact[1:], fact.title()]))


def settle_marks(exchanges: Sequence["Exchange"], given: Sequence[tuple[bool, bool]]) -> tuple["Exchange", ...]:
    """The exchanges of a dialogue with `distance` and `asks` settled. given: of each, whether its row says which facts
    it needs (an empty list is said as well), and whether it says how far back they lie.

    A distance that isn't given is how many turns ago the farthest fact was last said. A turn asks for memory where its
    distance is above 0, or where its facts stand in neither its query nor any earlier turn (0: it isn't known when they
    were said). A dialogue in which nothing is marked asks in every turn.
    """
    if not any(facts or distance for facts, distance in given):
        return tuple(replace(e, asks=True) for e in exchanges)
    settled: list[Exchange] = []
    for place, (exchange, (_, has_distance)) in enumerate(zip(exchanges, given, strict=True)):
        if has_distance or not exchange.facts:
            settled.append(replace(exchange, asks=exchange.distance > 0))
            continue
        backs = [_said_ago(exchanges, place, fact) for fact in exchange.facts]
        distance = max((back for back in backs if back is not None), default=0)
        settled.append(replace(exchange, distance=distance, asks=distance > 0 or None in backs))
    return tuple(settled)


def _said_ago(exchanges: Sequence["Exchange"], place: int, fact: str) -> int | None:
    """How many turns before `place` a fact was last said, 0 where the query says it, None where nobody does."""
    if find_fact(exchanges[place].query or "", fact):
        return 0
    for back in range(1, place + 1):
        earlier = exchanges[place - back]
        if find_fact(f"{earlier.query or ''}\n{earlier.answer}", fact):
            return back
    return None


__all__ = ["case_variants", "find_fact", "recalled", "settle_marks"]
