"""Which turns of held-out dialogues take memory, and how answers to them are counted."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from evaluation.memory.abstention import AbstentionTally
from evaluation.metrics import bootstrap_interval, token_f1
from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import Conversation, RowSource, read_conversations
from mrl.dialogues.facts import Fact, recalled
from pipeline.errors import InputError

DISTANCES = (1, 2, 4, 8, 16, 32)
"""Distances in turns that terminals show and that later files are asked for."""
ENOUGH = 50
"""Questions at a distance that settle it: later files aren't asked for it."""
SAMPLES = 12
"""Answers shown in a report."""


@dataclass(frozen=True)
class Question:
    """A turn that takes memory: which dialogue, which turn, what has to be said. distance 0: it asks for what wasn't
    told, and the right answer says so."""

    dialogue: int
    turn: int
    query: str
    answer: str
    facts: tuple[Fact, ...]
    distance: int
    kind: str = ""
    where: str = ""
    """Where its row stands."""


class Answered(NamedTuple):
    """An answer to a question, and how it counts: 1 where it has all facts, else 0; likeness of words; tokens of the
    thought before it, and whether that came to no end."""

    question: Question
    answer: str
    finished: bool
    recalled: bool
    f1: float
    thought: int = 0
    cut: bool = False


@dataclass
class Tally:
    """Answers and what they come to. untold: those to questions about what wasn't told; no recall counts them."""

    answers: list[Answered] = field(default_factory=list)
    untold: list[Answered] = field(default_factory=list)

    def add(self, question: Question, answer: str, finished: bool = True, thought: int = 0, cut: bool = False) -> None:
        """Score one answer. finished: whether it ended by itself, or was cut at the limit; thought: tokens of the
        thought before it, which doesn't count; cut: that came to no end."""
        told = question.distance > 0
        f1, hit = token_f1(answer, question.answer), recalled(answer, question.facts) if told else abstains(answer)
        kept = self.answers if told else self.untold
        kept.append(Answered(question, answer, finished, hit, f1, thought, cut))

    @property
    def samples(self) -> list[dict[str, Any]]:
        """A few answers for a report."""
        return [
            {
                "query": a.question.query, "answer": a.answer, "wanted": a.question.answer,
                "distance": a.question.distance, "recalled": a.recalled,
            }
            for a in self.answers[:SAMPLES]
        ]  # fmt: skip

    def figures(self) -> dict[str, dict[str, float]]:
        """Means at every distance that occurs, recall over all questions as well."""
        by_distance = self._parts(lambda question: question.distance)
        recall = {str(d): round(statistics.fmean(a.recalled for a in part), 4) for d, part in by_distance.items()}
        f1 = {str(d): round(statistics.fmean(a.f1 for a in part), 4) for d, part in by_distance.items()}
        mean = {"all": round(statistics.fmean(a.recalled for a in self.answers), 4)} if self.answers else {}
        return {"recall": recall | mean, "token_f1": f1}

    def sizes(self) -> dict[str, int]:
        """How many questions stand behind each figure."""
        return {str(d): len(part) for d, part in self._parts(lambda question: question.distance).items()}

    def overall(self) -> dict[str, Any]:
        """Recall of all questions: share, 95 per cent interval over dialogues, how many."""
        return share_recalled(self.answers)

    def intervals(self) -> dict[str, list[float]]:
        """The interval at every distance."""
        parts = self._parts(lambda question: question.distance)
        return {str(d): share_recalled(part)["interval"] for d, part in parts.items()}

    def by_kind(self) -> dict[str, dict[str, Any]]:
        """`overall` of each kind of question that the rows name; of untold ones the share in which that was said."""
        parts: dict[str, list[Answered]] = {}
        for answered in (*self.answers, *self.untold):
            parts.setdefault(answered.question.kind, []).append(answered)
        return {kind: share_recalled(part) for kind, part in sorted(parts.items()) if kind}

    def abstention(self) -> dict[str, Any]:
        """Untold questions to which that was said, told ones that were recalled or to which it was said
        (`AbstentionTally.figures`); nothing where the rows ask for nothing untold."""
        if not self.untold:
            return {}
        tally = AbstentionTally()
        for answered in (*self.answers, *self.untold):
            tally.add(answered.answer, untold=not answered.question.distance, recalled=answered.recalled)
        return tally.figures()

    @property
    def unfinished(self) -> int:
        """Answers that were cut at the limit of new tokens."""
        return sum(not a.finished for a in (*self.answers, *self.untold))

    def thoughts(self) -> dict[str, float]:
        """Share of the answers that thought first, mean tokens of a thought, thoughts that came to no end."""
        lengths = [a.thought for a in self.answers if a.thought]
        return {
            "share": round(len(lengths) / max(1, len(self.answers)), 4),
            "tokens": round(statistics.fmean(lengths), 2) if lengths else 0.0,
            "unfinished": sum(a.cut for a in self.answers),
        }

    def _parts[Key: (int, str)](self, key: Callable[[Question], Key]) -> dict[Key, list[Answered]]:
        parts: dict[Key, list[Answered]] = {}
        for answered in self.answers:
            parts.setdefault(key(answered.question), []).append(answered)
        return dict(sorted(parts.items()))


def share_recalled(answers: Sequence[Answered]) -> dict[str, Any]:
    """Recall of some answers: `recall`, its `interval` over dialogues, `n`."""
    hits = [float(a.recalled) for a in answers]
    return {
        "recall": round(statistics.fmean(hits), 4),
        "interval": bootstrap_interval(hits, [a.question.dialogue for a in answers]),
        "n": len(hits),
    }


def questions_of(conversations: Sequence[Conversation]) -> list[Question]:
    """Every turn that names facts and a distance, or whose answer says that nothing was told. Raises InputError where
    the data has no fact at a distance."""
    questions = [
        Question(number, turn, exchange.query or "", exchange.answer, exchange.facts, exchange.distance,
                 exchange.kind, conversation.where)
        for number, conversation in enumerate(conversations)
        for turn, exchange in enumerate(conversation.exchanges)
        if exchange.facts and (exchange.distance > 0 or abstains(exchange.answer))
    ]  # fmt: skip
    if not any(question.distance for question in questions):
        raise InputError("--data: no turn has facts and a distance; recall can't be measured on these rows")
    return questions


def read_questions(sources: Sequence[RowSource]) -> tuple[list[Conversation], list[Question]]:
    """The questions that count, and the conversations they are asked in: all questions of the first source; of each
    other one those at reported distances that no source before it had enough of (what shorter dialogues can't have)."""
    conversations: list[Conversation] = []
    questions: list[Question] = []
    settled: set[int] = set()
    for number, source in enumerate(sources):
        read = read_conversations(source)
        wanted = set(DISTANCES) - settled
        chosen = [q for q in questions_of(read) if not number or q.distance in wanted]
        settled |= {distance for distance, n in Counter(q.distance for q in chosen).items() if n >= ENOUGH}
        # A conversation in which nothing counts isn't played.
        place = {d: len(conversations) + i for i, d in enumerate(dict.fromkeys(q.dialogue for q in chosen))}
        questions += [replace(q, dialogue=place[q.dialogue]) for q in chosen]
        conversations += [read[d] for d in place]
    return conversations, questions
