"""Rows with two answers are encoded as they are meant, whatever their format, or refused by name."""

import pytest

from mrl.dialogues.dataset import parse_row
from pipeline.errors import InputError
from tests.mrl.preferences.conftest import dialogue, turn

USER, ASSISTANT = ({"role": role, "content": text} for role, text in (("user", "what has Ann"), ("assistant", "cat")))
TOLD = [{"role": "user", "content": "Ann has the cat ."}, {"role": "assistant", "content": "noted"}]
WORSE = {"role": "assistant", "content": "dog"}


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [*TOLD, USER, ASSISTANT], "rejected": [*TOLD, USER, WORSE]},
        {"prompt": [*TOLD, USER], "chosen": [ASSISTANT], "rejected": [WORSE]},
        {"prompt": [*TOLD, USER], "chosen": "cat", "rejected": "dog"},
        dialogue(turn("Ann has the cat .", "noted"), turn("what has Ann", "cat", "dog")),
    ],
)
def test_every_format_says_the_same(row):
    first, last = parse_row(row, "f:3")
    assert (first.query, first.answer, first.rejected) == ("Ann has the cat .", "noted", "")
    assert (last.query, last.answer, last.rejected) == ("what has Ann", "cat", "dog")


def test_thoughts_of_both_answers_are_split_off():
    thinking = {"role": "assistant", "content": "<think>why</think>cat"}
    (only,) = parse_row({"chosen": [USER, thinking], "rejected": [USER, ASSISTANT]}, "f:3")
    assert (only.think, only.answer, only.rejected_think, only.rejected) == ("why", "cat", "", "cat")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": [USER, ASSISTANT]}, "f:3: rejected is missing"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, "are the same; nothing is preferred"),
        ({"chosen": [*TOLD, USER, ASSISTANT], "rejected": [TOLD[0], WORSE, USER, WORSE]}, "alike before that"),
        ({"prompt": [*TOLD, USER], "chosen": [ASSISTANT, USER, WORSE], "rejected": [WORSE]}, "alike before that"),
        ({"chosen": "cat", "rejected": "dog"}, "there is no prompt"),
        ({"prompt": "what", "completion": "cat", "label": True}, "has completion, label, prompt; expected"),
        (dialogue(turn("what has Ann", "cat", "cat")), "rejected is the same as answer"),
        ({**turn("what has Ann", "cat"), "rejected": ["dog"]}, "rejected is a list"),
    ],
)
def test_wrong_formats_are_refused_by_name(row, message):
    with pytest.raises(InputError, match=message):
        parse_row(row, "f:3")


def test_pairs_that_a_cut_makes_equal_are_left_out_and_none_is_refused(pairs, caplog):
    long = "red " * 30
    rows = [dialogue(turn("what has Ann", f"{long}cat", f"{long}dog"), turn("what has Bob", "dog", "cat"))]
    data = pairs(rows)
    assert data.pairs == 1
    assert "data.train: 1 of 2 pairs left out" in caplog.text
    with pytest.raises(InputError, match="no turn has two answers"):
        pairs([dialogue(turn("what has Ann", "cat"))])
    with pytest.raises(InputError, match="no pair is left"):
        pairs([dialogue(turn("what has Ann", f"{long}cat", f"{long}dog"))])
