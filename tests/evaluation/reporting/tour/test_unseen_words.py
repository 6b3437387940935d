"""The tour's figures of words never seen, from two retention files."""

from evaluation.reporting.tour.unseen_words import STAGE


def retention(recall: float) -> dict:
    controls = {name: {"1": 0.0, "2": 0.01, "16": 0.0} for name in ("reset_control", "foreign_control")}
    found = {"1": recall, "2": 0.5, "16": 0.1, "all": 0.4}
    return {"recall": {"memory_sft": found, **controls}, "questions": {"1": 30, "2": 12, "16": 4}}


def test_recall_at_the_reported_distances_and_how_many_questions_it_is_of():
    files = {"unseen": retention(0.75), "known": retention(0.9)}
    assert STAGE.keys(files) == {
        "unseen_words": {"1": 0.75, "2": 0.5, "n": 42},
        "unseen_words_known": {"1": 0.9, "2": 0.5, "n": 42},
    }
    page = STAGE.section(files)
    assert "| words of no training row, from memory | 75.0 | 50.0 | – | – |" in page
    assert "| known words, memory reset | 0.0 | 1.0 | – | – |" in page
    assert "| questions, known words | 30 | 12 | 0 | 0 |" in page
