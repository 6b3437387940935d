"""Memory episodes, made: somebody tells facts about invented people and things, changes the subject, asks later.

    generator:
      kind: episodes
      steps: 8        # interactions after the first one

An episode is a row of the MRL format, `{query, answer, facts, distance, interactions: [{query, answer, facts,
distance}]}`. `facts` are the words that a right answer must contain (empty where nothing is asked), `distance` counts
the turns back to where they were last said: in a statement or in an answer; of several facts the farthest counts.
Values are drawn anew for every episode and the names of one split are unknown to the others
(`data.generators.episode_world`), so that a right answer to a held-out question can only come from this very
conversation.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field

from data.generators.episode_world import (
    COLOURS,
    FAMILY_NAMES,
    FIRST_NAMES,
    NOTED,
    OBJECTS,
    PERSON,
    SMALL_TALK,
    SPLITS,
    THING,
    Attribute,
    pairs,
)
from pipeline.errors import InputError, SettingError
from pipeline.ranges import NonNegativeFloat, PositiveInt, Share

TURN = [("query", pa.string()), ("answer", pa.string()), ("facts", pa.list_(pa.string())), ("distance", pa.int32())]
SCHEMA = pa.schema([*TURN, ("interactions", pa.list_(pa.struct(TURN)))])
"""Columns of an episode; `distance` is null where nothing is asked."""

BATCH = 512


@dataclass(kw_only=True, frozen=True)
class EpisodeOptions:
    """What the YAML's `generator:` section may say."""

    steps: PositiveInt = 8
    """interactions after the first one; the last is always a question"""
    entities: PositiveInt = 6
    """most people and things of one episode"""
    facts: PositiveInt = 10
    """most facts that stand at one time; told later, they take the place of small talk and questions only"""
    tell: NonNegativeFloat = 0.4
    """weight of a statement among the turns in the middle"""
    ask: NonNegativeFloat = 0.4
    """weight of a question"""
    chat: NonNegativeFloat = 0.12
    """weight of small talk"""
    change: NonNegativeFloat = 0.08
    """weight of a statement that overwrites an earlier one"""
    pair: Share = 0.15
    """share of statements and questions that are about two facts at once"""
    likeness: Share = 0.3
    """chance that a new person or thing shares a word of its name with one who is there already"""
    words: Annotated[int, Field(ge=6, le=24)] = 24
    """first names, family names, colours and objects of this world: of fewer, a model learns sooner who is who"""
    attributes: PositiveInt | None = None
    """most sorts of facts (homes, prices …) of one episode; null: all there are. With 1 every fact has rivals"""
    rival: Share = 0.0
    """chance that a new fact is one that is known of another already (a second home, a second price): such facts can
    only be told apart by whose they are"""
    distance: PositiveInt | None = None
    """turns between the last question and where its answer was told; null: drawn for every episode"""

    def __post_init__(self) -> None:
        if self.tell + self.ask <= 0:
            raise SettingError("tell", "tell and ask are both 0; an episode of neither tells nothing and asks nothing")
        if self.distance is not None and self.distance > self.steps:
            raise SettingError(
                "distance", f"distance is {self.distance}; an episode of {self.steps} steps has none such"
            )


@dataclass
class Fact:
    """What holds now, and the turn in which it was last said."""

    subject: str
    attribute: Attribute
    value: str
    turn: int


@dataclass
class Names:
    """The people and things that one split may talk about."""

    people: list[str]
    things: list[str]

    @classmethod
    def of(cls, split: str, words: int = 24) -> "Names":
        """Those of a split in a world of so many first names, family names, colours and objects."""
        people, things = (FIRST_NAMES, FAMILY_NAMES), (COLOURS, OBJECTS)
        return cls(*(pairs(split, first[:words], second[:words]) for first, second in (people, things)))

    def __post_init__(self) -> None:
        self.place = {name: i for i, name in enumerate((*self.people, *self.things))}
        self.sharing: dict[str, set[str]] = {}
        for name in self.place:
            for word in name.split():
                self.sharing.setdefault(word, set()).add(name)

    def alike(self, known: list[str]) -> list[str]:
        """Other names that share a word with one of these, in a fixed order."""
        found = set().union(*(self.sharing[word] for name in known for word in name.split())) - set(known)
        return sorted(found, key=self.place.__getitem__)


