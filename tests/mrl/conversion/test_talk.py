"""A converted model behind the chat page's dialogue: asking, undoing, resetting, saving."""

import io
import runpy
from pathlib import Path

import pytest
import torch

from mrl.model import Sampling, layers
from mrl.model.attention import attend
from mrl.model.memory import occupied
from mrl.recipes.model import ModelConfig
from mrl.talk.pictures import memory_pictures
from mrl.talk.saved import load_session, save_session
from mrl.talk.session import Session
from mrl.talk.speaker import Speaker
from mrl.talk.terminal import pictures
from mrl.talk.traces import slots_read
from mrl.training.model_io import load_reactive
from tests.mrl.conversion.toy import opened

READERS = [{}, {"layers": [1]}, {"memory_read": "cross"}, {"memory_read": "cross", "encoder": "none", "layers": [0]}]
MESSAGES = ("a alpha", "b beta c", "a g")
WORDS = 5


@pytest.fixture(params=READERS, ids=str)
def session(request, convert) -> Session:
    model, tokenizer = load_reactive(ModelConfig(path=str(convert(**request.param))))
    return Session(Speaker(opened(model), tokenizer, max_new_tokens=WORDS))


def tell(session: Session, *messages: str) -> None:
    for message in messages:
        list(session.ask(message))


def greedy(session: Session, message: str, state) -> tuple[int, ...]:
    """What generate_answers says to a message."""
    said = session.speaker.model.generate_answers(
        torch.tensor([session.speaker.prompt(message)]), None, state, max_new_tokens=WORDS,
        sampling=Sampling(temperature=0),
    )  # fmt: skip
    return tuple(said.ids[0, : int(said.mask.sum())].tolist())


def test_turns_are_answered_and_written_and_their_reading_is_shown(session):
    tell(session, *MESSAGES)
    model = session.speaker.model
    for turn, before, after in zip(session.turns, session.states, session.states[1:], strict=False):
        assert turn.reply.ids == greedy(session, turn.query, before)
        with torch.no_grad():
            torch.testing.assert_close(model.write(before, torch.tensor([turn.ids])).slots, after.slots)
    first, *later = session.turns
    assert not first.read.any(), "there was nothing to read"
    apart, reading = model.config.memory_read == "cross", model.config.reading_layers
    for turn, state in zip(later, session.states[1:], strict=False):
        assert turn.read.shape == turn.moved.shape == (len(reading), 8)
        assert not turn.read[:, ~occupied(state.slots)[0]].any()
        total = turn.read.sum(1)
        assert torch.allclose(total, torch.ones(len(reading))) if apart else bool(((total > 0) & (total < 1)).all())
    assert first.history_tokens == len(session.speaker.prompt(MESSAGES[0])) + len(model.config.frame.answer)
    for layer in reading:
        assert f"layer {layer + 1}: moved |" in pictures(session)
        assert f">layer {layer + 1}<" in memory_pictures(session, 2)


def test_what_is_shown_of_joint_reading_is_the_share_of_the_softmax_that_slots_have(convert, monkeypatch):
    """Against weights got by giving each slot a value of its own: with one-hot values, what attention returns is its
    weights."""
    model, _ = load_reactive(ModelConfig(path=str(convert())))
    ids, seen = torch.tensor([[6, 7, 8, 9, 10, 11]]), []
    with torch.no_grad():
        state = opened(model).write(model.initial_state(1), torch.tensor([[5, 12, 4, 13, 6, 14, 7, 5, 9]]))

    def watched(query, key, value, mask):
        one_hot = torch.zeros_like(value)
        one_hot[:, :8] = torch.eye(8)[None, :, None]
        seen.append(attend(query, key, one_hot, mask).unflatten(-1, (-1, 8))[0, 2:5].mean((0, 1)))
        return attend(query, key, value, mask)

    monkeypatch.setattr(layers, "attend", watched)
    read = slots_read(model, ids[0].tolist(), state, 2, 5)
    torch.testing.assert_close(read, torch.stack(seen))
    assert read.shape == (2, 8)


def test_undo_reset_and_taking_a_turn_out(session):
    tell(session, *MESSAGES)
    last = session.turns[-1]
    change = session.reset_answer()
    *_, fresh = session.speaker.speak(session.speaker.prompt(MESSAGES[2]), session.states[0])
    assert (change.before, change.after) == (last.reply.answer, fresh.answer)
    states = list(session.states)
    assert session.undo() == MESSAGES[2]
    assert session.states == states[:3]
    tell(session, MESSAGES[2])
    assert session.turns[-1].ids == last.ids
    session.remove(1)
    state = session.states[0]
    with torch.no_grad():
        for turn in session.turns:
            state = session.speaker.model.write(state, torch.tensor([turn.ids]))
    torch.testing.assert_close(session.state.slots, state.slots)
    assert [turn.query for turn in session.turns] == list(MESSAGES[1:])


@pytest.mark.parametrize("memory", READERS, ids=str)
def test_the_script_talks_and_does_to_the_dialogue_what_is_asked(convert, memory, tmp_path, capsys, monkeypatch):
    folder = convert(**memory)
    chat = runpy.run_path(str(Path(__file__).parents[3] / "mrl" / "chat.py"))
    lines = ["a alpha", "b beta", "/reset", "/undo", "/memory", f"/save {tmp_path / 'talk.safetensors'}", "/new"]
    lines += [f"/load {tmp_path / 'talk.safetensors'}", "a g"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    options = ["--model", str(folder), "--cli", "--begin", "auto", "--max-new-tokens", "6", "--max-think-tokens", "4"]
    chat["main"](chat["parse_options"](options))
    out = capsys.readouterr().out
    assert "!" not in out
    assert "taken back: b beta" in out
    assert "1. a alpha" in out[out.index("begun anew") :]
    held = len(memory.get("layers", (0, 1))) * 8 * 32 * 4
    assert out.count(f"memory {held:,} bytes") == 3


def test_a_saved_dialogue_goes_on_where_it_stopped(session, tmp_path):
    tell(session, *MESSAGES[:2])
    save_session(session, tmp_path / "talk.safetensors")
    other = Session(session.speaker)
    load_session(other, tmp_path / "talk.safetensors")
    torch.testing.assert_close(other.state.slots, session.state.slots, rtol=0, atol=0)
    for each in (session, other):
        tell(each, MESSAGES[2])
    assert other.turns[-1].ids == session.turns[-1].ids
