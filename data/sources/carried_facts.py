"""What answers of real dialogues take from earlier turns: names, numbers and times, marked as the facts they need.

Nobody has marked in a real dialogue what an answer rests on. This reads it off the words: a value (a run of capitalised
words or numbers: `Little Hunan`, `March 1st`, `5:15 pm`, `$34`) that the answer says, that an earlier turn said, and
that the query doesn't say has been carried over. A model can only have it from memory, or guess it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

WORD = re.compile(r"\$?\d(?:[\w:.,/%-]*[\w%])?|[^\W\d_][\w'’&-]*|[.!?:]+(?=\s|$)")
SPOKEN = re.compile(r"\w+")
NO_NAMES = {"I", "Ok", "OK", "Okay", "Yes", "No"}
SMALL_WORDS = frozenset("a an and are at by for from in is it my of on or pm am that the this to with you your".split())
"""Count in a name, not by themselves."""


def plain(text: str) -> str:
    """The words of a text in lower case between single spaces, one before and one after."""
    return f" {' '.join(SPOKEN.findall(text.lower()))} "


def values(text: str) -> Iterator[list[str]]:
    """The runs of names and numbers of a text, each as its words. A sentence's first word is capitalised anyhow: it
    counts only together with the name that follows it."""
    run: list[str] = []
    fresh, opened, end = True, False, 0
    for found in WORD.finditer(text):
        word = found[0]
        number = word[0] in "$0123456789"
        name = word[0].isupper() and word not in NO_NAMES and not word.startswith(("I'", "I’"))
        hour = word.lower() in ("am", "pm") and bool(run) and run[-1][-1].isdigit()
        if run and text[end : found.start()].strip():  # a comma or a bracket lies between
            yield from _kept(run, opened)
            run = []
        if number or name or hour:
            if not run:
                opened = fresh and name
            run.append(word)
        elif run:
            yield from _kept(run, opened)
            run = []
        fresh, end = word[0] in ".!?:", found.end()
    if run:
        yield from _kept(run, opened)


def _kept(run: list[str], opened: bool) -> Iterator[list[str]]:
    if not opened or len(run) > 1:
        yield run


def carried(answer: str, query: str, earlier: list[str]) -> tuple[list[str], int]:
    """Values of an answer that were said in one of the `earlier` turns and aren't in the query; and how many turns
    ago the farthest of them was last said (0 where there is none). A value that was never said as a whole counts by
    those of its words that were."""
    asked, told = plain(query), [plain(turn) for turn in earlier]

    def ago(value: str) -> int | None:
        wanted = plain(value)
        if wanted in asked or SMALL_WORDS.issuperset(wanted.split()):
            return None
        return next((back for back, turn in enumerate(reversed(told), start=1) if wanted in turn), None)

    facts: dict[str, int] = {}
    for run in values(answer):
        wholes = [" ".join(run), " ".join(run[1:])]  # `Is San Jose` begins with a word that is no name
        parts = [whole for whole in wholes if ago(whole)][:1]
        facts |= {part: back for part in parts or run if (back := ago(part))}
    return list(facts), max(facts.values(), default=0)


def mark(exchanges: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The exchanges of a dialogue with `facts` and `distance`; those that say which ones (or an empty
    list: none) keep what they say."""
    marked, earlier = [], []
    for turn in exchanges:
        facts, distance = turn.get("facts"), turn.get("distance")
        if facts is None:
            facts, distance = carried(turn["answer"], turn["query"], earlier)
        marked.append({**turn, "facts": facts, "distance": distance})
        earlier.append(f"{turn['query']} {turn['answer']}")
    return marked
