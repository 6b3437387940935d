"""How an answer is scored, worked out by hand."""

import pytest

from evaluation.metrics import token_f1


def test_token_f1_by_hand():
    assert token_f1("a b c", "a b c") == 1.0
    assert token_f1("a b", "b c d") == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    assert token_f1("a a", "a") == pytest.approx(2 / 3)
    assert token_f1("", "a") == 0.0
