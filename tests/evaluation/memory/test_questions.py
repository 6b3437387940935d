"""Which turns are asked, and how answers to them are counted."""

import json

import pytest

from evaluation.memory import questions
from evaluation.memory.questions import Question, Tally, questions_of, read_questions
from mrl.dialogues.dataset import Conversation, Exchange, RowSource
from pipeline.errors import InputError


def test_a_tally_means_by_distance_and_over_everything():
    tally = Tally()
    for distance, said in ((1, "tea"), (1, "soup"), (3, "tea"), (8, "tea")):
        tally.add(Question(0, 1, "what?", "tea", ("tea",), distance), said)
    figures = tally.figures()
    assert figures["recall"] == {"1": 0.5, "3": 1.0, "8": 1.0, "all": 0.75}
    assert tally.sizes() == {"1": 2, "3": 1, "8": 1}


def test_a_tally_tells_kinds_intervals_and_what_was_cut():
    tally = Tally()
    for dialogue, kind, said, finished in (
        (0, "name", "tea", True), (0, "number", "soup", True), (1, "name", "tea", False), (1, "", "tea", True),
    ):  # fmt: skip
        tally.add(Question(dialogue, 1, "what?", "tea", ("tea",), 2, kind), said, finished)
    kinds = {kind: (part["recall"], part["n"]) for kind, part in tally.by_kind().items()}
    assert kinds == {"name": (1.0, 2), "number": (0.0, 1)}
    assert tally.unfinished == 1
    # Two dialogues of 1/2 and 2/2: drawn again, a quarter of the samples is twice the first, a quarter twice the other.
    assert tally.overall() == {"recall": 0.75, "interval": [0.5, 1.0], "n": 4}
    assert tally.intervals() == {"2": [0.5, 1.0]}


def test_untold_questions_count_for_abstention_and_their_kind_but_for_no_recall():
    silent = "You haven't told me that yet."
    told = Exchange("where?", "Corvo", facts=("Corvo",), distance=1, kind="word")
    untold = Exchange("how old?", silent, facts=("haven't told me",), kind="untold")
    asked = questions_of([Conversation((told, untold, told), "here")])
    assert [question.distance for question in asked] == [1, 0, 1]
    tally = Tally()
    for question, said in zip(asked, ("Corvo", "I don't know that.", silent), strict=True):
        tally.add(question, said)
    assert tally.overall()["recall"] == 0.5
    assert tally.sizes() == {"1": 2}
    assert {kind: part["recall"] for kind, part in tally.by_kind().items()} == {"untold": 1.0, "word": 0.5}
    found = tally.abstention()
    assert (found["untold"], found["told"], found["told_abstained"]) == (1.0, 0.5, 0.5)
    assert Tally(tally.answers).abstention() == {}


def test_rows_without_questions_are_refused():
    row = Conversation((Exchange("hello", "hi"), Exchange("bye", "bye")), "here")
    with pytest.raises(InputError, match="facts"):
        questions_of([row])


def test_each_distance_is_measured_on_the_first_file_that_has_enough_of_it(tmp_path, monkeypatch):
    def rows(distances: list[int], name: str) -> str:
        lines = []
        for i, distance in enumerate(distances):
            between = [{"query": "nice day", "answer": "yes"}] * (distance - 1)
            asked = {"query": "what likes ann", "answer": f"{name}{i}", "facts": [f"{name}{i}"], "distance": distance}
            lines.append(json.dumps({"query": "ann likes", "answer": "ok", "interactions": [*between, asked]}))
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    monkeypatch.setattr(questions, "ENOUGH", 2)
    short, long = rows([1, 1, 2, 3], "short.jsonl"), rows([1, 2, 4, 3], "long.jsonl")
    conversations, chosen = read_questions([RowSource(path=short), RowSource(path=long)])
    assert [(q.distance, q.facts[0]) for q in chosen] == [
        (1, "short.jsonl0"), (1, "short.jsonl1"), (2, "short.jsonl2"), (3, "short.jsonl3"), (2, "long.jsonl1"),
        (4, "long.jsonl2"),
    ]  # fmt: skip
    assert len(conversations) == 6  # the long ones at distances 1 (settled) and 3 (not reported) aren't played
    assert all(conversations[q.dialogue].exchanges[q.turn].facts == q.facts for q in chosen)


def test_thoughts_are_counted_and_how_long_and_how_many_came_to_no_end():
    tally, question = Tally(), Question(0, 1, "what", "cat", ("cat",), 1)
    for thought, cut in ((0, False), (4, False), (7, True), (0, False)):
        tally.add(question, "cat", True, thought, cut)
    assert tally.thoughts() == {"share": 0.5, "tokens": 5.5, "unfinished": 1}
    assert Tally().thoughts() == {"share": 0.0, "tokens": 0.0, "unfinished": 0}
