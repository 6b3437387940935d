"""Memory episodes that are hard to learn from written answers: some are wrong, or much is told that nobody asks for.

    generator:
      kind: hard_episodes
      mistaken: 0.5       # half of the answers to questions name another's value
      asked: [home]       # nothing else is ever asked for

All other keys are those of kind: episodes. Queries are the same with any `mistaken`, and without `asked` those of kind:
episodes of the same seed: what is learnt from rewards alone is learnt from the same dialogues.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from data.generators.episode_world import PERSON, THING, Attribute
from data.generators.episodes import Episode, EpisodeOptions, Fact, batches
from pipeline.config import nearest, parse_config
from pipeline.errors import SettingError
from pipeline.ranges import Share, Text

SORTS = sorted(attribute.name for attribute in (*PERSON, *THING))


@dataclass(kw_only=True, frozen=True)
class HardOptions(EpisodeOptions):
    """What the YAML's `generator:` section may say."""

    mistaken: Share = 0.0
    """chance that the answer to a question names another value than was told: that of another of the same sort, where
    one is known (the mistake of whoever mixes up people). `facts` stay what was told"""
    asked: list[Text] | None = None
    """sorts of facts that are ever asked for; null: all. The others are told and needn't be remembered"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for sort in self.asked or []:
            if sort not in SORTS:
                raise SettingError("asked", f"asked: {sort!r} is no sort of facts{nearest(sort, SORTS)}")
        if self.asked is not None and not self.asked:
            raise SettingError("asked", "asked is empty; an episode ends with a question")
        if self.asked is not None and self.attributes is not None:
            raise SettingError(
                "attributes", "attributes draws sorts for every episode; leave it out where asked names some"
            )


@dataclass
class HardEpisode(Episode):
    """An episode with mistaken answers, or with facts that nobody will ask for."""

    options: HardOptions
    last_only: bool = False
    """While the fact of the last question is told, which must be one that can be asked for."""
    missaid: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of a fact (its id): the turn of a mistaken answer, and the turn in which it was last said rightly."""

    def __post_init__(self) -> None:
        # Mistakes are drawn from a stream of their own, so that they don't change what is told and asked.
        same = random.Random()
        same.setstate(self.random.getstate())
        self.mistakes = random.Random(same.random())
        super().__post_init__()

    def can_be_asked(self, attribute: Attribute) -> bool:
        """Whether facts of a sort are ever asked for."""
        return self.options.asked is None or attribute.name in self.options.asked

    def open_questions(self) -> list[Fact]:
        """Facts that may be asked for before the last turn."""
        return [fact for key, fact in self.facts.items() if key != self.kept and self.can_be_asked(fact.attribute)]

    def tell(self, turn: int, may_pair: bool = True) -> tuple[str, str]:
        self.last_only = not may_pair  # only what the last question asks for is told alone
        try:
            return super().tell(turn, may_pair)
        finally:
            self.last_only = False

    def unknown(self, subject: str) -> list[Attribute]:
        found = super().unknown(subject)
        return [attribute for attribute in found if self.can_be_asked(attribute)] if self.last_only else found

    def shares(self) -> tuple[float, float]:
        people, things = super().shares()
        if self.last_only:
            people *= any(map(self.can_be_asked, self.of_people))
            things *= any(map(self.can_be_asked, self.of_things))
        return people, things

    def weights(self, turn: int, asks: bool) -> dict[str, float]:
        found = super().weights(turn, asks)
        return found if self.open_questions() else found | {"ask": 0.0}

    def ask(self, turn: int, fact: Fact) -> None:
        if not self.can_be_asked(fact.attribute):
            fact = self.random.choice(self.open_questions())
        super().ask(turn, fact)

    def partners(self, turn: int, fact: Fact) -> list[Fact]:
        return [other for other in super().partners(turn, fact) if self.can_be_asked(other.attribute)]

    def say(self, query: str, answer: str, facts: list[Fact] | None = None) -> None:
        turn, asked = len(self.turns), facts or []
        said = [self.missaid.get(id(fact), (None, 0)) for fact in asked]
        told = [right if fact.turn == wrong else fact.turn for fact, (wrong, right) in zip(asked, said, strict=True)]
        super().say(query, answer, facts)
        if not asked:
            return
        self.turns[-1]["distance"] = turn - min(told)
        if self.mistakes.random() < self.options.mistaken:
            place = self.mistakes.randrange(len(asked))
            values = [fact.value for fact in asked]
            values[place] = self.another(asked[place])
            self.turns[-1]["answer"] = " and ".join(values)
            self.missaid[id(asked[place])] = turn, told[place]

    def another(self, fact: Fact) -> str:
        """A value that isn't this fact's: another's of the same sort, or any."""
        here = {other.value for other in self.facts.values() if other.attribute is fact.attribute} - {fact.value}
        values = sorted(here) or [value for value in fact.attribute.values or self.names.things if value != fact.value]
        return self.mistakes.choice(values)


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of episodes (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    return batches(parse_config(HardOptions, dict(options), source="generator"), entries, split, seed, HardEpisode)


GENERATORS = {"hard_episodes": generate}
