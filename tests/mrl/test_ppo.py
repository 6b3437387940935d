"""The mathematics of the update on values worked out by hand."""

import math

import pytest
import torch

from mrl.rl.ppo import (
    ALGORITHMS,
    PPOConfig,
    clipped_loss,
    credited,
    explained_variance,
    gae,
    group_advantages,
    kl_estimate,
    memory_drift,
    normalise,
    plain_loss,
    value_loss,
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
    assert credited(turns, rewarded, PPOConfig(gamma=0.0)).tolist() == [[False, True, False, False]]
    assert credited(turns, rewarded, PPOConfig(gamma=0.9)).tolist() == [[True, True, False, False]]
    for bandit in (PPOConfig(algorithm="impo"), PPOConfig(algorithm="group", group_size=2)):
        assert torch.equal(credited(turns, rewarded, bandit), rewarded)


def test_impo_is_a_bandit_and_ppo_is_not():
    rewards, values, turns = row(0, 1), row(0.25, 0.25), row(1, 1).bool()
    bandit, returns = ALGORITHMS["impo"].advantages(rewards, values, turns, turns, PPOConfig(algorithm="impo"))
    torch.testing.assert_close(bandit, row(-0.25, 0.75))
    torch.testing.assert_close(returns, rewards)
    chained, _ = ALGORITHMS["ppo"].advantages(rewards, values, turns, turns, PPOConfig())
    assert chained[0, 0] > 0


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="differ"):
        gae(torch.zeros(3, 1), torch.zeros(3), torch.ones(3, 1).bool(), 0.9, 0.9)
    with pytest.raises(ValueError, match="differ"):
        value_loss(torch.zeros(3), torch.zeros(3, 1), torch.zeros(3, 1), None)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "moves"),
    [
        (1.0, 1.0, -1.0, True),
        (1.5, 1.0, -1.2, False),  # good and already likelier: no more credit
        (0.5, 1.0, -0.5, True),  # good and too unlikely: full credit
        (0.5, -1.0, 0.8, False),  # bad and already unlikelier: no more blame
        (1.5, -1.0, 1.5, True),  # bad and too likely: full blame
    ],
)
def test_the_clip_works_on_one_side_only(ratio, advantage, expected, moves):
    new = torch.tensor([[[math.log(ratio)]]], requires_grad=True)
    loss = clipped_loss(new, torch.zeros(1, 1, 1), torch.tensor([[advantage]]), 0.2)
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    assert (new.grad.abs().item() > 0) == moves


def test_a2c_has_the_gradient_of_ppo_at_ratio_one():
    advantages, gradients = torch.randn(2, 3), []
    for loss in (plain_loss, clipped_loss):
        new = torch.full((2, 3, 4), -1.3, requires_grad=True)
        loss(new, new.detach(), advantages, 0.2).sum().backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)


def test_groups_compare_answers_to_the_same_question_only():
    rewards = torch.tensor([[1.0, 5.0], [0.0, 5.0], [10.0, 0.0], [10.0, 4.0]])
    advantages = group_advantages(rewards, torch.ones(4, 2).bool(), size=2)
    expected = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    torch.testing.assert_close(advantages, expected)


def test_normalised_advantages_have_mean_0_and_deviation_1():
    torch.manual_seed(0)
    advantages, turns = torch.randn(6, 5) * 3 + 1, torch.rand(6, 5) > 0.3
    whole = normalise(advantages, turns)
    picked = whole[turns]
    assert picked.mean().abs() < 1e-6
    assert picked.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert (whole[~turns] == 0).all()


def test_one_dialogue_of_one_turn_keeps_its_sign():
    assert normalise(row(-0.3), row(1).bool()).item() == pytest.approx(-1)


def test_kl_estimate_is_unbiased_and_never_negative():
    torch.manual_seed(0)
    p, q = torch.softmax(torch.randn(6), 0), torch.softmax(torch.randn(6), 0)
    estimate = (p * kl_estimate(p.log(), q.log())).sum()
    assert estimate.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert (kl_estimate(p.log(), q.log()) >= 0).all()


def test_the_value_clip_takes_the_worse_of_the_two():
    old, returns = row(0.0, 0.0), row(1.0, 1.0)
    loss = value_loss(row(0.9, 0.1), old, returns, clip=0.2)
    torch.testing.assert_close(loss, 0.5 * row(0.8**2, 0.9**2))
    torch.testing.assert_close(value_loss(row(0.9, 0.1), old, returns, None), 0.5 * row(0.1**2, 0.9**2))


def test_drift_is_priced_per_turn_with_the_root_of_its_number():
    states = torch.zeros(3, 1, 2, 2, 2)
    states[1, :, 0], states[2, :, 0] = 1.0, 3.0
    torch.testing.assert_close(memory_drift(states), torch.tensor([[1.0, 4 * math.sqrt(2)], [0.0, 0.0]]))


def test_explained_variance_of_a_perfect_and_a_constant_critic():
    returns, turns = row(1, 2, 3, 50), row(1, 1, 1, 0).bool()
    assert explained_variance(returns, returns, turns) == pytest.approx(1)
    assert explained_variance(torch.full_like(returns, 2.0), returns, turns) == pytest.approx(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": "pppo"}, "choose one of"),
        ({"clip_range": 0.0}, "clip_range"),
        ({"gamma": 1.5}, "gamma"),
        ({"algorithm": "group"}, "group_size"),
        ({"group_size": 3}, "multiple"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**wrong)
