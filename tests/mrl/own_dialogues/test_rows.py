"""Dialogues split by dialogue, and written so that a second reading gives the same."""

import pytest

from mrl.dialogues.check import spoken
from mrl.dialogues.dataset import Conversation, Exchange, RowSource, fingerprint, parse_row, read_conversations
from mrl.own_dialogues.rows import asks_back, split_dialogues, write_rows
from pipeline.errors import InputError


def numbered(count: int) -> list[Conversation]:
    return [
        Conversation((Exchange(f"q{i}", "a"), Exchange("why", f"b{i}", facts=("b",), distance=1)), str(i))
        for i in range(count)
    ]


def test_no_dialogue_is_in_two_parts():
    given = numbered(100) + numbered(3)
    split = split_dialogues(given, [], seed=1)
    parts = [{spoken(c) for c in part} for part in (split.train, split.validation, split.held_out)]
    assert [len(part) for part in parts] == [85, 5, 10]
    assert len(set.union(*parts)) == 100
    assert split_dialogues(given, [], seed=1) == split
    assert split_dialogues(given, [], seed=2) != split


def test_given_held_out_dialogues_are_not_trained_on():
    split = split_dialogues(numbered(100), numbered(30), seed=1)
    assert len(split.held_out) == 30
    assert len(split.train) + len(split.validation) == 70
    assert not {spoken(c) for c in split.train} & {spoken(c) for c in split.held_out}


def test_every_part_has_dialogues_that_ask():
    """Where few are marked, a part without a question would be refused by the last stage, or by retention."""
    silent = [Conversation((Exchange(f"s{i}", "a"), Exchange("why", "b")), str(i)) for i in range(90)]
    for marked, expected in ((10, [1, 1, 8]), (3, [1, 1, 1]), (90, [4, 9, 77])):
        split = split_dialogues([*silent, *numbered(marked)], [], seed=1)
        parts = (split.validation, split.held_out, split.train)
        assert sum(map(len, parts)) == 90 + marked
        assert [sum(map(asks_back, part)) for part in parts] == expected
    with pytest.raises(InputError, match="--data: 2 dialogues ask for anything said before, too few"):
        split_dialogues([*silent, *numbered(2)], [], seed=1)


def test_too_few_are_refused():
    with pytest.raises(InputError, match="--data: 19 different dialogues"):
        split_dialogues(numbered(19) * 2, [], seed=1)


def test_what_is_written_is_read_again(tmp_path):
    rows = [
        {"query": "Dr. Smith, at 7", "answer": "noted", "facts": [], "interactions": [
            {"query": "why", "answer": "so", "think": "hm", "facts": []},
            {"query": "who", "answer": "Smith", "facts": [["Dr. Smith", "Smith"]], "kind": "name"},
            {"query": "when", "answer": "You haven't told me."},
            {"query": "where", "answer": "home", "facts": ["home"]}]},
        {"messages": [{"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "ho"))] * 2},
    ]  # fmt: skip
    given = [Conversation(parse_row(row, "f"), "f") for row in rows]
    write_rows(tmp_path / "rows.jsonl", given)
    read = read_conversations(RowSource(path=str(tmp_path / "rows.jsonl")))
    assert fingerprint(read) == fingerprint(given)
    assert [e.kind for e in read[0].exchanges] == ["", "", "name", "", ""]
