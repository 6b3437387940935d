"""bAbI accuracy: whole answers count, tasks are told apart, published figures stand beside the right ones."""

import json
from types import SimpleNamespace

import pytest
import torch

from evaluation.inference import GeneratedAnswer, Thinking
from evaluation.memory import babi
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.model import MemoryHistory
from pipeline.errors import InputError


def story(task: str, *answers: str) -> Conversation:
    return Conversation(tuple(Exchange(f"where is {a}?", a) for a in answers), "here", task)


def test_every_turn_of_every_story_is_asked_once_and_counted_for_its_task(monkeypatch):
    stories = [
        story("qa2_two-supporting-facts", "hall", "park"),
        story("qa1_single-supporting-fact", "garden"),
        story("qa2_two-supporting-facts", "office", "shed", "milk,apple"),
    ]
    monkeypatch.setattr(babi, "encode_dialogues", lambda *a, **k: None)
    monkeypatch.setattr(
        babi,
        "states_before",
        lambda model, encoded, dialogues, seed: MemoryHistory(torch.zeros(3, 1, len(dialogues), 1, 1)),
    )

    def generate_answers(model, tokenizer, queries, state, max_new_tokens, thinking):
        assert len(state) == len(queries)
        said = {"hall": "Hall.", "park": "the park", "garden": "garden", "office": "office", "shed": "hall"}
        return [GeneratedAnswer(said.get(q.split()[-1].rstrip("?"), "milk, apple"), True) for q in queries]

    monkeypatch.setattr(babi, "generate_answers", generate_answers)

    class Model:
        class config:
            max_interaction_length = 32

    by_task = babi.measure(Model(), None, stories, 0)
    assert list(by_task) == ["qa1_single-supporting-fact", "qa2_two-supporting-facts"]
    assert by_task["qa1_single-supporting-fact"] == {"questions": 1, "right": 1, "accuracy": 1.0}
    # "the park" isn't the whole answer, "hall" is another one
    assert by_task["qa2_two-supporting-facts"] == {"questions": 5, "right": 3, "accuracy": 0.6}
    lines = babi.table(by_task, json.loads(babi.PUBLISHED.read_text())).splitlines()
    assert lines[2] == "| qa1_single-supporting-fact | 1 | 100.0 | 100.0 |"
    assert lines[3] == "| qa2_two-supporting-facts | 5 | 60.0 | 99.9 |"
    assert "10,000" in lines[-1]


def test_thoughts_are_counted_by_task(monkeypatch):
    monkeypatch.setattr(babi, "encode_dialogues", lambda *a, **k: None)
    monkeypatch.setattr(babi, "states_before", lambda *a: MemoryHistory(torch.zeros(2, 1, 1, 1, 1)))
    said = iter([[GeneratedAnswer("hall", True, 5, True)], [GeneratedAnswer("park", True)]])
    monkeypatch.setattr(babi, "generate_answers", lambda *a, thinking: next(said))
    model = SimpleNamespace(config=SimpleNamespace(max_interaction_length=32))
    by_task = babi.measure(model, None, [story("qa2_two", "hall", "park")], 0, Thinking("auto"))
    wanted = {"questions": 2, "right": 2, "accuracy": 1.0}
    assert by_task == {"qa2_two": wanted | {"thoughts": 1, "thought_tokens": 5, "unfinished_thoughts": 1}}


def test_another_data_set_is_refused():
    with pytest.raises(InputError, match="bAbI"):
        babi.task_number("hotels")
