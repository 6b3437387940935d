"""Copies of dialogues in which a question is asked for what was never told: the turn that told it is left out, and the
answer says so.

People's own dialogues seldom have such questions, and a model that never sees one answers each with some value or
other. What a copy asks must be told nowhere in it, and words alone don't show that: "Clara lives in Lisbon" may be a
correction of what an earlier turn said. So

- every turn that says the fact goes, or a rare word of it, in whichever of its spellings and on whichever side;
- what was said between the telling and the question stays, for there the fact was still the right answer: none of it
  takes its place. What was said before the telling may be an older value; it stays where it is of somebody else and
  still asked for later;
- a question whose own fact went with one of these turns goes too;
- a question that leaves open whom it means ("Where does she live?") isn't taken: without the telling it may mean
  somebody of whom it was told.

That a turn is of somebody else is seen by names and rare words, in English also by I, my, he and she.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mrl.dialogues.abstention import abstains, abstention_of
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import Fact, find_fact, said_ago, ways_of
from mrl.own_dialogues.places import settled_again
from mrl.own_dialogues.renaming import INSIDE, WORD, said_words

UNTOLD = 0.5
"""Copies of this sort for every dialogue and every renamed copy."""
ADMISSION = "You haven't told me that yet."
"""What they answer where the dialogues have no such answer of their own."""
KIND = "untold"
FORMS = 8
"""Most ways of saying so that count as right."""
COPIES, LEFT_OUT, IMPOSSIBLE = (
    "copies with a question for what was never told",
    "turns left out of them",
    "drawn dialogues from which no telling can be left out",
)
_ME = re.compile(r"\b(?:I|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)
_OTHERS = re.compile(
    r"\b(?:he|him|his|she|her|hers|it|its|they|them|their|theirs|this|that|there|these|those)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Admission:
    """An answer that says that something wasn't told."""

    answer: str
    fact: Fact
    """The words of it that say so, and those that other answers of the same dialogues say it with: a reward for facts
    pays for each of them, and for nothing else at such a question."""
    own: bool
    """Whether the dialogues have it."""

    @property
    def told(self) -> str:
        """For a person: what is answered, and whose words these are."""
        whose = "of the dialogues" if self.own else "the default, for the dialogues have none"
        return f"“{' '.join(self.answer.split())}” ({whose})"


def admission_of(conversations: Sequence[Conversation]) -> Admission:
    """The answer of this sort that most dialogues have, as long as two have it: one that only a single dialogue has may
    name what was asked. Else ADMISSION."""
    answers: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    for conversation in conversations:
        # Where nothing is marked an "I don't know" is said of anything.
        said = [e.answer for e in conversation.exchanges if e.facts and abstains(e.answer)]
        answers.update(dict.fromkeys(said, 1))
        forms.update(form for answer in said if (form := abstention_of(answer)))
    usual = [answer for answer, count in answers.most_common() if count > 1]
    answer = usual[0] if usual else ADMISSION
    ways = dict.fromkeys([abstention_of(answer) or answer, *(form for form, _ in forms.most_common())])
    distinct = list({way.lower(): way for way in reversed(ways)}.values())[::-1][:FORMS]
    return Admission(answer, tuple(distinct) if len(distinct) > 1 else distinct[0], bool(usual))


def untold_copies(
    conversations: Sequence[Conversation],
    admission: Admission,
    share: float,
    seed: int,
    counts: Counter[str] | None = None,
    language: Sequence[Conversation] | None = None,
) -> list[Conversation]:
    """For a share of the conversations, drawn by the seed, a copy of each in which one question asks for what wasn't
    told, where one can be made. counts: takes in how many were made, and what was left out of them; language: the
    dialogues by which words are common or rare, where these are too few to show it."""
    shown = conversations if language is None else language
    common = {word for word, count in said_words(shown).items() if count > len(shown) / 10}
    made = []
    found = Counter({COPIES: 0, LEFT_OUT: 0, IMPOSSIBLE: 0})
    for number, conversation in enumerate(conversations):
        rng = random.Random(f"{seed} untold {number}")
        if rng.random() >= share:
            continue
        copy = _Dialogue(conversation, common).without_a_telling(admission, rng)
        if copy is None:
            found[IMPOSSIBLE] += 1
            continue
        found[COPIES] += 1
        found[LEFT_OUT] += len(conversation.exchanges) - len(copy)
        made.append(replace(conversation, exchanges=copy))
    if counts is not None:
        counts.update(found)
    return made


