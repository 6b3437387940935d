"""Memory episodes in the world of the puzzles (`data.generators.puzzles`), for a model that has learnt to reason there:
who is where and what a letter stands for, told in one turn and asked for in a later one, in words that it knows.

    generator:
      kind: puzzle_episodes   # or puzzle_chats: the same as rows of `messages`
      steps: 8                # keys of kind: episodes; `words`, `chat` and `pair` have no meaning here

Names are few, so what no training row has is a pair: of the values that a name can have some are told in the last fact
of held-out dialogues only (`values_of`). A right answer to the last question then names a value that the model has
never seen with this name.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import pyarrow as pa

from data.generators.episode_topics import as_chats
from data.generators.episode_world import NOTED, SHARES, Attribute
from data.generators.episodes import Episode, EpisodeOptions, Fact, Names, batches
from data.generators.puzzles import LETTERS, NAMES, PLACES, TOP
from pipeline.config import parse_config
from pipeline.errors import SettingError
from pipeline.ranges import NonNegativeFloat, Share

PLACE = Attribute(
    name="place",
    noun="place",
    values=tuple(PLACES),
    tell=("{s} is in the {v}.",),
    ask=("Where is {s}?",),
    change=("{s} is in the {v}.",),
    ask_both="Where is {a}? Where is {b}?",
)
NUMBER = Attribute(
    name="number",
    noun="number",
    values=tuple(map(str, range(TOP + 1))),
    tell=("{s} is {v}.",),
    ask=("What is {s}?",),
    change=("{s} is {v}.",),
    ask_both="What is {a}? What is {b}?",
)


@dataclass(kw_only=True, frozen=True)
class PuzzleEpisodeOptions(EpisodeOptions):
    """What the YAML's `generator:` section may say: other defaults, as nobody talks of the weather here."""

    tell: NonNegativeFloat = 0.5
    chat: NonNegativeFloat = 0.0
    pair: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse what this world has no words for."""
        super().__post_init__()
        for name in ("chat", "pair"):
            if getattr(self, name):
                raise SettingError(
                    name, f"{name} is {getattr(self, name)}; the puzzles' world has no words for that: leave it out"
                )
        if self.words != EpisodeOptions.words:
            raise SettingError("words", f"words is {self.words}; the puzzles' world has its own number: leave it out")


@cache
def values_of(subject: str, attribute: Attribute) -> dict[str, frozenset[str]]:
    """The values of each split, in an order that the letters of subject and value decide: at least one of each."""
    ranked = sorted(attribute.values, key=lambda value: (zlib.crc32(f"{subject} {value}".encode()), value))
    found = {}
    for split, share in SHARES.items():
        count = max(1, math.floor(share * len(attribute.values)))
        found[split], ranked = frozenset(ranked[:count]), ranked[count:]
    return found | {"train": frozenset(ranked)}


@dataclass
class PuzzleNames(Names):
    """Names that all splits share, and which split speaks of them."""

    split: str

    def values(self, subject: str, attribute: Attribute, *, last: bool) -> list[str]:
        """What a name may be said to have; last: where that is asked for at the end."""
        if last or self.split == "train":
            return [value for value in attribute.values if value in values_of(subject, attribute)[self.split]]
        return list(attribute.values)


@dataclass
class PuzzleEpisode(Episode):
    """A dialogue about who is where and what is what."""

    of_people: ClassVar[tuple[Attribute, ...]] = (PLACE,)
    of_things: ClassVar[tuple[Attribute, ...]] = (NUMBER,)

    names: PuzzleNames
    telling_last: bool = False
    """Whether the fact that is asked for at the end is being told."""

    @classmethod
    def names_of(cls, split: str, options: EpisodeOptions) -> PuzzleNames:
        """The same of every split."""
        return PuzzleNames(list(NAMES), list(LETTERS), split)

    def tell(self, turn: int, may_pair: bool = True) -> tuple[str, str]:
        """State a new fact; the one that is asked for at the end comes without a second one (may_pair)."""
        self.telling_last = not may_pair
        return super().tell(turn, may_pair)

    def new_fact(self, subject: str, turn: int) -> Fact:
        """A fact with a value that the split has for this name."""
        fact = super().new_fact(subject, turn)
        fact.value = self.random.choice(self.names.values(subject, fact.attribute, last=self.telling_last))
        return fact

    def change(self, turn: int, fact: Fact) -> None:
        """Overwrite a fact by another value."""
        choices = self.names.values(fact.subject, fact.attribute, last=False)
        fact.value, fact.turn = self.random.choice([value for value in choices if value != fact.value]), turn
        self.say(self.random.choice(fact.attribute.change).format(s=fact.subject, v=fact.value), NOTED)


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of episodes (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(PuzzleEpisodeOptions, dict(options), source="generator")
    return batches(parsed, entries, split, seed, PuzzleEpisode)


def generate_chats(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """The same as chat rows (`messages`), for models that read a whole conversation at once."""
    return map(as_chats, generate(options, entries, split, seed))


GENERATORS = {"puzzle_episodes": generate, "puzzle_chats": generate_chats}
