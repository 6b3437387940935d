"""The controls of recall: memories that are told apart by construction."""

from types import SimpleNamespace

import pytest
import torch

from evaluation.memory import recall
from evaluation.memory.questions import questions_of
from evaluation.memory.recall import Answering, measure_memory
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.model import MemoryHistory
from pipeline.errors import InputError


def conversation(name: str, value: str) -> Conversation:
    asked = Exchange(f"what likes {name}", value, facts=(value,), distance=2)
    return Conversation((Exchange(f"{name} likes {value}", "ok"), Exchange("nice day", "yes"), asked), "here")


def test_controls_are_asked_from_other_memories(monkeypatch):
    """A stand-in whose "memory" is the number of its dialogue and of the writes so far, and whose answer tells it."""
    conversations = [conversation("ann", "tea"), conversation("bob", "soup")]
    questions = questions_of(conversations)
    assert [(q.dialogue, q.turn, q.distance) for q in questions] == [(0, 2, 2), (1, 2, 2)]

    def states_before(model, encoded, dialogues, seed, *own):
        states = torch.zeros(3, 1, len(dialogues), 1, 2)
        for turn in range(3):
            for row, dialogue in enumerate(dialogues):
                states[turn, 0, row, 0] = torch.tensor([dialogue if turn else -1, turn])
        return MemoryHistory(states)

    seen = []

    def generate_answers(model, tokenizer, queries, state, max_new_tokens, *how):
        rows = [(int(s[0]), int(s[1])) for s in state.slots[0, :, 0]]
        seen.append(rows)
        said = [["tea", "soup"][dialogue] if dialogue >= 0 else "no idea" for dialogue, _ in rows]
        return [(text, text != "no idea") for text in said]

    monkeypatch.setattr(recall, "states_before", states_before)
    monkeypatch.setattr(recall, "generate_answers", generate_answers)
    monkeypatch.setattr(recall, "encode_dialogues", lambda *a, **k: None)
    model = SimpleNamespace(config=SimpleNamespace(max_interaction_length=32))
    tallies = measure_memory(model, None, conversations, questions, Answering())
    assert seen == [[(0, 2), (1, 2)], [(-1, 0), (-1, 0)], [(1, 2), (0, 2)]]
    assert {name: tally.unfinished for name, tally in tallies.items()} == {
        "memory": 0, "reset_control": 2, "foreign_control": 0,
    }  # fmt: skip
    assert tallies["memory"].figures()["recall"]["2"] == 1.0
    assert tallies["reset_control"].figures()["recall"]["2"] == 0.0
    assert tallies["foreign_control"].figures()["recall"]["2"] == 0.0
    seen.clear()
    measure_memory(model, None, conversations, questions, Answering(controls=1))
    assert seen == [[(0, 2), (1, 2)], [(-1, 0)], [(1, 2)]], "the controls are asked in one dialogue"


def test_one_dialogue_alone_has_no_control():
    alone = [conversation("ann", "tea")]
    with pytest.raises(InputError, match="another one's memory; give two or more"):
        measure_memory(None, None, alone, questions_of(alone), Answering())
