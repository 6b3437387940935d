"""Recall and its controls: hand-worked scores, and memories that are told apart by construction."""

import json

import pytest
import torch

from evaluation import retention
from evaluation.metrics import recalled, token_f1
from evaluation.retention import Question, Tally, questions_of
from mrl.dialogues.dataset import parse_row
from pipeline.errors import InputError


def test_a_fact_is_recalled_as_whole_words_in_order():
    assert recalled("It is the red key.", ["red key"])
    assert recalled("Red Key and a lamp", ["lamp", "red key"])
    assert not recalled("the key is red", ["red key"])
    assert not recalled("a bored keyboard", ["red", "key"])
    assert not recalled("red", [])
    assert not recalled("", ["red"])


def test_token_f1_by_hand():
    assert token_f1("a b c", "a b c") == 1.0
    assert token_f1("a b", "b c d") == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    assert token_f1("a a", "a") == pytest.approx(2 / 3)
    assert token_f1("", "a") == 0.0


def test_a_tally_means_by_distance_and_over_everything():
    tally = Tally()
    for distance, said in ((1, "tea"), (1, "soup"), (3, "tea"), (8, "tea")):
        tally.add(Question(0, 1, "what?", "tea", ("tea",), distance), said)
    figures = tally.figures()
    assert figures["recall"] == {"1": 0.5, "8": 1.0, "all": 0.75}  # 3 isn't a distance of its own
    assert tally.sizes() == {"1": 2, "8": 1}


def episode(name: str, value: str) -> dict:
    return {
        "query": f"{name} likes {value}", "answer": "ok", "interactions": [
            {"query": "nice day", "answer": "yes"},
            {"query": f"what likes {name}", "answer": value, "facts": [value], "distance": 2},
        ],
    }  # fmt: skip


class Conversation:
    def __init__(self, row: dict) -> None:
        self.exchanges = parse_row(row, "here")
        self.group = ""
        self.where = "here"


def test_controls_are_asked_from_other_memories(monkeypatch):
    """A stand-in whose "memory" is the number of its dialogue and of the writes so far, and whose answer tells it."""
    conversations = [Conversation(episode("ann", "tea")), Conversation(episode("bob", "soup"))]
    questions = questions_of(conversations)
    assert [(q.dialogue, q.turn, q.distance) for q in questions] == [(0, 2, 2), (1, 2, 2)]

    def states_before(model, encoded, dialogues, seed, *own):
        made = torch.zeros(3, 1, len(dialogues), 1, 2)
        for turn in range(3):
            for row, dialogue in enumerate(dialogues):
                made[turn, 0, row, 0] = torch.tensor([dialogue if turn else -1, turn])
        return made

    seen = []

    def answers(model, tokenizer, queries, states, tokens, *how):
        rows = [(int(s[0]), int(s[1])) for s in states[0, :, 0]]
        seen.append(rows)
        return [["tea", "soup"][dialogue] if dialogue >= 0 else "no idea" for dialogue, _ in rows]

    class Model:
        class config:
            max_interaction_length = 32

    monkeypatch.setattr(retention, "states_before", states_before)
    monkeypatch.setattr(retention, "answers", answers)
    monkeypatch.setattr(retention, "encode_dialogues", lambda *a, **k: None)
    tallies = retention.measure_memory(Model(), None, conversations, questions, 0, 8)
    assert seen == [[(0, 2), (1, 2)], [(-1, 0), (-1, 0)], [(1, 2), (0, 2)]]
    assert tallies["memory"].figures()["recall"]["2"] == 1.0
    assert tallies["reset_control"].figures()["recall"]["2"] == 0.0
    assert tallies["foreign_control"].figures()["recall"]["2"] == 0.0


def test_rows_without_questions_are_refused(tmp_path):
    row = {"query": "hello", "answer": "hi", "interactions": [{"query": "bye", "answer": "bye"}]}
    with pytest.raises(InputError, match="facts"):
        questions_of([Conversation(row)])
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    options = retention.parse_options(["--model", "./none", "--data", str(tmp_path / "rows.jsonl")])
    with pytest.raises(InputError, match="none"):
        retention.main(options)


def test_each_distance_is_measured_on_the_first_file_that_has_enough_of_it(tmp_path, monkeypatch):
    def rows(distances: list[int], name: str) -> str:
        lines = []
        for i, distance in enumerate(distances):
            between = [{"query": "nice day", "answer": "yes"}] * (distance - 1)
            asked = {"query": "what likes ann", "answer": f"{name}{i}", "facts": [f"{name}{i}"], "distance": distance}
            lines.append(json.dumps({"query": "ann likes", "answer": "ok", "interactions": [*between, asked]}))
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    monkeypatch.setattr(retention, "ENOUGH", 2)
    short, long = rows([1, 1, 2, 3], "short.jsonl"), rows([1, 2, 4, 3], "long.jsonl")
    options = retention.parse_options(["--model", "none", "--data", short, long])
    conversations, questions = retention.read_questions(options)
    assert [(q.distance, q.facts[0]) for q in questions] == [
        (1, "short.jsonl0"), (1, "short.jsonl1"), (2, "short.jsonl2"), (3, "short.jsonl3"), (2, "long.jsonl1"),
        (4, "long.jsonl2"),
    ]  # fmt: skip
    assert len(conversations) == 6  # the long ones at distances 1 (settled) and 3 (not reported) aren't played
    assert all(conversations[q.dialogue].exchanges[q.turn].facts == q.facts for q in questions)
