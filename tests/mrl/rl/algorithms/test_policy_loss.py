"""Losses of policy and critic on values worked out by hand."""

import math

import pytest
import torch

from mrl.rl.algorithms.policy_loss import (
    LOG_RATIO_LIMIT,
    clip_fraction,
    clipped_loss,
    kl_estimate,
    memory_drift,
    plain_loss,
    value_loss,
)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


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
    new = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = clipped_loss(new, torch.zeros(1), torch.tensor([advantage]), 0.2, 0.2)
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    assert (new.grad.abs().item() > 0) == moves


def test_a_higher_upper_clip_lets_unlikely_right_answers_grow():
    new, old, gain = torch.tensor([math.log(1.25)]), torch.zeros(1), torch.ones(1)
    assert clipped_loss(new, old, gain, 0.2, 0.2).item() == pytest.approx(-1.2)
    assert clipped_loss(new, old, gain, 0.2, 0.28).item() == pytest.approx(-1.25)
    assert clip_fraction(new, old, 0.2, 0.2).item() == 1
    assert clip_fraction(new, old, 0.2, 0.28).item() == 0
    assert clip_fraction(-new, old, 0.25, 0.28).item() == 0
    assert clip_fraction(-2 * new, old, 0.25, 0.28).item() == 1


@pytest.mark.parametrize("gap", [80.0, 800.0, -800.0])
def test_a_token_that_has_moved_out_of_all_measure_gives_finite_losses(gap):
    new, old = torch.tensor([gap], requires_grad=True), torch.zeros(1)
    for advantage in (1.0, -1.0):
        loss = clipped_loss(new, old, torch.tensor([advantage]), 0.2, 0.2)
        assert loss.isfinite().all()
        assert torch.autograd.grad(loss.sum(), new)[0].isfinite().all()
    estimate = kl_estimate(new.detach(), old)
    assert estimate.item() <= math.exp(LOG_RATIO_LIMIT)
    assert estimate.item() >= 0


def test_a2c_has_the_gradient_of_ppo_at_ratio_one():
    advantages, gradients = torch.randn(24), []
    for loss in (plain_loss, lambda new, advantages: clipped_loss(new, new.detach(), advantages, 0.2, 0.2)):
        new = torch.full((24,), -1.3, requires_grad=True)
        loss(new, advantages).sum().backward()
        gradients.append(new.grad)
    torch.testing.assert_close(*gradients)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="differ"):
        value_loss(torch.zeros(3), torch.zeros(3, 1), torch.zeros(3, 1), None)
    with pytest.raises(ValueError, match="differ"):
        clipped_loss(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3), 0.2, 0.2)


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
