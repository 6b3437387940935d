"""Abstention: shares of untold and of told questions by hand."""

import pytest

from evaluation.memory.abstention import AbstentionTally


def test_untold_and_told_questions_are_counted_apart():
    tally = AbstentionTally()
    for answer in ("You haven't told me that yet.", "Corvo.", "I don't know.", "You have not mentioned that."):
        tally.add(answer, untold=True)
    tally.add("You haven't told me that yet.", untold=False)
    tally.add("In Corvo.", untold=False, recalled=True)
    figures = tally.figures()
    assert figures["untold"] == 0.75
    assert figures["told"] == figures["told_abstained"] == 0.5
    assert figures["n"] == {"untold": 4, "told": 2}
    # Wilson's interval of 3 in 4, worked by hand: (0.75 + 0.4802 ± 0.4767) / 1.9604
    assert figures["intervals"]["untold"] == pytest.approx([0.3006, 0.9544], abs=2e-3)


def test_no_question_no_share():
    assert AbstentionTally().figures() == {"n": {"untold": 0, "told": 0}, "intervals": {}}