@dataclass
class Episode:
    """One conversation while it is being made. `turns` are rows of TURN. A subclass may talk of another world."""

    of_people: ClassVar[tuple[Attribute, ...]] = PERSON
    of_things: ClassVar[tuple[Attribute, ...]] = THING

    options: EpisodeOptions
    names: Names
    random: random.Random
    turns: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[tuple[str, str], Fact] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)
    things: set[str] = field(default_factory=set)
    kept: tuple[str, str] | None = None  # the fact of the last question: not to be touched before

    def __post_init__(self) -> None:
        sorts = (*self.of_people, *self.of_things)
        most = self.options.attributes
        self.sorts = sorts if most is None else self.random.sample(sorts, min(most, len(sorts)))

    @classmethod
    def names_of(cls, split: str, options: EpisodeOptions) -> Names:
        """Whom and what the dialogues of a split are about."""
        return Names.of(split, options.words)

    def row(self) -> dict[str, Any]:
        """Make all turns. The distance of the last question is drawn first, so that far ones are as common as near."""
        last = self.options.steps
        powers = [1 << i for i in range(last.bit_length())]
        drawn = self.random.choice(powers if self.random.random() < 0.8 else range(1, last + 1))
        distance = self.options.distance or drawn
        for turn in range(last):
            if turn == last - distance:
                self.kept = self.tell(turn, may_pair=False)
            else:
                self.middle(turn)
        self.ask(last, self.facts[self.kept])
        first, *later = self.turns
        return {**first, "interactions": later}

    def middle(self, turn: int) -> None:
        """A turn of any kind that is possible now."""
        open_facts = [key for key in self.facts if key != self.kept]
        weights = self.weights(turn, bool(open_facts))
        if not any(weights.values()):
            weights["chat" if turn else "tell"] = 1.0
        [kind] = self.random.choices(list(weights), list(weights.values()))
        if kind == "tell":
            self.tell(turn)
        elif kind == "ask":
            self.ask(turn, self.facts[self.random.choice(open_facts)])
        elif kind == "change":
            self.change(turn, self.facts[self.random.choice(open_facts)])
        else:
            self.aside(kind)

    def weights(self, turn: int, asks: bool) -> dict[str, float]:
        """How often each kind of turn is to come; asks: whether there is a fact to ask for."""
        options = self.options
        return {
            "tell": options.tell if len(self.facts) < options.facts else 0.0,
            "ask": options.ask if asks else 0.0,
            "change": options.change if asks else 0.0,
            "chat": options.chat if turn else 0.0,
        }

    def aside(self, kind: str) -> None:
        """A turn that is about no fact."""
        self.say(*self.random.choice(SMALL_TALK))

    def say(self, query: str, answer: str, facts: list[Fact] | None = None) -> None:
        turn = len(self.turns)
        distance = max((turn - fact.turn for fact in facts), default=None) if facts else None
        self.turns.append(
            {"query": query, "answer": answer, "facts": [f.value for f in facts or []], "distance": distance}
        )
        for fact in facts or []:
            fact.turn = turn  # the answer says it again

    def tell(self, turn: int, may_pair: bool = True) -> tuple[str, str]:
        """State a new fact, sometimes two about one subject; returns the key of the first."""
        fact = self.new_fact(self.subject(), turn)
        query = self.random.choice(fact.attribute.tell).format(s=fact.subject, v=fact.value)
        free = self.unknown(fact.subject)
        if may_pair and free and len(self.facts) < self.options.facts and self.random.random() < self.options.pair:
            query = fact.attribute.tell[0].format(s=fact.subject, v=fact.value)
            more = self.new_fact(fact.subject, turn)
            rest = more.attribute.tell[0].format(s="", v=more.value).removeprefix("The").strip()
            query = f"{query.removesuffix('.')} and {rest}"
        self.say(query, NOTED)
        return fact.subject, fact.attribute.name

    def change(self, turn: int, fact: Fact) -> None:
        """Overwrite a fact by another value."""
        fact.value, fact.turn = self.value(fact.attribute, other_than=fact.value), turn
        self.say(self.random.choice(fact.attribute.change).format(s=fact.subject, v=fact.value), NOTED)

    def ask(self, turn: int, fact: Fact) -> None:
        """Ask for a fact, sometimes together with a second one: same attribute of another, or another of the same."""
        more = self.partners(turn, fact) if self.random.random() < self.options.pair else []
        self.ask_for(fact, *([self.random.choice(more)] if more else []))

    def ask_for(self, fact: Fact, other: Fact | None = None) -> None:
        """Ask for a fact, or for two of one subject or of one attribute."""
        if other is None:
            self.say(self.random.choice(fact.attribute.ask).format(s=fact.subject), fact.value, [fact])
            return
        if other.subject == fact.subject:
            query = f"What are the {fact.attribute.noun} and the {other.attribute.noun} of {self.named(fact)}?"
        else:
            query = fact.attribute.ask_both.format(a=fact.subject, b=other.subject)
        self.say(query, f"{fact.value} and {other.value}", [fact, other])

    def partners(self, turn: int, fact: Fact) -> list[Fact]:
        """Facts that can be asked for in one question with this one; the last question keeps its drawn distance."""
        last = turn == self.options.steps
        return [
            other
            for key, other in self.facts.items()
            if other is not fact
            and (last or key != self.kept)
            and (not last or other.turn >= fact.turn)
            and (other.subject == fact.subject) != (other.attribute is fact.attribute)
        ]

    def new_fact(self, subject: str, turn: int) -> Fact:
        choices = self.unknown(subject)
        known = {name for owner, name in self.facts if owner != subject}
        rivals = [attribute for attribute in choices if attribute.name in known]
        if self.options.rival and rivals and self.random.random() < self.options.rival:
            choices = rivals
        attribute = self.random.choice(choices)
        fact = Fact(subject, attribute, self.value(attribute), turn)
        self.facts[subject, attribute.name] = fact
        return fact

    def unknown(self, subject: str) -> list[Attribute]:
        """What hasn't been said yet of a person or a thing."""
        known = self.of_things if subject in self.things else self.of_people
        return [a for a in known if a in self.sorts and (subject, a.name) not in self.facts]

    def value(self, attribute: Attribute, other_than: str = "") -> str:
        values = attribute.values or self.names.things
        while (value := self.random.choice(values)) == other_than:
            pass
        return value

    def subject(self) -> str:
        """Whom or what the next statement is about: the one just talked about, another, or a new one."""
        free = [subject for subject in self.subjects if self.unknown(subject)]
        if not free or (len(self.subjects) < self.options.entities and self.random.random() < 0.5):
            return self.new_subject()
        return free[-1] if self.random.random() < 0.5 else self.random.choice(free)

    def shares(self) -> tuple[float, float]:
        """Chances that a new subject is a person and a thing: 0 where nothing is told of its kind."""
        people, things = (any(sort in self.sorts for sort in sorts) for sorts in (self.of_people, self.of_things))
        return 0.7 * people, 0.3 * things

    def new_subject(self) -> str:
        of_people, of_things = self.shares()
        [kind] = self.random.choices((self.names.things, self.names.people), (of_things, of_people))
        known = [subject for subject in self.subjects if subject in kind]
        alike = self.names.alike(known)
        subject = self.unused(alike if alike and self.random.random() < self.options.likeness else kind)
        self.subjects.append(subject)
        if kind is self.names.things:
            self.things.add(subject)
        return subject

    def unused(self, names: list[str]) -> str:
        """One of these names that isn't in use. Raises InputError where there is none: more is to be told than this
        split has names for."""
        if all(name in self.subjects for name in names):
            key, words = self.tells_by(), self.options.words
            raise InputError(
                f"generator.{key} is {getattr(self.options, key)}, but this split of a world of {words} words has no "
                f"more than {len(names)} names of a kind, and a dialogue has used them up; lower {key}"
                + (", or raise words" if words < EpisodeOptions.words else "")
            )
        while (name := self.random.choice(names)) in self.subjects:
            pass
        return name

    def tells_by(self) -> str:
        """The key of the recipe by which there are so many statements."""
        return "facts"

    def named(self, fact: Fact) -> str:
        return f"the {fact.subject}" if fact.subject in self.things else fact.subject


def batches(
    options: EpisodeOptions,
    entries: int | None,
    split: str,
    seed: int,
    episode: type[Episode] = Episode,
    schema: pa.Schema = SCHEMA,
) -> Iterator[pa.RecordBatch]:
    """Batches of episodes of a class, with the columns of `schema`. Raises InputError, before the first one, for a
    split without names of its own and for rows without end."""
    if split not in SPLITS:
        raise InputError(f"generator: split {split!r} has no names of its own; choose one of {', '.join(SPLITS)}")
    if entries is None:
        raise InputError("generator: kind episodes makes rows without end; say how many with `entries`")
    return _batches(options, entries, split, seed, episode, schema)


def _batches(
    options: EpisodeOptions, entries: int, split: str, seed: int, episode: type[Episode], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    names = episode.names_of(split, options)
    for start in range(0, entries, BATCH):
        rows = [
            # Each row has randomness of its own, so that asking for more rows doesn't change the first ones.
            episode(options, names, random.Random(f"{seed} {split} {options.steps} {index}")).row()
            for index in range(start, min(entries, start + BATCH))
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=schema)
