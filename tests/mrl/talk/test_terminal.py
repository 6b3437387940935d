"""The dialogue in a terminal: what is printed for what is typed."""

import pytest
import torch

from mrl.talk.session import Session
from mrl.talk.terminal import Terminal, shades
from mrl.talk.world import World


def run(session: Session, *lines: str) -> None:
    typed = iter(lines)

    def ask(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    Terminal(session, "answer", World("A world of pets.", ("Cid has the fox .",)), ask).run()


def test_a_dialogue_is_told_saved_changed_and_loaded(session, tmp_path, capsys):
    file = tmp_path / "talk.safetensors"
    run(session, "Ann has the cat .", "what has Ann", f"/save {file}", "/reset", "/forget 1", "/undo", f"/load {file}",
        "/memory", "/quit", "what has Ann")  # fmt: skip
    out = capsys.readouterr().out
    assert "A world of pets." in out
    assert out.count("then:") == 2  # the question reset, and asked again without turn 1
    assert "taken back: what has Ann" in out
    assert out.count("layer 2: moved |") == 2
    assert [turn.query for turn in session.turns] == ["Ann has the cat .", "what has Ann"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("/nothing", "! /nothing is nothing to do here"),
        ("/forget", "! /forget takes the number of a turn"),
        ("/forget 3", "! nothing was said yet"),
        ("/load", "! /load takes one file"),
        ("/load /nowhere/x", "! there is no file /nowhere/x"),
        ("/save /proc/x/y", "! /proc/x/y can't be written"),
        ("/dialogue x 0", "! /dialogue takes a file and the number of a row"),
        ("", "! the message is empty"),
        ("zebra", "! no token for: zebra"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_the_dialogue_goes_on(session, capsys, line, word):
    run(session, line, "sun")
    assert word in capsys.readouterr().out
    assert session.turns[-1].query == "sun"


def test_shades_are_relative_to_the_largest():
    assert shades(torch.tensor([0.0, 0.5, 1.0])) == " ▒█"
    assert shades(torch.tensor([0.0, 0.0])) == "  "
