"""What there is to say of dialogues before anything is trained on them: a count for each way in which they can fail.

Every stage counts the same things of the rows that it reads (`mrl.dialogues.corpus`); `data/check_dialogues.py` shows
them for files, with places.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import find_fact, said_ago

ABSENT = "facts that their answer doesn't say"
GIVEN, DIFFERENT, DERIVED, UNKNOWN = (
    "distances given, as the words have them",
    "distances given, the words have others",
    "distances derived",
    "turns with a fact that nobody has said before",
)
UNTOLD = "answers that say that it wasn't told"
UNREWARDABLE = "turns that ask with nothing to reward"
SINGLE = "dialogues of one turn"


@dataclass(frozen=True)
class Finding:
    """Something that a person might mend: where, and what."""

    where: str
    what: str


def spoken(conversation: Conversation) -> tuple[tuple[str | None, str], ...]:
    """What tells dialogues apart: what was said in them."""
    return tuple((e.query, e.answer) for e in conversation.exchanges)


def check_dialogues(conversations: Sequence[Conversation], findings: list[Finding] | None = None) -> Counter[str]:
    """How many facts and distances are what kind, and how many turns nothing can reward. findings: takes in the places
    of what is wrong."""
    counts = Counter(dict.fromkeys((ABSENT, GIVEN, DIFFERENT, DERIVED, UNKNOWN, UNTOLD, UNREWARDABLE, SINGLE), 0))
    for conversation in conversations:
        counts[SINGLE] += len(conversation.exchanges) < 2
        for place in range(len(conversation.exchanges)):
            for kind, what in _of_turn(conversation.exchanges, place):
                counts[kind] += 1
                if what and findings is not None:
                    findings.append(Finding(f"{conversation.where}, turn {place + 1}", what))
    return counts


def _of_turn(exchanges: Sequence[Exchange], place: int) -> Iterator[tuple[str, str]]:
    """What counts of a turn, each with what is wrong about it ("" where nothing is)."""
    exchange = exchanges[place]
    absent = [fact for fact in exchange.facts if find_fact(exchange.answer, fact) is None]
    for fact in absent:
        yield ABSENT, f"the answer doesn't say its fact {fact!r}"
    if exchange.asks and len(absent) == len(exchange.facts):
        yield UNREWARDABLE, ""
    if abstains(exchange.answer):
        yield UNTOLD, ""
        return
    if not exchange.facts:
        return
    backs = [said_ago(exchanges, place, fact) for fact in exchange.facts]
    words = max((back for back in backs if back is not None), default=0)
    if exchange.distance_given and exchange.distance == words:
        yield GIVEN, ""
    elif exchange.distance_given:
        yield DIFFERENT, f"distance is {exchange.distance}, but its facts were last said {words} turns before"
    elif None in backs:
        yield UNKNOWN, ""
    else:
        yield DERIVED, ""


def lines_of(counts: Counter[str]) -> list[str]:
    """Counts for a person, those that are 0 left out."""
    return [f"{count} {what}" for what, count in counts.items() if count]
