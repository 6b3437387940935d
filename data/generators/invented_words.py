"""Words that nobody has seen: made up for one episode, letter by letter, in the place of names and values.

A model that learns from the words of a list can say them from its weights. What is made up can only be copied: from the
turn that tells it into memory, and from there into the answer. Every made word belongs to one split by its letters, so
that no word of a held-out episode stands in any training row.
"""

import random
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from data.generators import episode_world as world
from data.generators.episode_world import share_of

ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl fr gr kl kr pl pr sch sh sk sl sp st str th tr".split()
VOWELS = "a a a e e e i i o o u y ai au ea ee ei ie io oo ou".split()
ENDINGS = "b ck d f g h k l ll m n nd ng nn p r rd rg rn rt s sch ss t tt th x z".split()
TEXTS = ("query", "answer")

CONTENT = frozenset(
    word
    for words in (
        world.FIRST_NAMES, world.FAMILY_NAMES, world.COLOURS, world.OBJECTS, world.TOWNS, world.JOBS, world.FOODS,
        world.PETS, world.ROOMS, world.PRICES,
    )
    for word in words
)  # fmt: skip
"""Words that facts are made of."""
_CONTENT = re.compile(rf"\b(?:{'|'.join(sorted(CONTENT, key=len, reverse=True))})\b", re.IGNORECASE)


def invent(rng: random.Random, like: str, split: str) -> str:
    """A made-up word of a split, with a capital where `like` has one; a number where `like` is one of the prices."""
    if like in world.PRICES:
        return str(rng.randrange(10, 1000))
    while True:
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 2, 2, 3))))
        if rng.random() < 0.6:
            word += rng.choice(ENDINGS)
        if len(word) > 2 and share_of(word) == split:
            return word.capitalize() if like[:1].isupper() else word


class InventedWords:
    """What stands for the words of one episode: the same for a word wherever it occurs."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split = rng, split
        self.made: dict[str, str] = {}

    def _of(self, word: str) -> str:
        known = word.lower()
        if known not in self.made:
            while (made := invent(self.rng, word, self.split)).lower() in self.made.values():
                pass
            self.made[known] = made.lower()
        made = self.made[known]
        return made.capitalize() if word[:1].isupper() else made

    def rename(self, text: str) -> str:
        """A text with other words for those that facts are made of."""
        return _CONTENT.sub(lambda found: self._of(found[0]), text)

    def turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        """A turn so renamed."""
        return turn | {key: self.rename(turn[key]) for key in TEXTS} | {"facts": [*map(self.rename, turn["facts"])]}


def with_invented_words(
    batches: Iterator[pa.RecordBatch], share: float, split: str, seed: int
) -> Iterator[pa.RecordBatch]:
    """Batches of episodes, a share of which has invented words."""
    number = 0
    for batch in batches:
        rows = batch.to_pylist()
        for index, row in enumerate(rows):
            rng = random.Random(f"{seed} {split} invented {number}")
            number += 1
            if rng.random() < share:
                words = InventedWords(rng, split)
                rows[index] = words.turn(row) | {"interactions": [*map(words.turn, row["interactions"])]}
        yield pa.RecordBatch.from_pylist(rows, schema=batch.schema)


__all__ = ["CONTENT", "InventedWords", "invent", "with_invented_words"]
