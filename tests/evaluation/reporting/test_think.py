"""The tour's figures of thinking: the same questions side by side, derived ones alone."""

import json

import pytest

from evaluation.reporting.tour import think


def measured(folder, right: list[int]) -> dict:
    """Four derived questions of two dialogues, and one that is no derivation."""
    folder.mkdir()
    lines = [
        {"where": f"row {i // 2}", "turn": i, "kind": "hop", "memory_sft": {"recalled": bool(hit)}}
        for i, hit in enumerate(right)
    ]
    lines.append({"where": "row 0", "turn": 7, "kind": "told", "memory_sft": {"recalled": True}})
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    thoughts = {"memory_sft": {"share": 0.8, "tokens": 13.5, "unfinished": 1}}
    return {"answers_file": str(folder / "answers.jsonl"), "thoughts": thoughts}


def test_derived_questions_are_compared_in_pairs(tmp_path):
    files = {
        "direct": measured(tmp_path / "direct", [0, 0, 1, 0]),
        "thinking": measured(tmp_path / "thinking", [1, 0, 1, 1]),
        "reinforced": measured(tmp_path / "reinforced", [1, 0, 1, 0]),
    }
    assert think.keys(files) == {"think": {"direct": 0.25, "thinking": 0.75, "reinforced": 0.5, "n": 4}}
    text = think.section(files)
    assert "two remembered facts (4): answered at once 25.0 per cent right, after a thought 75.0" in text
    assert "75.0, +50.0 points (paired 95 per cent interval over dialogues 50.0 to 50.0)" in text
    assert "after reinforcement 50.0, -25.0 points (paired 95 per cent interval over dialogues -50.0 to 0.0)" in text
    assert text.count("80.0 per cent were thought about, in 13.5 tokens each, 1 without coming to an end") == 2


def test_missing_answers_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"answers\.jsonl is missing"):
        think.hits({"answers_file": str(tmp_path / "answers.jsonl")})
