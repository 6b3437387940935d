"""Questions that are asked again, counted by hand."""

import json
import subprocess
import sys

from evaluation.asked_again import asked_again, more_often_right, pairs_of


def write(path, *answers: tuple[str, int, str, str, str]):
    lines = [
        {"where": where, "turn": turn, "distance": 2, "query": query, "wanted": wanted,
         "recall": {"answer": said, "recalled": said == wanted}}
        for where, turn, query, wanted, said in answers
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_pairs_are_of_one_dialogue_and_one_right_answer(tmp_path):
    file = write(
        tmp_path / "answers.jsonl",
        ("a", 9, "home?", "Rome", "Rome"),  # of one dialogue, in any order in the file
        ("a", 3, "home?", "Rome", "Oslo"),
        ("a", 6, "home?", "Rome", "Oslo"),
        ("a", 12, "home?", "Bonn", "Rome"),  # corrected since: another question
        ("b", 2, "home?", "Rome", "Rome"),
        ("b", 4, "pet?", "cat", "cat"),
        ("b", 5, "pet?", "cat", "dog"),
    )
    pairs = pairs_of(file)
    assert [(pair.where, pair.turns, pair.right) for pair in pairs] == [
        ("a", (3, 6), (False, False)), ("a", (6, 9), (False, True)), ("b", (4, 5), (True, False)),
    ]  # fmt: skip
    found = asked_again(pairs)
    assert found["pairs"] == 3
    assert (found["then_right"]["share"], found["then_right"]["n"]) == (0.5, 2)
    assert (found["same_wrong"]["share"], found["right_again"]["share"]) == (0.5, 0.0)


def test_the_second_file_is_compared_where_both_were_wrong_first(tmp_path):
    own = write(
        tmp_path / "own.jsonl", *(("abcd"[row], turn, "home?", "Rome", "Oslo") for row in range(4) for turn in (1, 5))
    )
    told = [
        ("abcd"[row], turn, "home?", "Rome", "Rome" if turn == 5 or row == 3 else "Oslo")
        for row in range(4)
        for turn in (1, 5)
    ]
    data = write(tmp_path / "data.jsonl", *told)
    found = more_often_right(pairs_of(own), pairs_of(data))
    assert (found["difference"], found["n"]) == (1.0, 3), "the fourth was right at once"
    assert more_often_right([], pairs_of(data)) is None
    done = subprocess.run([sys.executable, "evaluation/asked_again.py", own, data], capture_output=True, text=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["then_right"]["share"], second["then_right"]["share"]) == (0.0, 1.0)
    assert second["paired"]["n"] == 3


def test_another_file_is_refused_in_one_line(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text('{"where": "a"}\n')
    done = subprocess.run([sys.executable, "evaluation/asked_again.py", file], capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no answers of recall" in done.stderr
    assert "Traceback" not in done.stderr
