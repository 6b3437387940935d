"""What answers of real dialogues take from earlier turns: names, numbers and times, marked as the facts they need.

Nobody has marked in a real dialogue what an answer rests on. This reads it off the words: a value (a run of capitalised
words or numbers: `Little Hunan`, `March 1st`, `5:15 pm`, `$34`) that the answer says, that an earlier turn said, and
that the query doesn't say has been carried over. A model can only have it from memory, or guess it. Between two values
a small word joins them to one (`Tuesday at 14:25`). Where the query asks, the words that aren't capitalised count too,
if somebody stated them before (`a piano tuner`). A name that is only greeted or thanked is no fact.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

WORD = re.compile(r"\$?\d(?:[\w:.,/%-]*[\w%])?|[^\W\d_][\w'’&-]*|[.!?:]+(?=\s|$)")
SPOKEN = re.compile(r"\w+")
NO_NAMES = {"I", "Ok", "OK", "Okay", "Yes", "No"}
SMALL_WORDS = frozenset("a an and are at by for from in is it my of on or pm am that the this to with you your".split())
"""Count in a name, not by themselves."""
JOINING = frozenset("at by in of on the".split())
"""Stand between two values that are one."""
GREETINGS = frozenset("bye dear goodbye greetings hello hey hi thank thanks welcome you".split())
"""After them a name is spoken to, not spoken of."""
LANGUAGE = SMALL_WORDS | frozenset(
    "about again all also always am another any anything be because been before being but called can come comes could "
    "did didn't do does doesn't doing don't else ever every find get give go goes going good got great had has have "
    "he help her here hers him his how i i'd i'll i'm i've if into its just keep know last later let like likes live "
    "lives look looks made make makes many may me more most much must name named need never new nice no not now one "
    "only other our out over own please really said say says see she should so some something soon still sure take "
    "takes tell than thanks that's their them then there these they thing things think those told too two up us use "
    "very want wants was way we well went were what when where which who why will wish work works would yes yet "
    "you'd you'll you're you've yours".split()
)
"""Words that any answer may say whatever was told."""
STATED = re.compile(r"[^.!?]+(?:[.!]|$)")
"""A sentence that states something."""
ASKS = re.compile(
    r"\b(?:how|remember|recall|remind|tell me|wh(?:at|en|ere|ich|o|om|ose))\b.*\?", re.IGNORECASE | re.DOTALL
)
"""A question whose answer is more than yes or no."""
SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s|$)|$)", re.DOTALL)


def plain(text: str) -> str:
    """The words of a text in lower case between single spaces, one before and one after."""
    return f" {' '.join(SPOKEN.findall(text.lower()))} "


def values(text: str) -> Iterator[list[str]]:
    """The runs of names and numbers of a text, each as its words. A sentence's first word is capitalised anyhow: it
    counts only together with the name that follows it."""
    run: list[str] = []
    between: list[str] = []
    fresh, opened, greeted, end, said = True, False, False, 0, ""
    for found in WORD.finditer(text):
        word = found[0]
        number = word[0] in "$0123456789"
        name = word[0].isupper() and word not in NO_NAMES and not word.startswith(("I'", "I’"))
        hour = word.lower() in ("am", "pm") and bool(run) and run[-1][-1].isdigit()
        if run and text[end : found.start()].strip():  # a comma or a bracket lies between
            yield from () if greeted else _kept(run, opened)
            run, between = [], []
        if number or name or hour:
            if not run:
                opened = fresh and name
                greeted = name and (said in GREETINGS or (fresh and word.lower() in GREETINGS))
            run += [*between, word]
            between = []
        elif run and word in JOINING and not between:
            between = [word]
        elif run:
            yield from () if greeted and word[0] in ".!" else _kept(run, opened)
            run, between = [], []
        fresh, end, said = word[0] in ".!?:", found.end(), word.lower()
    if run:
        yield from () if greeted else _kept(run, opened)


def _kept(run: list[str], opened: bool) -> Iterator[list[str]]:
    if opened and run[0].lower().replace("’", "'").split("'")[0] in LANGUAGE:
        run, opened = run[1:], len(run) == 1  # `At 14:25` begins with a word that is no name
    if run and (not opened or len(run) > 1):
        yield run


def stated(query: str) -> str:
    """The words of a query's sentences that ask nothing, as `plain` has them."""
    return plain(" ".join(STATED.findall(query)))


def plain_values(answer: str, asked: str, told: list[str]) -> Iterator[str]:
    """Runs of words of an answer that are neither capitalised nor language nor in the query, but together in one of
    the statements `told`."""
    run: list[str] = []
    for word in [*SPOKEN.findall(answer), ""]:
        free = len(word) > 2 and word.isalpha() and word.islower() and word not in LANGUAGE and f" {word} " not in asked
        if run and not (free and any(f" {' '.join([*run, word])} " in turn for turn in told)):
            yield " ".join(run)
            run = []
        if free and any(f" {word} " in turn for turn in told):
            run.append(word)


def carried(answer: str, query: str, earlier: list[tuple[str, str]]) -> tuple[list[str], int]:
    """Values of an answer that were said in one of the `earlier` turns (query, answer) and aren't in the query; and how
    many turns ago the farthest of them was last said (0 where there is none). A value that was never said as a whole
    counts by those of its words that were."""
    asked, told = plain(query), [plain(" ".join(turn)) for turn in earlier]

    def ago(value: str) -> int | None:
        wanted = plain(value)
        if wanted in asked or SMALL_WORDS.issuperset(wanted.split()):
            return None
        return next((back for back, turn in enumerate(reversed(told), start=1) if wanted in turn), None)

    facts: dict[str, int] = {}
    statements = [stated(turn) for turn, _ in earlier] if ASKS.search(query) else []
    for sentence in SENTENCE.findall(answer):
        runs = [run for run in values(sentence) if plain(" ".join(run)) not in asked]
        # Where a name or a number answers, the words around it are the sentence's.
        found = (part for run in runs for part in _said_parts(run, ago))
        for part in found if runs else plain_values(sentence, asked, statements):
            if back := ago(part):
                facts[part] = back
    return list(facts), max(facts.values(), default=0)


def _said_parts(run: list[str], ago: Callable[[str], int | None]) -> list[str]:
    # The run as it was said: whole, without a first word that is no name (`Is San Jose`), what small words join, or
    # words.
    for whole in (run, run[1:]):
        if JOINING.isdisjoint(whole[:1]) and ago(" ".join(whole)):
            return [" ".join(whole)]
    if not JOINING.isdisjoint(run):
        joined = [list(group) for small, group in groupby(run, JOINING.__contains__) if not small]
        return [part for group in joined for part in _said_parts(group, ago)]
    return [word for word in run if ago(word)]


def mark(exchanges: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The exchanges of a dialogue with `facts` and `distance`; those that say which ones (or an empty
    list: none) keep what they say."""
    marked: list[dict[str, Any]] = []
    earlier: list[tuple[str, str]] = []
    for turn in exchanges:
        facts, distance = turn.get("facts"), turn.get("distance")
        if facts is None:
            facts, distance = carried(turn["answer"], turn["query"], earlier)
        marked.append({**turn, "facts": facts, "distance": distance})
        earlier.append((turn["query"], turn["answer"]))
    return marked
