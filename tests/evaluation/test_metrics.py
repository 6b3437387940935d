"""How an answer is scored, worked out by hand."""

import numpy as np
import pytest

from evaluation.metrics import bootstrap_interval, numbered, paired_difference, token_f1


def test_token_f1_by_hand():
    assert token_f1("a b c", "a b c") == 1.0
    assert token_f1("a b", "b c d") == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    assert token_f1("a a", "a") == pytest.approx(2 / 3)
    assert token_f1("", "a") == 0.0


def test_dialogues_are_numbered_as_they_appear():
    assert numbered(["b", "a", "b", "c", "a"]) == [0, 1, 0, 2, 1]


def test_intervals_are_drawn_over_dialogues():
    # One dialogue has nothing that could be drawn otherwise; of two, a quarter of the samples is twice the same.
    assert bootstrap_interval([1, 0, 1], [7, 7, 7]) == [0.6667, 0.6667]
    assert bootstrap_interval([0, 0, 1, 1], [1, 1, 2, 2]) == [0.0, 1.0]
    rng = np.random.default_rng(1)
    values = (rng.random(400) < 0.3).astype(float)
    mean, deviation = values.mean(), values.std() / 20
    alone = bootstrap_interval(values, range(400))
    assert alone == pytest.approx([mean - 1.96 * deviation, mean + 1.96 * deviation], abs=0.01)
    # Each value said four times over in one dialogue tells no more than once: half the width would be a lie.
    assert bootstrap_interval(np.repeat(values, 4), np.repeat(np.arange(400), 4)) == pytest.approx(alone, abs=0.01)
    assert bootstrap_interval(values, range(400)) == alone


def test_a_paired_difference_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(2)
    before = (rng.random(300) < 0.5).astype(float)
    after = np.maximum(before, rng.random(300) < 0.1)
    found = paired_difference(before, after, range(300))
    assert found["difference"] == pytest.approx(float((after - before).mean()), abs=1e-4)
    assert found["n"] == 300
    assert 0 < found["interval"][0] < found["difference"] < found["interval"][1]
    apart = [bootstrap_interval(values, range(300)) for values in (before, after)]
    assert apart[0][1] > apart[1][0], "the two overlap"
    same = paired_difference([1, 0, 1], [1, 0, 1], [0, 1, 2])
    assert same == {"difference": 0.0, "interval": [0.0, 0.0], "n": 3}


@pytest.mark.parametrize(("before", "after", "groups"), [([1], [1, 0], [0]), ([1, 0], [1, 0], [0]), ([], [], [])])
def test_what_does_not_pair_is_refused(before, after, groups):
    with pytest.raises(ValueError, match="values"):
        paired_difference(before, after, groups)
