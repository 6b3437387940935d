"""The tour's figures of cumulative and long-term dialogues: last questions alone, before and after."""

import json

import pytest

from evaluation.reporting.tour import strategies


def measured(folder, right: list[int], distances: list[int], reset: int = 0) -> dict:
    """Last questions of as many dialogues, and one of the middle, which counts for nothing."""
    folder.mkdir()
    lines = [
        {"where": f"row {i}", "turn": 16, "distance": distance,
         "memory_sft": {"recalled": bool(hit), "said": (hit + 1) / 2},
         "reset_control": {"recalled": i < reset, "said": 0.25}}
        for i, (hit, distance) in enumerate(zip(right, distances, strict=True))
    ]  # fmt: skip
    lines.append({**lines[0], "turn": 5, "distance": 3, "memory_sft": {"recalled": True, "said": 1}})
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"answers_file": str(folder / "answers.jsonl")}


@pytest.fixture
def files(tmp_path) -> dict:
    far = [16, 16, 16, 16]
    return {
        "cumulative_before": measured(tmp_path / "a", [0, 0, 0, 0], [3, 3, 9, 9], reset=4),
        "cumulative_after": measured(tmp_path / "b", [1, 1, 1, 0], [3, 3, 9, 9], reset=1),
        "long_term_before": measured(tmp_path / "c", [1, 1, 0, 1], far),
        "long_term_after": measured(tmp_path / "d", [1, 1, 0, 1], far),
    }


def test_last_questions_are_compared_and_the_control_is_that_of_the_trained_model(files):
    found = strategies.STAGE.keys(files)["recall_strategies"]
    near, far = found["cumulative_final"].pop("by_distance").values()
    assert near == {"before": 0.0, "after": 1.0, "reset_control": 0.5, "n": 2}
    assert far == {"before": 0.0, "after": 0.5, "reset_control": 0.0, "n": 2}
    low, high = found["cumulative_final"].pop("gain")
    assert 0 <= low < 0.75 < high <= 1
    low, high = found["cumulative_final"]["said"].pop("gain")
    assert 0 <= low < 0.375 < high <= 0.5
    assert found["cumulative_final"].pop("said") == {"before": 0.5, "after": 0.875, "reset_control": 0.25, "n": 4}
    assert found["cumulative_final"] == {"before": 0.0, "after": 0.75, "reset_control": 0.25, "n": 4}
    assert list(found["long_term"].pop("by_distance")) == ["16"]
    assert found["long_term"].pop("said")["n"] == 4
    assert found["long_term"] == {"before": 0.75, "after": 0.75, "reset_control": 0.0, "n": 4, "gain": [0.0, 0.0]}
    page = strategies.STAGE.section(files)
    assert "| cumulative final | 0.0 | 75.0 | 25.0 |" in page
    assert "| … every fact for itself | 50.0 | 87.5 | 25.0 | +37.5" in page
    assert "| … farthest fact 9 turns ago | 0.0 | 50.0 | 0.0 |  | 2 |" in page
    assert "| long term | 75.0 | 75.0 | 0.0 | no difference (0.0 to 0.0) | 4 |" in page


def test_answers_without_last_questions_are_refused(tmp_path):
    figures = measured(tmp_path / "a", [1], [3])
    path = tmp_path / "a" / "answers.jsonl"
    path.write_text(path.read_text().splitlines()[1] + "\n")
    with pytest.raises(ValueError, match="asks nothing at turn 16"):
        strategies.last_questions(figures, "memory_sft")