class _Dialogue:
    """A dialogue, and who is spoken of where."""

    def __init__(self, conversation: Conversation, common: set[str]) -> None:
        self.exchanges = conversation.exchanges
        self.texts = [f"{e.query or ''}\n{e.answer}" for e in self.exchanges]
        self.names = {name for text in self.texts for name in INSIDE.findall(text)}
        self.common = common

    def without_a_telling(self, admission: Admission, rng: random.Random) -> tuple[Exchange, ...] | None:
        """The exchanges with one telling left out and a question for it answered so; None where it can't be done."""
        places = [place for place in range(1, len(self.exchanges)) if self._can_be_asked(place)]
        rng.shuffle(places)
        # Where most is said before it: a model must not learn that an empty memory is what such questions are about.
        kept = {place: self._kept(place) for place in places}
        place = max(places, key=lambda place: kept[place].index(place), default=0)
        if not place or kept[place][0] == place:  # a dialogue doesn't begin with such a question
            return None
        asked = replace(
            self.exchanges[place], answer=admission.answer, facts=(admission.fact,), distance=0, distance_given=False,
            kind=KIND,
        )  # fmt: skip
        return settled_again([asked if at == place else self.exchanges[at] for at in kept[place]], kept[place])

    def _can_be_asked(self, place: int) -> bool:
        asked = self.exchanges[place]
        if not asked.asks or not asked.query or asked.think or len(asked.facts) != 1 or abstains(asked.answer):
            return False
        [fact] = asked.facts
        if not said_ago(self.exchanges, place, fact) or (told := self._told_at(place, fact)) is None:
            return False
        named = self._named(asked.query)
        telling = self.exchanges[told].query or ""
        if named & self._named(telling):
            return not _OTHERS.search(asked.query) or bool(self._names_in(asked.query))
        return _of_me(asked.query) and _of_me(telling) and not _OTHERS.search(asked.query)

    def _told_at(self, place: int, fact: Fact) -> int | None:
        """The last turn before `place` in which the user says the fact and asks for nothing."""
        told = [
            at
            for at, exchange in enumerate(self.exchanges[:place])
            if not exchange.asks and find_fact(exchange.query or "", fact)
        ]
        return told[-1] if told else None

    def _kept(self, place: int) -> list[int]:
        """Places of the turns that can stay where the one at `place` asks for what wasn't told; `place` is among
        them."""
        [fact] = self.exchanges[place].facts
        told = self._told_at(place, fact)
        kept: list[int] = []
        for at, exchange in enumerate(self.exchanges):
            if at == place:
                kept.append(at)
            elif self._says_of(self.texts[at], fact) or (exchange.asks and not (kept and self._answered_by(kept, at))):
                continue
            elif told is None or at > told or (self._of_others(at, place) and self._still_asked(at, told)):
                kept.append(at)
        return kept

    def _says_of(self, text: str, fact: Fact) -> bool:
        """Whether a text says a fact, or a rare word of it."""
        if find_fact(text, fact):
            return True
        rare = {word.lower() for way in ways_of(fact) for word in WORD.findall(way)} - self.common
        return bool({word for word in rare if len(word) > 2} & {word.lower() for word in WORD.findall(text)})

    def _answered_by(self, kept: Sequence[int], place: int) -> bool:
        """Whether a question still has what it needs: every turn that told it, so that no chance mention stands in for
        a telling that is left out. An answer that says that it wasn't told needs nothing."""
        asked = self.exchanges[place]
        if abstains(asked.answer):
            return True
        if asked.distance_given and asked.distance and place - asked.distance not in kept:
            return False
        for fact in asked.facts:
            tellings = [at for at in range(place) if find_fact(self.texts[at], fact)]
            first = [at for at in tellings if not self.exchanges[at].asks]
            if not set(first) <= set(kept) or not (set(tellings) & set(kept) or asked.distance_given):
                return False
        return bool(asked.facts) or asked.distance_given

    def _of_others(self, at: int, place: int) -> bool:
        """Whether a turn names somebody or something and isn't of what the question at `place` is of."""
        asked = self.exchanges[place].query or ""
        text = self.texts[at]
        named = self._named(text)
        if not named or named & self._named(asked) or (_of_me(asked) and _of_me(self.exchanges[at].query or "")):
            return False
        other = _OTHERS.search(text)
        # "Ann is here. She sings": she is Ann. "She sings, says Ann": who knows.
        return other is None or any(name in text[: other.start()] for name in self._names_in(text))

    def _still_asked(self, at: int, told: int) -> bool:
        """Whether something that the turn says is asked for after `told`: it holds still, and isn't what was
        corrected there."""
        return any(
            find_fact(self.texts[at], fact)
            for later in self.exchanges[told + 1 :]
            if later.asks and not abstains(later.answer)
            for fact in later.facts
        )

    def _named(self, text: str) -> set[str]:
        """Words of a text that stand for somebody or something: names, and words that few dialogues have."""
        words = WORD.findall(text)
        return {w.lower() for w in words if w in self.names or (len(w) > 2 and w.lower() not in self.common)}

    def _names_in(self, text: str) -> set[str]:
        return {word for word in WORD.findall(text) if word in self.names}


def _of_me(text: str) -> bool:
    return _ME.search(text) is not None
