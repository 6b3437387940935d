"""Rounds: which dialogues they have, how processes share them, what is said of them."""

import numpy as np
import pytest
import torch

from mrl.recipes.strategy import Strategy
from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import EpisodeSampler, PhaseTimer, gather, round_metrics, shares
from mrl.rl.curriculum import Curriculum, CurriculumConfig
from mrl.rl.memory_pool import MemoryPool
from mrl.rl.rollout import generate_rollouts
from mrl.rl.trajectory import TrainingBatch
from pipeline.errors import InputError
from tests.mrl.rl.toy import OPTIONS, batch_of, round_of


def sampler_of(dataset, **settings) -> EpisodeSampler:
    curriculum = Curriculum(CurriculumConfig(turns=[2, 3], **settings), seed=1)
    return EpisodeSampler({2: dataset, 3: dataset}, curriculum, MemoryPool(seed=1), seed=1)


def test_a_round_dealt_out_to_processes_comes_back_in_its_order(model, dataset, vocabulary, monkeypatch):
    ppo = PPOConfig(group_size=2, minibatch_episodes=2)
    batch = batch_of(dataset, rows=5)
    whole = round_of(model.eval(), batch, vocabulary, ppo)
    of_rank = [[round_of(model, part, vocabulary, ppo) for part in shares(batch, 2, rank, 2)] for rank in (0, 1)]
    assert [len(parts) for parts in of_rank] == [2, 1]
    joined = [TrainingBatch.join(parts) for parts in of_rank]
    monkeypatch.setattr("mrl.rl.collector.gather_object", lambda own: joined)
    back = gather(of_rank[0], 5, world=2)
    width = min(back.answer_ids.shape[-1], whole.answer_ids.shape[-1])
    assert torch.equal(back.answer_ids[..., :width], whole.answer_ids[..., :width])
    assert torch.equal(back.batch.fact_ids, whole.batch.fact_ids)
    torch.testing.assert_close(back.log_probs[..., :width], whole.log_probs[..., :width], atol=1e-5, rtol=0)
    torch.testing.assert_close(back.rewards, whole.rewards)


def test_more_processes_than_dialogues_leave_some_idle(dataset):
    batch = batch_of(dataset, rows=1)
    assert [len(shares(batch, 4, rank, 3)) for rank in range(3)] == [1, 0, 0]


def test_a_sampler_goes_on_where_its_checkpoint_was(model, dataset):
    straight, killed = sampler_of(dataset), sampler_of(dataset)
    rounds = [straight.next(4, model) for _ in range(5)]
    for _ in range(2):
        killed.next(4, model)
    resumed = sampler_of(dataset)
    resumed.load_state_dict(killed.state_dict())
    resumed.curriculum.load_state_dict(killed.curriculum.state_dict())
    for wanted in rounds[2:]:
        again = resumed.next(4, model)
        assert torch.equal(again.first_ids, wanted.first_ids)
        assert torch.equal(again.seeds, wanted.seeds)


def test_stages_may_have_rounds_of_different_sizes_and_replay_each_other(model, dataset):
    # Rounds of 4 and 8 dialogues of one length each walk through them by themselves.
    sampler = sampler_of(dataset, replay_fraction=0.5)
    assert sampler.next(4, model).size == 4
    sampler.curriculum.stage = 1
    sizes = {sampler.next(8, model).turns.shape for _ in range(12)}
    assert sizes == {(8, 2), (8, 3)}


def test_figures_of_a_round(model, dataset, vocabulary):
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, PPOConfig(minibatch_episodes=6))
    metrics = round_metrics(batch)
    assert metrics["episodes"] == 6
    assert metrics["episode_turns"] == 3
    assert metrics["reward"] == float(batch.rewards[batch.rewarded].mean())
    assert metrics["recall"] == float(batch.exact[batch.batch.asks].mean())
    assert {"term_facts", "term_bleu", "reward_1"} <= metrics.keys()
    timer = PhaseTimer(torch.device("cpu"))
    for _ in range(2):
        with timer("reward"):
            generate_rollouts(model, batch_of(dataset, rows=1), OPTIONS)
    assert list(timer.seconds) == ["reward_s"]
    assert timer.seconds["reward_s"] > 0


def test_rounds_that_are_smaller_than_asked_are_said(model, dataset, caplog):
    sampler = sampler_of(dataset)
    few = len(dataset.members(2))
    sampler.next(few + 5, model)
    sampler.next(few + 5, model)
    assert caplog.text.count(f"only {few} dialogues of 2 turns") == 1


def test_each_dialogue_is_one_of_the_rows_that_its_strategy_names(model, dataset):
    """Dialogues that begin with Ann or Bob are one source, those that begin with others another."""
    every = dataset.batch(np.arange(len(dataset.data)), 1, [0] * len(dataset.data)).first_ids[:, 2]
    dataset.sources = np.where(every.numpy() <= 16, "a/told-Ann", "b/others")
    strategies = [Strategy(kind="cumulative", rows=["told-*"]), Strategy(kind="long_term", rows=["b/others"])]
    straight = sampler_of(dataset, strategies=strategies)
    rounds = [straight.next(5, model) for _ in range(6)]
    assert len({strategy for batch in rounds for strategy in batch.strategy.tolist()}) == 2
    for batch in rounds:
        assert ((batch.first_ids[:, 2] > 16).long() == batch.strategy).all()
    resumed = sampler_of(dataset, strategies=strategies)
    for _ in range(3):
        straight_again = resumed.next(5, model)
    assert torch.equal(straight_again.first_ids, rounds[2].first_ids)
    later = sampler_of(dataset, strategies=strategies)
    later.load_state_dict(resumed.state_dict())
    later.curriculum.load_state_dict(resumed.curriculum.state_dict())
    for wanted in rounds[3:]:
        assert torch.equal(later.next(5, model).first_ids, wanted.first_ids)


def test_rows_that_are_nowhere_are_refused(dataset):
    with pytest.raises(InputError, match=r"rows has 'extend_\*', but no source of rows ends so; there are rows"):
        dataset.members(2, ["extend_*"])
