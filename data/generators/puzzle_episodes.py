"""Memory episodes in the world of the puzzles (`data.generators.puzzles`), for a model that has learnt to reason there:
who is where and what a letter stands for, told in one turn and asked for in a later one, in words that it knows.

    generator:
      kind: puzzle_episodes   # or puzzle_chats: the same as rows of `messages`
      steps: 8                # keys of kind: episodes; `words`, `chat` and `pair` have no meaning here

Every answer is a note of two words, `Kim market`, to a statement as to a question. All splits speak of the same few
names; what a dialogue tells, in its order, belongs to one split only (`content`): no answer can be known without it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from data.generators.episode_topics import as_chats
from data.generators.episode_world import Attribute, share_of
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
        if self.facts >= (names := len(NAMES) + len(LETTERS)):
            raise SettingError("facts", f"facts is {self.facts}; with {names} names there is room for fewer")
        if self.attributes == 1 and self.facts >= (letters := len(LETTERS)):
            room = f"there are {letters} letters: with attributes 1 there is room for fewer"
            raise SettingError("facts", f"facts is {self.facts}; {room}")
        if self.words != EpisodeOptions.words:
            raise SettingError("words", f"words is {self.words}; the puzzles' world has its own number: leave it out")


@dataclass
class PuzzleNames(Names):
    """Names that all splits share, and which split speaks of them."""

    split: str


@dataclass
class PuzzleEpisode(Episode):
    """A dialogue about who is where and what is what."""

    of_people: ClassVar[tuple[Attribute, ...]] = (PLACE,)
    of_things: ClassVar[tuple[Attribute, ...]] = (NUMBER,)

    names: PuzzleNames

    @classmethod
    def names_of(cls, split: str, options: EpisodeOptions) -> PuzzleNames:
        """The same of every split."""
        return PuzzleNames(list(NAMES), list(LETTERS), split)

    def row(self) -> dict[str, Any]:
        """Make dialogues until one belongs to the split."""
        while True:
            row = super().row()
            if share_of(content(row)) == self.names.split:
                return row
            self.turns, self.facts, self.subjects, self.things, self.kept = [], {}, [], set(), None

    def new_subject(self) -> str:
        """A name that isn't there yet, of a kind that has one left."""
        free = [[name for name in kind if name not in self.subjects] for kind in (self.names.people, self.names.things)]
        shares = zip(self.shares(), free, strict=True)
        [names] = self.random.choices(free, [share * bool(left) for share, left in shares])
        self.subjects.append(name := self.random.choice(names))
        if names is free[1]:
            self.things.add(name)
        return name

    def say(self, query: str, answer: str, facts: list[Fact] | None = None) -> None:
        """One turn. Its answer is a note, name and value side by side, as the puzzles' thoughts have them: such a model
        copies the name first and then what stood behind it."""
        [noted] = facts or [max(self.facts.values(), key=lambda fact: fact.turn)]
        super().say(query, f"{noted.subject} {noted.value}", facts)


def content(row: Mapping[str, Any]) -> str:
    """What a dialogue tells, in its order: no two splits have one with the same."""
    return " ".join(turn["query"] for turn in (row, *row["interactions"]) if not turn["facts"])


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of episodes (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(PuzzleEpisodeOptions, dict(options), source="generator")
    return batches(parsed, entries, split, seed, PuzzleEpisode)


def generate_chats(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """The same as chat rows (`messages`), for models that read a whole conversation at once."""
    return map(as_chats, generate(options, entries, split, seed))


GENERATORS = {"puzzle_episodes": generate, "puzzle_chats": generate_chats}
