"""A dialogue on disk: the same after loading, and a clear word for a file that isn't it."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mrl.model import MemoryState
from mrl.talk.saved import FORMAT, load_session, save_session
from mrl.talk.session import Session
from mrl.talk.speaker import Speaker
from pipeline.errors import InputError


@pytest.fixture
def saved(session, tmp_path):
    for message in ("Ann has the cat .", "what has Ann"):
        list(session.ask(message))
    save_session(session, tmp_path / "talk.safetensors")
    return tmp_path / "talk.safetensors"


def altered(file, target, state=None, **notes):
    """The saved file with other numbers or notes."""
    with safe_open(str(file), "pt") as stream:
        tensor, known = stream.get_tensor("state"), stream.metadata()
    save_file({"state": tensor if state is None else state}, str(target), {**known, **notes})
    return target


def test_what_was_saved_goes_on_where_it_stopped(session, saved, tmp_path):
    other = Session(session.speaker)
    load_session(other, saved)
    assert [(t.query, t.reply.ids) for t in other.turns] == [(t.query, t.reply.ids) for t in session.turns]
    torch.testing.assert_close(other.state.slots, session.state.slots, rtol=0, atol=0)
    list(session.ask("tea"))
    list(other.ask("tea"))
    assert other.turns[-1].ids == session.turns[-1].ids
    assert MemoryState.load(saved)[1]["format"] == FORMAT
    assert [p.name for p in tmp_path.iterdir()] == ["talk.safetensors"]


def turns_of(saved) -> list[dict]:
    return json.loads(MemoryState.load(saved)[1]["history"])


def test_every_damage_has_its_word_and_nothing_is_lost(session, saved, tmp_path, model, tokenizer):
    bad = tmp_path / "bad.safetensors"
    state = MemoryState.load(saved)[0].slots
    turns = turns_of(saved)
    forged = json.dumps([{**turns[0], "answer": "owl"}, turns[1]])
    foreign = json.dumps([{**turns[0], "reply": [6, 9999]}, turns[1]])
    cases = [
        (lambda: bad.write_bytes(saved.read_bytes()[:100]), "can't be read as a saved dialogue"),
        (lambda: bad.write_text("{}"), "can't be read as a saved dialogue"),
        (lambda: save_file({"other": state}, str(bad)), "can't be read as a saved dialogue"),
        (lambda: save_file({"state": state}, str(bad)), "no dialogue saved here"),
        (lambda: altered(saved, bad, model="0" * 64), "saved with another model"),
        (lambda: altered(saved, bad, state=state + 0.1), "doesn't follow from its turns"),
        (lambda: altered(saved, bad, state=state[:, :, :2].contiguous()), "doesn't follow from its turns"),
        (lambda: altered(saved, bad, history="[]"), "doesn't follow from its turns"),
        (lambda: altered(saved, bad, history="nonsense"), "turns can't be read"),
        (lambda: altered(saved, bad, history=json.dumps([{"query": "Ann"}])), "turns can't be read"),
        (lambda: altered(saved, bad, history=forged), "turns can't be read"),
        (lambda: altered(saved, bad, history=foreign), "turns can't be read"),
    ]
    before = (list(session.turns), list(session.states))
    for make, word in cases:
        make()
        with pytest.raises(InputError, match=word):
            load_session(session, bad)
        assert (session.turns, session.states) == before, word
    with pytest.raises(InputError, match="there is no file"):
        load_session(session, tmp_path / "nothing")


def test_a_state_of_another_model_is_refused(saved, model, tokenizer):
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    with pytest.raises(InputError, match="saved with another model"):
        load_session(Session(Speaker(model, tokenizer)), saved)
