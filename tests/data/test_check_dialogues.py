"""The command that checks dialogues: what it prints, what it refuses."""

import json

import pytest

from data import check_dialogues
from pipeline.errors import InputError

ROW = {
    "query": "Ann has the cat", "answer": "noted", "facts": [],
    "interactions": [
        {"query": "so it is a nice and sunny day today", "answer": "it is indeed", "facts": []},
        {"query": "what has Ann", "answer": "Ann has the cat .", "facts": [["cat", "kitten"]]},
    ],
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def to(name: str, *rows: object) -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return to


def checked(capsys, *arguments: str) -> dict:
    check_dialogues.main(check_dialogues.parse_options([*arguments, "--json"]))
    return json.loads(capsys.readouterr().out)


def test_rows_marks_lengths_and_cuts_are_counted(write, capsys):
    report = checked(capsys, write("a.jsonl", ROW, ROW), "--limit", "12", "--answer-limit", "6")
    (file,) = report["files"]
    assert file["rows"] == {"read": 2, "kept": 2}
    assert (file["turns"], file["turns_that_ask"], file["facts"], file["unit"]) == (6, 2, 2, "words")
    assert file["marks"]["distances derived"] == 2
    assert file["by_distance"] == {"2": 2}
    # [BOS] [Q] and nine words, [A], three words, [EOS]: 16; the query keeps 12 less the five of the answer.
    assert file["interaction_lengths"]["longest"] == 16
    assert file["cut"] == {"turns cut": 2, "queries cut": 2, "answers cut": 0, "facts lost by a cut": 0}
    # [A], five words and signs, [EOS]
    assert file["answer_lengths"]["longest"] == 7
    assert file["answers_over_the_limit"] == 2
    assert report["shared"]["said twice among them"] == 1


def test_a_cut_that_takes_a_fact_is_seen(write, capsys):
    long = {"query": "q", "answer": "so " * 10 + "cat", "facts": ["cat"], "interactions": [ROW]}
    (file,) = checked(capsys, write("a.jsonl", long), "--limit", "9")["files"]
    assert file["cut"]["facts lost by a cut"] == 1


def test_overlap_with_held_out_dialogues_is_counted(write, capsys):
    other = {**ROW, "query": "Bob has the cat"}
    report = checked(capsys, write("a.jsonl", ROW), "--held-out", write("b.jsonl", ROW, other))
    assert report["shared"]["held-out dialogues that are trained on"] == 1
    assert [file["part"] for file in report["files"]] == ["train", "held_out"]


def test_what_is_wrong_is_shown_with_its_place(write, capsys):
    wrong = {**ROW, "interactions": [{"query": "what", "answer": "a dog", "facts": ["cat"]}]}
    path = write("a.jsonl", ROW, wrong)
    check_dialogues.main(check_dialogues.parse_options([path]))
    shown = capsys.readouterr().out
    assert "1 facts that their answer doesn't say" in shown
    assert "a.jsonl:2, turn 2: the answer doesn't say its fact 'cat'" in shown


def test_rows_that_cannot_be_used_are_refused_or_counted(write, capsys):
    path = write("a.jsonl", ROW, {"messages": [{"role": "user", "content": "hello"}]})
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        checked(capsys, path)
    (file,) = checked(capsys, path, "--bad-rows", "drop")["files"]
    assert file["rows"]["kept"] == 1
    assert sum(n for what, n in file["rows"].items() if what.startswith("left out")) == 1


def test_a_limit_without_room_is_refused(write, capsys):
    with pytest.raises(InputError, match="--answer-limit: 2 leaves no room"):
        checked(capsys, write("a.jsonl", ROW), "--answer-limit", "2")
