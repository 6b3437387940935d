"""Memory episodes some of whose questions nobody has answered yet: the answer follows from two remembered facts.

    generator:
      kind: derivations
      steps: 8
      derive: 0.6     # share of the questions; all other keys are those of kind: episodes

Three sorts of derivation, each from two facts that were told in turns of their own:

    hop        Mira Kolt wants a copper lamp. The copper lamp is in the attic.
               -> Where is the wish of Mira Kolt?
    together   The copper lamp costs two coins. The red bell costs five coins.
               -> What do the copper lamp and the red bell cost together?
    more       -> Which costs more, the copper lamp or the red bell?

Rows are those of kind: episodes with `think` beside `answer`: the two facts as they would be told, then what follows
from them. With `think: false` the same rows have none, so that a model can be trained on the answers alone. `facts` is
the answer's word; `distance` counts the turns back to the farther of the two facts (that of the last
question is drawn for either of them). A thought doesn't say facts again,
for a model that answers at once hasn't thought it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field

from data.generators.episode_world import NOTED, PERSON, PRICES, THING, Attribute
from data.generators.episodes import TURN, Episode, EpisodeOptions, Fact, batches
from pipeline.config import parse_config
from pipeline.errors import SettingError
from pipeline.ranges import Share

Sort = Literal["hop", "together", "more"]

THINKING_TURN = [*TURN, ("think", pa.string()), ("kind", pa.string())]
SCHEMA = pa.schema([*THINKING_TURN, ("interactions", pa.list_(pa.struct(THINKING_TURN)))])
"""Columns of an episode; `think` is null where nothing is derived, `kind` (told, hop, together, more) where nothing is
asked."""

WISH = next(attribute for attribute in PERSON if attribute.name == "wish")
PRICE = next(attribute for attribute in THING if attribute.name == "price")
NUMBERS = dict(zip(PRICES, (*range(2, 21), 30, 40, 50, 60, 90), strict=True))
WORDS = {number: word for word, number in NUMBERS.items()}
SMALL = PRICES[:9]
"""Prices up to ten: any two of them make a number that has a word."""
TELL = 0.9
"""Share of statements among the turns until all that is planned is told."""


@dataclass(kw_only=True, frozen=True)
class DerivationOptions(EpisodeOptions):
    """What the YAML's `generator:` section may say."""

    derive: Share = 0.5
    """share of the questions whose answer has to be derived, where facts that fit together are known"""
    sorts: list[Sort] = field(default_factory=lambda: ["hop", "together", "more"])
    """sorts of derivation"""
    among: Annotated[int, Field(ge=2, le=8)] = 3
    """so many things have a place (or a price) and, for a hop, somebody who wants them: of one, it could be guessed"""
    think: bool = True
    """write the thought beside the answer; false: the same rows, answered at once"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sorts:
            raise SettingError("sorts", "sorts is empty; give one of hop, together, more")


@dataclass(frozen=True)
class Derivation:
    """A question of a sort, the facts that it takes, what they give, and the thought that leads there."""

    sort: Sort
    query: str
    facts: tuple[Fact, Fact]
    answer: str
    think: str

    @property
    def key(self) -> tuple[str, ...]:
        """The same for all questions that ask the same of these facts."""
        return self.answer, *sorted(f"{fact.subject} {fact.value}" for fact in self.facts)


@dataclass
class DerivingEpisode(Episode):
    """An episode that first tells facts which fit together, in any order: of some things where they are or what they
    cost, and who wants them."""

    options: DerivationOptions
    derived: set[tuple[str, ...]] = field(default_factory=set)  # once answered, it is known and isn't asked again

    def __post_init__(self) -> None:
        super().__post_init__()
        hop, things = "hop" in self.options.sorts, [self.meet(self.names.things) for _ in range(self.options.among)]
        attribute = self.random.choice([a for a in THING if hop or a is PRICE])
        self.plan = [(thing, attribute, self.value(attribute)) for thing in things]
        if hop:
            self.plan += [(self.meet(self.names.people), WISH, thing) for thing in things]
        self.random.shuffle(self.plan)

    def meet(self, kind: list[str]) -> str:
        """Somebody or something new, with a name that is like a known one as often as `likeness` says."""
        alike = self.names.alike([subject for subject in self.subjects if subject in kind])
        choices = [name for name in alike if name in kind] if self.random.random() < self.options.likeness else kind
        subject = self.random.choice([name for name in choices or kind if name not in self.subjects])
        self.subjects.append(subject)
        if kind is self.names.things:
            self.things.add(subject)
        return subject

    def middle(self, turn: int) -> None:
        """A turn of any kind; until all that is planned is told, mostly a statement."""
        if self.plan and self.random.random() < TELL:
            self.tell(turn)
        else:
            super().middle(turn)

    def tell(self, turn: int, may_pair: bool = True) -> tuple[str, str]:
        """State what is planned next, or when that is done any new fact."""
        if not self.plan:
            return super().tell(turn, may_pair)
        subject, attribute, value = self.plan.pop()
        self.facts[subject, attribute.name] = Fact(subject, attribute, value, turn)
        self.say(self.random.choice(attribute.tell).format(s=subject, v=value), NOTED)
        return subject, attribute.name

    def say(self, query: str, answer: str, facts: list[Fact] | None = None, think: str | None = None) -> None:
        super().say(query, answer, facts)
        self.turns[-1] |= {"think": think, "kind": "told" if facts else None}

    def ask(self, turn: int, fact: Fact) -> None:
        """Ask for a fact, or for what follows from it and another one."""
        if self.random.random() < self.options.derive and (by_sort := self.derivations(turn, fact)):
            chosen = self.random.choice(self.random.choice(by_sort))
            self.derived.add(chosen.key)
            self.say(chosen.query, chosen.answer, think=chosen.think if self.options.think else None)
            distance = max(turn - fact.turn for fact in chosen.facts)
            self.turns[-1] |= {"facts": [chosen.answer], "distance": distance, "kind": chosen.sort}
        else:
            super().ask(turn, fact)

    def derivations(self, turn: int, fact: Fact) -> list[list[Derivation]]:
        """All that can be asked now and takes this fact, by sort."""
        known = Counter(each.attribute.name for each in self.facts.values())
        pairs = [
            (one, two)
            for key, other in self.facts.items()
            if other is not fact and (turn == self.options.steps or key != self.kept)
            for one, two in ((fact, other), (other, fact))
            if one.attribute is not WISH or known[two.attribute.name] >= self.options.among
        ]
        by_sort = ([d for pair in pairs for d in DERIVE[sort](*pair)] for sort in self.options.sorts)
        return [new for made in by_sort if (new := [d for d in made if d.key not in self.derived])]

    def value(self, attribute: Attribute, other_than: str = "") -> str:
        if attribute is PRICE and "together" in self.options.sorts:
            return self.random.choice([price for price in SMALL if price != other_than])
        return super().value(attribute, other_than)


def told(fact: Fact) -> str:
    """The fact as a thought recites it."""
    return fact.attribute.tell[0].format(s=fact.subject, v=fact.value)


def hop(wish: Fact, other: Fact) -> Iterator[Derivation]:
    """Place or price of what somebody wants."""
    if wish.attribute is WISH and other.subject == wish.value:
        for ask in other.attribute.ask:
            query = ask.format(s=f"wish of {wish.subject}")
            yield Derivation("hop", query, (wish, other), other.value, f"{told(wish)} {told(other)}")


def together(one: Fact, two: Fact) -> Iterator[Derivation]:
    """What two things cost."""
    if one.attribute is PRICE and two.attribute is PRICE:
        total = WORDS[NUMBERS[one.value] + NUMBERS[two.value]]
        query = f"What do the {one.subject} and the {two.subject} cost together?"
        think = f"{told(one)} {told(two)} {one.value} and {two.value} make {total}."
        yield Derivation("together", query, (one, two), total, think)


def more(one: Fact, two: Fact) -> Iterator[Derivation]:
    """Which of two things is dearer."""
    if one.attribute is PRICE and two.attribute is PRICE and one.value != two.value:
        dear, cheap = sorted((one, two), key=lambda fact: -NUMBERS[fact.value])
        query = f"Which costs more, the {one.subject} or the {two.subject}?"
        think = f"{told(one)} {told(two)} {dear.value} is more than {cheap.value}."
        yield Derivation("more", query, (one, two), dear.subject, think)


DERIVE = {"hop": hop, "together": together, "more": more}


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of episodes (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(DerivationOptions, dict(options), source="generator")
    return batches(parsed, entries, split, seed, DerivingEpisode, SCHEMA)


GENERATORS = {"derivations": generate}
