"""Episodes in rich language: numbers, dates, values of several words, two facts in one answer, corrections, what the
user tells of themselves, questions about what nobody told, statements and questions in several forms, small talk.

A turn that asks has a `kind` (of `KINDS`), for recall by kind. To a question about what wasn't told the answer is the
abstention; as a fact it is what a right answer has to say, so that rewards and recall need no other rule for it.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from data.generators.episode_world import Attribute
from data.generators.episodes import TURN, Episode, Fact
from data.generators.rich_language.world import (
    CHAT,
    CORRECTIONS,
    LEADS,
    ME,
    NOUNS,
    OPENERS,
    OWN,
    PEOPLE,
    THINGS,
    RichAttribute,
)
from pipeline.errors import InputError

ABSTENTION = "You haven't told me that yet."
UNTOLD = 0.12
"""Weight of a question about what wasn't told, where the recipe gives none."""
KINDS = ("word", "several_words", "number", "date", "two_facts", "correction", "untold")

RICH_TURN = [*TURN, ("kind", pa.string())]
SCHEMA = pa.schema([*RICH_TURN, ("interactions", pa.list_(pa.struct(RICH_TURN)))])
"""Columns of an episode; `kind` is null where nothing is asked, `distance` also where nothing was told."""


def sentence(text: str) -> str:
    """With a capital in front."""
    return text[:1].upper() + text[1:]


@dataclass
class RichEpisode(Episode):
    """An episode whose sentences, values and questions are those of `data.generators.rich_language.world`."""

    def __post_init__(self) -> None:
        sorts = (*PEOPLE, *THINGS, *OWN)
        most = self.options.attributes
        self.sorts: tuple[Attribute, ...] | list[Attribute] = (
            sorts if most is None else self.random.sample(sorts, min(most, len(sorts)))
        )
        self.corrected: set[tuple[str, str]] = set()

    def weights(self, turn: int, asks: bool) -> dict[str, float]:
        weights = super().weights(turn, asks)
        chat = weights.pop("chat")
        untold = UNTOLD if self.options.untold is None else self.options.untold
        return {**weights, "untold": untold if turn else 0.0, "chat": chat}

    def aside(self, kind: str) -> None:
        if kind == "untold":
            self.ask_untold()
        else:
            self.say(*self.random.choice(CHAT))

    def say(self, query: str, answer: str, facts: list[Fact] | None = None, kind: str | None = None) -> None:
        super().say(query, answer, facts)
        self.turns[-1]["kind"] = kind

    def tell(self, turn: int, may_pair: bool = True) -> tuple[str, str]:
        """State a new fact, sometimes two of one subject; returns the key of the first."""
        fact = self.new_fact(self.subject(), turn)
        told = self._told(fact)
        room = may_pair and len(self.facts) < self.options.facts and bool(self.unknown(fact.subject))
        if room and self.random.random() < self.options.pair:
            told = f"{told.removesuffix('.')}, and {self._told(self.new_fact(fact.subject, turn))}"
        opener, reply = self.random.choice(OPENERS)
        self.say(sentence(opener.format(t=told if opener != "{t}" else sentence(told))), reply)
        return fact.subject, fact.attribute.name

    def change(self, turn: int, fact: Fact) -> None:
        """Correct a fact."""
        fact.value, fact.turn = self.value(fact.attribute, other_than=fact.value), turn
        self.corrected.add((fact.subject, fact.attribute.name))
        opener, reply = self.random.choice(CORRECTIONS)
        self.say(opener.format(t=self._told(fact)), reply)

    def ask(self, turn: int, fact: Fact) -> None:
        """Ask for a fact, sometimes for two at once."""
        others = self.companions(turn, fact) if self.random.random() < self.options.pair else []
        if others:
            other = self.random.choice(others)
            wanted = " and ".join(NOUNS[f.attribute.name].format(s=f.subject) for f in (fact, other))
            self.say(f"What are {wanted}?", f"{fact.value} and {other.value}.", [fact, other], "two_facts")
            return
        query, answer = self._question(fact.subject, fact.attribute)
        kind = "correction" if (fact.subject, fact.attribute.name) in self.corrected else fact.attribute.kind
        self.say(query, sentence(answer.format(s=fact.subject, v=fact.value)), [fact], kind)

    def companions(self, turn: int, fact: Fact) -> list[Fact]:
        """Facts that can be asked for together with this one; the last question keeps its drawn distance."""
        last = turn == self.options.steps
        return [
            other
            for key, other in self.facts.items()
            if other is not fact and (last or key != self.kept) and (not last or other.turn >= fact.turn)
        ]

    def ask_untold(self) -> None:
        """Ask for what nobody told: of somebody who is known or not, of a thing, of the user."""
        subject = self.random.choice([*self.subjects, ME, self._stranger()])
        unknown = self.unknown(subject)
        if not unknown:
            self.say(*self.random.choice(CHAT))
            return
        query, _ = self._question(subject, self.random.choice(unknown))
        self.say(query, ABSTENTION, kind="untold")
        self.turns[-1]["facts"] = [ABSTENTION.removesuffix(".")]

    def unknown(self, subject: str) -> list[Attribute]:
        """What hasn't been told of a person, a thing or the user."""
        own = OWN if subject == ME else THINGS if subject in self.names.things else PEOPLE
        return [a for a in own if a in self.sorts and (subject, a.name) not in self.facts]

    def value(self, attribute: Attribute, other_than: str = "") -> str:
        while (value := attribute.draw(self.random)) == other_than:
            pass
        return value

    def new_subject(self) -> str:
        kinds = {"people": (PEOPLE, 0.6), "things": (THINGS, 0.25), "own": (OWN, 0.15)}
        shares = {
            kind: share
            for kind, (attributes, share) in kinds.items()
            if any(a in self.sorts for a in attributes) and not (kind == "own" and ME in self.subjects)
        }
        if not shares:  # the few sorts that were drawn are about the user alone
            raise InputError(
                f"generator.attributes is {self.options.attributes}, so that a dialogue can be about the user alone, "
                "of whom there is no more to tell; raise attributes"
            )
        [kind] = self.random.choices(list(shares), list(shares.values()))
        names = {"people": self.names.people, "things": self.names.things}
        subject = ME if kind == "own" else self._named(names[kind])
        self.subjects.append(subject)
        return subject

    def _named(self, names: list[str]) -> str:
        """A name of these that isn't in use, sometimes one that shares a word with another."""
        known = [subject for subject in self.subjects if subject in names]
        alike = self.names.alike(known)
        return self.unused(alike if alike and self.random.random() < self.options.likeness else names)

    def _stranger(self) -> str:
        return self._named(self.names.people)

    def _told(self, fact: Fact) -> str:
        return self.random.choice(fact.attribute.tell).format(s=fact.subject, v=fact.value)

    def _question(self, subject: str, attribute: Any) -> tuple[str, str]:
        """A question about an attribute and the form of its answer."""
        number = self.random.randrange(len(attribute.ask))
        question = attribute.ask[number].format(s=subject)
        return self.random.choice(LEADS).format(q=question), attribute.answers[number]


__all__ = ["ABSTENTION", "KINDS", "SCHEMA", "RichAttribute", "RichEpisode"]
