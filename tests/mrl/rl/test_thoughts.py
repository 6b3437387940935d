"""Whether to think is drawn, scored as it was drawn, and learnt from what it earns."""

from dataclasses import replace

import pytest
import torch

from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import thought_metrics
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.replay import replay
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from mrl.rl.trajectory import Rollout, ScoredRollout, extended
from mrl.rl.update import credit, minibatch_counts, normalized, update_loss
from tests.mrl.rl.toy import batch_of, recipe

FREE = RolloutConfig(max_new_tokens=4, max_think_tokens=3, forced="auto", temperature=0.8, top_p=0.95)
ANSWER, THINK = 6, 7


def played(model, dataset, options=FREE, seed: int = 0, group: int = 1) -> Rollout:
    batch = batch_of(dataset, rows=12)
    seeds = range(1000 * seed, 1000 * seed + batch.size)
    return generate_rollouts(
        model.eval(), replace(batch, start=EpisodeStart.fresh(seeds)), options, group=group
    ).rollout


@pytest.mark.parametrize("group", [1, 3])
def test_decisions_and_thoughts_replay_as_they_were_drawn(model, dataset, group):
    rollout = played(model, dataset, group=group)
    first = rollout.answer_ids[..., 0][rollout.turns]
    assert set(first.tolist()) == {ANSWER, THINK}, "some think, some don't"
    assert rollout.sampled[..., 0][rollout.turns].all()
    again = replay(model, rollout, FREE.sampling())
    ratio = (again.log_probs - rollout.log_probs[again.scored]).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)
    place = torch.arange(rollout.answer_ids.shape[-1])
    closing = rollout.cut[..., None] & (place == 1 + FREE.max_think_tokens) & (rollout.answer_ids == ANSWER)
    assert bool(closing.any())
    assert not rollout.sampled[closing].any(), "the [A] that closes a thought at its limit is nobody's choice"


def test_what_was_thought_is_written_and_counted(model, dataset):
    rollout = played(model, dataset)
    row, turn = (rollout.thought[:, :-1] > 0).nonzero()[0].tolist()
    said = rollout.answer_ids[row, turn][rollout.answer_mask[row, turn]].tolist()
    written = rollout.writes[row, turn + 1][rollout.writes_mask[row, turn + 1]].tolist()
    assert said[0] == THINK
    assert written[-len(said) :] == said
    metrics = thought_metrics(rollout)
    thought = rollout.thought[rollout.turns & (rollout.thought > 0)].float()
    assert metrics["thinks"] == pytest.approx(len(thought) / int(rollout.turns.sum()))
    assert metrics["thought_length"] == pytest.approx(float(thought.mean()))
    assert 0 < metrics["thoughts_cut"] <= 1
    assert thought_metrics(played(model, dataset, replace(FREE, forced="answer"))) == {}


def rewarded(rollout: Rollout, rewards: torch.Tensor, ppo: PPOConfig):
    unknown = torch.full_like(rewards, torch.nan)
    scored = extended(ScoredRollout, rollout, rewards=rewards, rewarded=rollout.turns, recall=unknown, terms={})
    return normalized(credit(scored, torch.zeros_like(rewards), ppo), ppo)


def test_the_decision_has_a_gradient_of_its_own(model, dataset):
    ppo = PPOConfig(gamma=0.0, entropy_coef=0.0)
    rollout = played(model, dataset)
    decisions = rollout.sampled & (torch.arange(rollout.sampled.shape[-1]) == 0)
    batch = rewarded(replace(rollout, sampled=decisions), (rollout.thought > 0).float() * rollout.turns, ppo)
    update_loss(model, None, batch, minibatch_counts(batch, recipe(ppo)), recipe(ppo, rollout=FREE)).loss.backward()
    rows = model.get_input_embeddings().weight.grad[[ANSWER, THINK]].abs().sum(1)
    assert (rows > 0).all()


@pytest.mark.parametrize("pays", [True, False])
def test_to_think_is_learnt_where_it_pays_and_unlearnt_where_it_doesn_t(model, dataset, pays):
    ppo = PPOConfig(gamma=0.0, entropy_coef=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(12):
        rollout = played(model, dataset, seed=step)
        batch = rewarded(rollout, ((rollout.thought > 0) == pays).float() * rollout.turns, ppo)
        optimizer.zero_grad()
        update_loss(model, None, batch, minibatch_counts(batch, recipe(ppo)), recipe(ppo, rollout=FREE)).loss.backward()
        optimizer.step()
    thinks = thought_metrics(played(model, dataset, seed=99))["thinks"]
    assert thinks > 0.9 if pays else thinks < 0.1


def test_whether_to_think_follows_the_data_unless_it_is_said():
    assert [RolloutConfig().following(thinks).forced for thinks in (True, False)] == ["auto", "answer"]
    assert RolloutConfig(forced="think").following(False).forced == "think"
