"""Win rate, recall and abstention by a rule, from answers worked out by hand."""

import pytest

from evaluation.memory.preferences import Answered, compare
from evaluation.reporting.tour.preferences import STAGE
from mrl.dialogues.dataset import Exchange

TOLD = Exchange("what has Ann", "cat, my pleasure", facts=("cat",), distance=8)
UNTOLD = Exchange("what has Bob", "Sorry, I do not know", facts=("I do not know",))
CHAT = Exchange("hello", "hello, thank you")
BEFORE = [Answered(0, TOLD, "cat"), Answered(0, UNTOLD, "dog"), Answered(1, CHAT, "hello"), Answered(1, TOLD, "cat")]
AFTER = [
    Answered(0, TOLD, "cat, my pleasure"),  # polite now: won
    Answered(0, UNTOLD, "Sorry, I do not know"),  # won
    Answered(1, CHAT, "hello"),  # the same: half
    Answered(1, TOLD, "dog"),  # forgotten: lost
]


def test_figures_of_two_dialogues():
    found = compare(BEFORE, AFTER)
    assert found["win_rate"] == (1 + 1 + 0.5 + 0) / 4
    # Dialogues differ from the mean by 2 - 1.25 and 0.5 - 1.25 in sum.
    half = 1.96 * (2 * 0.75**2 * 2) ** 0.5 / 4
    assert found["win_rate_interval"] == pytest.approx([0.625 - half, 0.625 + half], abs=1e-4)
    assert (found["recall_8_before"], found["recall_8_after"], found["recall_8_questions"]) == (1.0, 0.5, 2)
    assert found["abstention"] == {"untold_before": 0.0, "untold_after": 1.0, "told_before": 1.0, "told_after": 0.5}
    assert found["qualities"]["polite"] == {"before": 0.0, "after": 0.5}


def test_the_report_names_what_others_read():
    files = {"compared": dict.fromkeys(("dpo", "rlhf", "combined"), compare(BEFORE, AFTER))}
    keys = STAGE.keys(files)
    assert keys["rlhf"] == {"win_rate": 0.625, "recall_8_before": 1.0, "recall_8_after": 0.5}
    assert set(keys) == {"dpo", "rlhf", "combined", "abstention"}
    assert "4 turns of 2 dialogues; 2 questions 8 turns back; 1 untold and 2 told" in STAGE.section(files)
