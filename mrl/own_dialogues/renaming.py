"""Copies of dialogues in which the words that are remembered are others: copying is the only way to answer them.

A model that sees thirty towns in training can say them from its weights, and has no way to say a thirty-first. In a
copy each word of a fact and each name stands for another one throughout: a name of another dialogue, or letters that
nobody has seen together.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import Fact, find_fact, ways_of

WORD = re.compile(r"[^\W\d_]+")
INSIDE = re.compile(r"(?<=[^\W\d_,;] )[A-Z][^\W\d_]+")
"""A word with a capital that no sentence begins with."""
INVENTED = 0.6
"""Share of words that become letters nobody has seen together; the others become words of other dialogues."""
ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl fr gr kl kr pl pr qu sh sk sl sp st str th tr x y".split()
VOWELS = "a a e e i i o o u y ai au ea ee ei ia ie io oa oo ou ue".split()
ENDINGS = ["", "", "b", "ck", "d", "f", "g", "l", "ll", "m", "n", "nd", "ng", "p", "r", "rd", "rt", "s", "st", "t", "x"]


def remembered_words(conversation: Conversation) -> set[str]:
    """The words that stand for somebody or something in a dialogue: those of its facts that an earlier turn says, and
    names (words with a capital inside a sentence)."""
    found: set[str] = set()
    earlier = ""
    for exchange in conversation.exchanges:
        for fact in exchange.facts:
            if find_fact(earlier, fact):
                found.update(word for way in ways_of(fact) for word in WORD.findall(way))
        for text in (exchange.query or "", exchange.answer):
            found.update(INSIDE.findall(text))
        earlier += f"\n{exchange.query or ''}\n{exchange.answer}"
    return {word for word in found if len(word) > 2}


def common_words(conversations: Sequence[Conversation]) -> set[str]:
    """Words that are said in more than a tenth of the dialogues, in lower case: the language, not its names."""
    counts: dict[str, int] = {}
    for conversation in conversations:
        text = " ".join(f"{e.query or ''} {e.answer}" for e in conversation.exchanges)
        for word in set(WORD.findall(text)):
            counts[word.lower()] = counts.get(word.lower(), 0) + 1
    return {word for word, count in counts.items() if count > len(conversations) / 10}


def renamed_copies(conversations: Sequence[Conversation], copies: int, seed: int) -> list[Conversation]:
    """So many renamed copies of every conversation; the same seed gives the same ones."""
    common = common_words(conversations)
    words = [sorted(w for w in remembered_words(c) if w.lower() not in common) for c in conversations]
    pools = [sorted({w for each in words for w in each if w[0].isupper() == capital}) for capital in (False, True)]
    made = []
    for copy in range(copies):
        for number, conversation in enumerate(conversations):
            rng = random.Random(f"{seed} {copy} {number}")
            names = _names(words[number], pools, rng)
            if names:
                made.append(replace(conversation, exchanges=tuple(_renamed(e, names) for e in conversation.exchanges)))
    return made


def _names(words: Sequence[str], pools: Sequence[Sequence[str]], rng: random.Random) -> dict[str, str]:
    names: dict[str, str] = {}
    taken = set(words)
    for word in words:
        other = word
        while other in taken:
            other = _invented(rng, word) if rng.random() < INVENTED else rng.choice(pools[word[0].isupper()])
            if len(pools[word[0].isupper()]) <= 2 * len(words):
                other = _invented(rng, word)
        taken.add(other)
        names[word] = other
    return names


def _invented(rng: random.Random, like: str) -> str:
    word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 2, 2, 3)))) + rng.choice(
        ENDINGS
    )
    return word.capitalize() if like[0].isupper() else word


def _renamed(exchange: Exchange, names: dict[str, str]) -> Exchange:
    def say(text: str) -> str:
        return WORD.sub(lambda found: names.get(found[0], found[0]), text)

    def spell(fact: Fact) -> Fact:
        return say(fact) if isinstance(fact, str) else tuple(map(say, fact))

    query = None if exchange.query is None else say(exchange.query)
    return replace(
        exchange, query=query, answer=say(exchange.answer), think=say(exchange.think),
        facts=tuple(map(spell, exchange.facts)),
    )  # fmt: skip
