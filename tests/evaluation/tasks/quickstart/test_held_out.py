"""Held-out puzzles by kind, from the folder that was built; anything else is refused with its place."""

import json
from pathlib import Path

import pytest

from evaluation.tasks.quickstart.held_out import load
from pipeline.errors import InputError


def write(folder: Path, rows: list[dict]) -> str:
    folder.mkdir()
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(folder)


def puzzle(task: str, question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}], "answer": answer, "task": task}


def test_only_puzzles_of_the_kind_are_asked(tmp_path, monkeypatch):
    rows = [puzzle("sums", "1 + 1?", "2"), puzzle("variables", "a?", "7"), puzzle("sums", "2 + 3?", "5")]
    monkeypatch.setenv("TRLM_HELD_OUT", write(tmp_path / "held_out", rows))
    asked = load(puzzle="sums")["test"].to_list()
    assert asked == [{"question": "1 + 1?", "answer": "2"}, {"question": "2 + 3?", "answer": "5"}]
    with pytest.raises(InputError, match="no held-out puzzle of the kind whereabouts"):
        load(puzzle="whereabouts")


def test_other_data_and_a_missing_folder_are_named(tmp_path):
    other = write(tmp_path / "chats", [{"messages": []}])
    with pytest.raises(InputError, match=r"test\.jsonl:1: no column answer; name the folder that"):
        load(puzzle="sums", held_out=other)
    with pytest.raises(InputError, match="TRLM_HELD_OUT"):
        load(puzzle="sums", held_out=str(tmp_path / "none"))
