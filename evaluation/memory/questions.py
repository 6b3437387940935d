"""Which turns of held-out dialogues take memory, and how answers to them are counted."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evaluation.metrics import token_f1
from mrl.dialogues.dataset import Conversation, RowSource, read_conversations
from mrl.dialogues.facts import Fact, recalled
from pipeline.errors import InputError

DISTANCES = (1, 2, 4, 8, 16, 32)
"""Distances in turns that are reported."""
ENOUGH = 50
"""Questions at a distance that settle it: later files aren't asked for it."""
SAMPLES = 12
"""Answers shown in a report."""


@dataclass(frozen=True)
class Question:
    """A turn that takes memory: which dialogue, which turn, what has to be said."""

    dialogue: int
    turn: int
    query: str
    answer: str
    facts: tuple[Fact, ...]
    distance: int


@dataclass
class Tally:
    """Answers by distance in turns."""

    recall: dict[int, list[float]] = field(default_factory=dict)
    """1 for an answer with all its facts, else 0."""
    f1: dict[int, list[float]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, question: Question, answer: str) -> None:
        """Score one answer."""
        hit = recalled(answer, question.facts)
        self.recall.setdefault(question.distance, []).append(hit)
        self.f1.setdefault(question.distance, []).append(token_f1(answer, question.answer))
        if len(self.samples) < SAMPLES:
            sample = {"query": question.query, "answer": answer, "wanted": question.answer}
            self.samples.append({**sample, "distance": question.distance, "recalled": hit})

    def figures(self) -> dict[str, dict[str, float]]:
        """Means at the distances that are reported, and over all questions."""
        hits = [hit for by_distance in self.recall.values() for hit in by_distance]
        mean = {"all": round(statistics.fmean(hits), 4)} if hits else {}
        return {"recall": _means(self.recall) | mean, "token_f1": _means(self.f1)}

    def sizes(self) -> dict[str, int]:
        """How many questions stand behind each figure."""
        return {str(d): len(self.recall[d]) for d in DISTANCES if d in self.recall}


def _means(values: dict[int, list[float]]) -> dict[str, float]:
    return {str(d): round(statistics.fmean(values[d]), 4) for d in DISTANCES if values.get(d)}


def questions_of(conversations: Sequence[Conversation]) -> list[Question]:
    """Every turn that names facts and a distance. Raises InputError where the data has none."""
    questions = [
        Question(number, turn, exchange.query or "", exchange.answer, exchange.facts, exchange.distance)
        for number, conversation in enumerate(conversations)
        for turn, exchange in enumerate(conversation.exchanges)
        if exchange.distance > 0 and exchange.facts
    ]
    if not questions:
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
