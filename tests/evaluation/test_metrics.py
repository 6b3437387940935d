"""How an answer is scored, worked out by hand."""

import pytest

from evaluation.metrics import recalled, token_f1


def test_a_fact_is_recalled_as_whole_words_in_order():
    assert recalled("It is the red key.", ["red key"])
    assert recalled("Red Key and a lamp", ["lamp", "red key"])
    assert not recalled("the key is red", ["red key"])
    assert not recalled("a bored keyboard", ["red", "key"])
    assert not recalled("red", [])
    assert not recalled("", ["red"])


def test_token_f1_by_hand():
    assert token_f1("a b c", "a b c") == 1.0
    assert token_f1("a b", "b c d") == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    assert token_f1("a a", "a") == pytest.approx(2 / 3)
    assert token_f1("", "a") == 0.0
