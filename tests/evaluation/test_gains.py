"""Paired gains, worked out by hand."""

import json

import pytest

from evaluation.gains import Asked, gain_of_all, in_points, mean_hits, read_hits, recall_gains


def hits(*shares: tuple[str, int, float]) -> dict[Asked, float]:
    return {Asked(where, turn, distance): share for turn, (where, distance, share) in enumerate(shares)}


def test_gains_by_distance_and_their_mean_over_dialogues():
    # Two dialogues: the first gains its question 2 turns back, neither changes 16 turns back, 1 and 32 don't count.
    before = hits(("a", 2, 0), ("b", 2, 0), ("a", 16, 1), ("b", 16, 1), ("a", 1, 0), ("b", 32, 0), ("b", 3, 1))
    after = hits(("a", 2, 1), ("b", 2, 0), ("a", 16, 1), ("b", 16, 1), ("a", 1, 1), ("b", 32, 1), ("b", 3, 0))
    found = recall_gains(before, after)
    assert list(found) == ["2", "3", "16", "mean"]
    # Of two dialogues drawn twice, a quarter of the samples has a alone (gain 1), a quarter b alone (0).
    assert found["2"] == {"gain": 0.5, "low": 0.0, "high": 1.0, "n": 2}
    assert found["16"] == {"gain": 0.0, "low": 0.0, "high": 0.0, "n": 2}
    assert found["3"] == {"gain": -1.0, "low": -1.0, "high": -1.0, "n": 1}, "samples without b say nothing of it"
    assert found["mean"] == {"gain": 0.25, "low": 0.0, "high": 0.5, "n": 4}, "over 2 and 16, drawn together"
    assert gain_of_all(before, after) | {"low": 0, "high": 0} == {"gain": round(2 / 7, 4), "low": 0, "high": 0, "n": 7}
    assert recall_gains(before, {}) == {}


def test_only_questions_that_both_were_asked_count():
    before, after = hits(("a", 2, 0), ("b", 2, 0)), hits(("a", 2, 1))
    assert recall_gains(before, after)["2"] == {"gain": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert mean_hits([before, after]) == {Asked("a", 0, 2): 0.5}


def test_an_interval_that_holds_0_is_no_difference():
    assert in_points({"gain": 0.0132, "low": 0.004, "high": 0.021}) == "+1.3 (0.4 to 2.1)"
    assert in_points({"gain": -0.0132, "low": -0.021, "high": -0.004}) == "-1.3 (-2.1 to -0.4)"
    assert in_points({"gain": 0.0132, "low": -0.001, "high": 0.021}) == "no difference (-0.1 to 2.1)"


def test_answers_are_read_by_name(tmp_path):
    path = tmp_path / "answers.jsonl"
    lines = [{"where": "f:1", "turn": 3, "distance": 2, "mrl": {"recalled": True, "said": 0.5}}, {"distance": 0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_hits(path, "mrl") == {Asked("f:1", 3, 2): 1.0}, "what wasn't told is no question of recall"
    assert read_hits(path, "mrl", "said") == {Asked("f:1", 3, 2): 0.5}
    with pytest.raises(ValueError, match="no answers of memory_sft"):
        read_hits(path, "memory_sft")
