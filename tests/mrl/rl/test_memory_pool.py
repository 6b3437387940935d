"""Dialogues that go on from memories of earlier ones."""

from dataclasses import replace

import torch

from mrl.model import MemoryState
from mrl.rl.curriculum import Draw, ResetConfig
from mrl.rl.memory_pool import MemoryPool
from mrl.rl.replay import memory_of, replay
from mrl.rl.rollout import generate_rollouts
from mrl.rl.trajectory import EpisodeBatch, Strategy
from tests.mrl.rl.toy import OPTIONS, batch_of

KINDS = (Strategy(kind="cumulative"), Strategy(kind="single"), Strategy(kind="long_term"))


def of_kinds(dataset, *kinds: int) -> EpisodeBatch:
    batch = batch_of(dataset, rows=len(kinds))
    return replace(batch, strategies=KINDS, strategy=torch.tensor(kinds))


def test_rows_go_on_from_states_of_their_own_kind(dataset):
    resets, pool = ResetConfig(mode="random", carry="own"), MemoryPool(seed=1)
    shape = (2, 4, 32)
    left = torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 4, 32)
    pool.put(of_kinds(dataset, 0, 0, 1), MemoryState(left), size=2)
    pool.put(of_kinds(dataset, 0), MemoryState(left[:, 2:] + 7), size=2)
    draw = Draw(3, [], [0] * 4, [True, False, False, False], resets, False)
    carried, initial = pool.start(draw, of_kinds(dataset, 0, 0, 2, 1), shape)
    assert carried.tolist() == [False, True, False, True], "nothing was left by a long_term dialogue"
    assert float(initial.slots[0, 0, 0, 0]) in (1.0, 9.0), "of three states the newest two are kept"
    assert float(initial.slots[0, 1, 0, 0]) == 2.0
    again = MemoryPool(seed=1)
    again.load_state_dict(pool.state_dict())
    one, two = (p.start(draw, of_kinds(dataset, 0, 0, 0, 0), shape)[1] for p in (pool, again))
    assert torch.equal(one.slots, two.slots)


def test_a_replay_starts_from_the_memory_that_the_rollout_started_from(model, dataset):
    batch = batch_of(dataset, rows=4)
    initial = torch.randn(2, 2, 4, 32)
    on = torch.tensor([False, True, False, True])
    batch = replace(batch, start=batch.start.carrying(on, MemoryState(initial)))
    rollout = generate_rollouts(model.eval(), batch, OPTIONS, group=2).rollout
    torch.testing.assert_close(memory_of(model, rollout)[0].rows(on).slots, initial)
    torch.testing.assert_close(memory_of(model, rollout.rows(slice(3, 4)))[0].slots, initial[:, 1:])
    again = replay(model, rollout, OPTIONS.sampling())
    torch.testing.assert_close(again.log_probs, rollout.log_probs[again.scored], atol=1e-5, rtol=0)
