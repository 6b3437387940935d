"""Memory dialogues with two answers a turn, of which one is better in a way that can be checked.

    generator:
      kind: dialogue_preferences
      steps: 8        # all keys of kind: episodes, and those of PreferenceOptions
      untold: 0.3

A row is an episode (`data.generators.episodes`) whose turns have `rejected` beside `answer`, which is the chosen one,
and `quality`: what the rejected answer lacks and the chosen one has.

    politeness   a word of courtesy
    brevity      at most 8 words
    answer       what was asked for: the rejected answer names another value, or knows nothing of what was told
    abstention   asked for what nobody has told, the chosen answer says that it isn't known; the rejected one invents

A chosen answer has all that applies to its turn, a rejected one lacks its quality alone. `told` says of a question
whether its answer was told (null where nothing is asked).

`kind: mixed_manners` makes the same dialogues with one answer a turn, the chosen one in `chosen_share` of the turns,
else one that is curt, rambling or invented: what a start is trained on that knows all manners, as it takes for
reinforcement to find the better ones. Such rows never answer beside the question.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from data.generators.episode_world import NOTED, PERSON, THING, Attribute
from data.generators.episodes import TURN, Episode, EpisodeOptions, Fact, batches
from pipeline.config import parse_config
from pipeline.ranges import Share

PAIR_TURN = [*TURN, ("rejected", pa.string()), ("quality", pa.string()), ("told", pa.bool_())]
SCHEMA = pa.schema([*PAIR_TURN, ("interactions", pa.list_(pa.struct(PAIR_TURN)))])
MIXED_TURN = [*TURN, ("told", pa.bool_())]
MIXED_SCHEMA = pa.schema([*MIXED_TURN, ("interactions", pa.list_(pa.struct(MIXED_TURN)))])

THANKS, PLEASURE = "thank you", "my pleasure"
"""What a polite answer adds to what it says: to a question, to anything else."""
ABSTENTION = "Sorry, I do not know"
"""The chosen answer to what was never told."""


@dataclass(kw_only=True, frozen=True)
class UntoldOptions(EpisodeOptions):
    """What both kinds' `generator:` section may say."""

    untold: Share = 0.25
    """share of the questions that nobody has told the answer of"""
    stranger: Share = 0.3
    """share of these that are about somebody or something the dialogue hasn't named"""


@dataclass(kw_only=True, frozen=True)
class PreferenceOptions(UntoldOptions):
    """What the YAML's `generator:` section may say for dialogue_preferences."""

    beside: Share | None = None
    """share of the questions about what was told that the rejected answer doesn't answer; default: a third, as often as
    it is curt or rambling"""
    judged: Share = 1.0
    """share of the turns that ask for no fact which have a rejected answer too; manners are learnt from few of them"""


@dataclass(kw_only=True, frozen=True)
class MixedOptions(UntoldOptions):
    """What the YAML's `generator:` section may say for mixed_manners."""

    chosen_share: Share = 0.25
    """share of the turns with the better answer"""


@dataclass
class AnswersDialogue(Episode):
    """An episode that knows a better and worse answers to each turn; `settle` says which of them are written."""

    options: UntoldOptions

    def say(self, query: str, answer: str, facts: list[Fact] | None = None) -> None:
        """One turn with its pair; `answer` says the bare thing."""
        super().say(query, answer, facts)
        better = f"{answer}, {PLEASURE if facts else THANKS}"
        worse = {"politeness": answer, "brevity": rambling(answer, better)}
        if facts:
            worse["answer"] = self.beside(facts)
        self.settle(better, worse, told=True if facts else None)

    def settle(self, better: str, worse: dict[str, str], told: bool | None) -> None:
        """Write the answers of the newest turn; worse: rejected ones by the quality that each lacks."""
        raise NotImplementedError

    def beside(self, facts: list[Fact]) -> str:
        """A polite answer to something else: another value of the kind, or none though it was told."""
        if self.random.random() < 0.5:
            return ABSTENTION
        values = [self.value(fact.attribute, other_than=fact.value) for fact in facts]
        return f"{' and '.join(values)}, {PLEASURE}"

    def ask(self, turn: int, fact: Fact) -> None:
        """Ask for a fact, or for one that nobody has told; the last question keeps its drawn distance."""
        if turn == self.options.steps or self.random.random() >= self.options.untold:
            super().ask(turn, fact)
            return
        subject, attribute = self.never_told()
        super().say(self.random.choice(attribute.ask).format(s=subject), ABSTENTION)
        self.settle(ABSTENTION, {"abstention": f"{self.value(attribute)}, {PLEASURE}"}, told=False)

    def never_told(self) -> tuple[str, Attribute]:
        """Somebody or something, and what nobody has said of it."""
        if self.random.random() >= self.options.stranger:
            known = self.random.choice(self.subjects)
            free = [a for a in self.sorts_of(known) if (known, a.name) not in self.facts]
            if free:
                return known, self.random.choice(free)
        kind = self.names.things if self.random.random() < 0.3 else self.names.people
        strangers = [name for name in kind if name not in self.subjects]
        stranger = self.random.choice(strangers)
        return stranger, self.random.choice(THING if kind is self.names.things else PERSON)

    def sorts_of(self, subject: str) -> tuple[Attribute, ...]:
        return THING if subject in self.things else PERSON


@dataclass
class PreferenceDialogue(AnswersDialogue):
    """The dialogue with a chosen and a rejected answer a turn."""

    options: PreferenceOptions

    def settle(self, better: str, worse: dict[str, str], told: bool | None) -> None:
        beside, judged = self.options.beside, self.options.judged
        if told is None and judged < 1 and self.random.random() >= judged:
            self.turns[-1] |= {"answer": better, "rejected": None, "quality": None, "told": None}
            return
        manners = [quality for quality in worse if quality != "answer"]
        if beside is None or "answer" not in worse:
            quality = self.random.choice(list(worse))
        else:
            quality = "answer" if self.random.random() < beside else self.random.choice(manners)
        self.turns[-1] |= {"answer": better, "rejected": worse[quality], "quality": quality, "told": told}


@dataclass
class MixedDialogue(AnswersDialogue):
    """The same dialogue with one answer a turn."""

    options: MixedOptions

    def settle(self, better: str, worse: dict[str, str], told: bool | None) -> None:
        manners = [answer for quality, answer in worse.items() if quality != "answer"]
        chosen = better if self.random.random() < self.options.chosen_share else self.random.choice(manners)
        self.turns[-1] |= {"answer": chosen, "told": told}


def rambling(answer: str, better: str) -> str:
    """A polite answer that doesn't come to an end."""
    if answer == NOTED:
        return f"{better} and I noted that as you said it"
    return f"{better} and so it is {answer} as I said before"


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of pairs (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(PreferenceOptions, dict(options), source="generator")
    return batches(parsed, entries, split, seed, PreferenceDialogue, SCHEMA)


def generate_mixed(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of dialogues in all manners (see `data.generators.registry.Generator`). Raises InputError."""
    parsed = parse_config(MixedOptions, dict(options), source="generator")
    return batches(parsed, entries, split, seed, MixedDialogue, MIXED_SCHEMA)


GENERATORS = {"dialogue_preferences": generate, "mixed_manners": generate_mixed}
