"""Advantages on values worked out by hand."""

import pytest
import torch

from mrl.rl.algorithms.advantages import (
    best_of_group,
    credited_turns,
    explained_variance,
    gae,
    group_advantages,
    normalize,
)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def test_gae_of_three_turns_by_hand():
    advantages, returns = gae(row(1, 0, 2), row(0.5, 0.4, 1.0), row(1, 1, 1).bool(), gamma=0.5, lam=0.5)
    last = 2 - 1.0
    middle = (0 + 0.5 * 1.0 - 0.4) + 0.25 * last
    first = (1 + 0.5 * 0.4 - 0.5) + 0.25 * middle
    torch.testing.assert_close(advantages, row(first, middle, last))
    torch.testing.assert_close(returns, row(first + 0.5, middle + 0.4, last + 1.0))


def test_a_shorter_dialogue_gets_what_it_would_get_alone():
    turns = torch.tensor([[True, True, True], [True, True, False]])
    rewards = torch.tensor([[1.0, 0.0, 2.0], [1.0, 3.0, 99.0]])
    values = torch.tensor([[0.5, 0.4, 1.0], [0.2, 0.1, 77.0]])
    both, returns = gae(rewards, values, turns, 0.9, 0.8)
    alone, _ = gae(rewards[1:, :2], values[1:, :2], turns[1:, :2], 0.9, 0.8)
    torch.testing.assert_close(both[1:, :2], alone)
    assert both[1, 2] == returns[1, 2] == 0


def test_a_delayed_reward_reaches_the_first_turn_discounted():
    advantages, _ = gae(row(0, 0, 0, 1), torch.zeros(1, 4), torch.ones(1, 4).bool(), gamma=0.9, lam=1.0)
    torch.testing.assert_close(advantages, row(0.9**3, 0.9**2, 0.9, 1.0))


def test_an_answer_that_no_reward_speaks_for_is_not_taken_for_a_bad_one():
    turns, rewarded = row(1, 1, 1, 0).bool(), row(0, 1, 0, 0).bool()
    assert credited_turns(turns, rewarded, looks_ahead=False).tolist() == [[False, True, False, False]]
    assert credited_turns(turns, rewarded, looks_ahead=True).tolist() == [[True, True, False, False]]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="differ"):
        gae(torch.zeros(3, 1), torch.zeros(3), torch.ones(3, 1).bool(), 0.9, 0.9)


def test_groups_compare_answers_to_the_same_question_only():
    rewards = torch.tensor([[1.0, 5.0], [0.0, 5.0], [10.0, 0.0], [10.0, 4.0]])
    advantages = group_advantages(rewards, torch.ones(4, 2).bool(), size=2)
    expected = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    torch.testing.assert_close(advantages, expected)


def test_groups_without_their_deviation_keep_the_size_of_the_difference():
    rewards = torch.tensor([[1.0, 5.0], [0.0, 5.0], [10.0, 0.0], [10.0, 4.0]])
    rewarded = torch.tensor([[True, True], [True, True], [True, False], [True, False]])
    advantages = group_advantages(rewards, rewarded, size=2, scale_by_std=False)
    torch.testing.assert_close(advantages, torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]))


def test_the_best_of_a_group_share_what_it_has_and_even_groups_have_nothing():
    rewards = torch.tensor([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0], [0.5, 0.0], [0.0, 0.0], [0.25, 3.0]])
    advantages = best_of_group(rewards, torch.ones(6, 2).bool(), size=3)
    expected = torch.tensor([[1.5, 0.0], [0.0, 0.0], [1.5, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(advantages, expected)
    unrewarded = torch.tensor([[True, False]] * 6)
    assert (best_of_group(rewards, unrewarded, size=3)[:, 1] == 0).all()


def test_normalized_advantages_have_mean_0_and_deviation_1():
    torch.manual_seed(0)
    advantages, turns = torch.randn(6, 5) * 3 + 1, torch.rand(6, 5) > 0.3
    whole = normalize(advantages, turns)
    picked = whole[turns]
    assert picked.mean().abs() < 1e-6
    assert picked.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert (whole[~turns] == 0).all()


def test_one_dialogue_of_one_turn_keeps_its_sign():
    assert normalize(row(-0.3), row(1).bool()).item() == pytest.approx(-1)


def test_explained_variance_of_a_perfect_and_a_constant_critic():
    returns, turns = row(1, 2, 3, 50), row(1, 1, 1, 0).bool()
    assert explained_variance(returns, returns, turns) == pytest.approx(1)
    assert explained_variance(torch.full_like(returns, 2.0), returns, turns) == pytest.approx(0)
