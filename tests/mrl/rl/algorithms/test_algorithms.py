"""The registry of algorithms and the section they read."""

import logging

import pytest
import torch

from mrl.rl.algorithms import ALGORITHMS, Algorithm, PPOConfig, register


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def test_impo_is_a_bandit_and_ppo_is_not():
    rewards, values, turns = row(0, 1), row(0.25, 0.25), row(1, 1).bool()
    bandit, returns = ALGORITHMS["impo"].advantages(rewards, values, turns, turns, PPOConfig(algorithm="impo"))
    torch.testing.assert_close(bandit, row(-0.25, 0.75))
    torch.testing.assert_close(returns, rewards)
    chained, _ = ALGORITHMS["ppo"].advantages(rewards, values, turns, turns, PPOConfig())
    assert chained[0, 0] > 0


def test_who_looks_ahead():
    assert PPOConfig(gamma=0.9).looks_ahead
    assert not PPOConfig(gamma=0.0).looks_ahead
    assert not PPOConfig(algorithm="impo").looks_ahead
    assert not PPOConfig(algorithm="grpo", group_size=2).looks_ahead


def test_the_price_of_drift_is_the_algorithms_unless_one_is_given():
    assert PPOConfig().drift_price == 0
    assert PPOConfig(algorithm="impo").drift_price == 1e-4
    assert PPOConfig(algorithm="impo", drift_coef=0.0).drift_price == 0


def test_the_old_name_of_grpo_still_works_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert PPOConfig(algorithm="group", group_size=2).algorithm == "grpo"
    assert "now called grpo" in caplog.text


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="already"):
        register("ppo", ALGORITHMS["ppo"])
    assert isinstance(ALGORITHMS["ppo"], Algorithm)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": "pppo"}, "choose one of"),
        ({"clip_range": 0.0}, "clip_range"),
        ({"gamma": 1.5}, "gamma"),
        ({"algorithm": "grpo"}, "group_size"),
        ({"clip_range": 1.0}, "below 1"),
        ({"clip_range_high": 0.0}, "clip_range_high"),
        ({"entropy_coef": -0.1}, "entropy_coef"),
        ({"target_kl": -1.0}, "target_kl"),
        ({"group_size": 3}, "multiple"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**wrong)
