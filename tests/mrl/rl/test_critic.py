"""The critic in reinforcement learning: what it reads, what it learns, and what it never moves."""

from dataclasses import replace

import pytest
import torch

from mrl.model import MemoryHistory
from mrl.recipes.strategy import Strategy
from mrl.rl.critic import CriticConfig, build_critic, predict_values, turn_values
from mrl.rl.replay import memory_of
from mrl.rl.rewards import RewardConfig, score
from mrl.rl.rollout import generate_rollouts
from tests.mrl.rl.toy import OPTIONS, batch_of


@pytest.mark.parametrize("kind", ["text_memory", "frozen_memory", "classic"])
def test_critics_learn_what_they_should_and_never_move_the_memory(model, dataset, kind):
    critic = build_critic(model, kind).eval()
    torch.nn.init.normal_(critic.score.out.weight)
    rollout = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS).rollout
    history = memory_of(model, rollout)
    values = turn_values(critic, rollout, history)
    assert values.shape == rollout.turns.shape
    values.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    reads = critic.model.readers is not None and any(p.grad is not None for p in critic.model.readers.parameters())
    assert reads == (kind == "text_memory")
    other = turn_values(critic, rollout, MemoryHistory(history.slots + torch.randn_like(history.slots)))
    assert torch.allclose(values, other) == (kind == "classic")


def test_value_of_a_row_doesnt_depend_on_the_pieces_it_is_read_in(model, dataset, vocabulary):
    critic = build_critic(model, "text_memory").eval()
    torch.nn.init.normal_(critic.score.out.weight)
    played = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS, group=2, keep_history=True)
    scored = score(RewardConfig(), vocabulary, played.rollout)
    few, many = (
        predict_values(critic, scored, played.history, CriticConfig(rows_at_once=n), looks_ahead=True)
        for n in (1, 1000)
    )
    torch.testing.assert_close(few, many, atol=1e-5, rtol=1e-5)
    assert few.any()


@pytest.mark.parametrize(
    ("strategy", "saved"),
    [
        (Strategy(kind="long_term"), [{0}, {1}, {0}]),
        (Strategy(kind="cumulative"), [{0}, {1}, {0, 1, 2}]),
        (Strategy(kind="cumulative", saved_offset=2), [{0}, {0}, {0, 1, 2}]),
        (Strategy(kind="single"), [{0}, {1}, {2}]),
    ],
)
def test_the_critic_reads_the_saved_data_that_the_strategy_names(model, dataset, strategy, saved):
    critic = build_critic(model, "classic").eval()
    torch.nn.init.normal_(critic.score.out.weight)
    batch = replace(batch_of(dataset), strategies=(strategy,))
    rollout = generate_rollouts(model.eval(), batch, OPTIONS).rollout
    values = turn_values(critic, rollout, memory_of(model, rollout))
    for write in range(3):
        other = rollout.writes.clone()
        other[:, write] = torch.where(other[:, write] >= 8, 8 + (other[:, write] - 7) % 18, other[:, write])
        again = turn_values(critic, replace(rollout, writes=other), memory_of(model, rollout))
        changed = (again - values).abs().amax(0) > 1e-6
        assert changed.tolist() == [write in read for read in saved]
