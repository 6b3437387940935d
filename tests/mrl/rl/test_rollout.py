"""Playing dialogues: who answers from which memory, what is written, what decides what is said."""

from dataclasses import replace

import pytest
import torch

from mrl.model import Sampling
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from tests.mrl.rl.toy import OPTIONS, batch_of


def test_an_answer_depends_on_its_own_dialogue_alone(model, dataset):
    batch = batch_of(dataset)
    together = generate_rollouts(model.eval(), batch, OPTIONS).rollout
    alone = generate_rollouts(model, batch.select(slice(2, 3)), OPTIONS).rollout
    width = alone.answer_ids.shape[-1]
    assert torch.equal(together.answer_ids[2:3, :, :width], alone.answer_ids)


def test_a_group_answers_from_one_memory_and_only_its_first_answer_is_written(model, dataset):
    rollout = generate_rollouts(model.eval(), batch_of(dataset), replace(OPTIONS, temperature=3.0), group=4).rollout
    assert len(rollout) == 6
    assert rollout.batch.size == 24
    grouped = rollout.writes.unflatten(0, (-1, 4))
    assert (grouped == grouped[:, :1]).all()
    answers = rollout.answer_ids.unflatten(0, (-1, 4))
    assert (answers != answers[:, :1]).any(), "the others of a group say something else"
    said = rollout.answer_ids[4, 0][rollout.answer_mask[4, 0]].tolist()
    written = rollout.writes[4, 1][rollout.writes_mask[4, 1]].tolist()
    assert written[-len(said) :] == said


def test_teacher_forcing_writes_the_references(model, dataset):
    batch = batch_of(dataset)
    rollout = generate_rollouts(model.eval(), batch, replace(OPTIONS, teacher_forcing=True)).rollout
    wanted = batch.reference_ids[1, 0][batch.reference_mask[1, 0]].tolist()
    assert rollout.writes[1, 1][rollout.writes_mask[1, 1]].tolist()[-len(wanted) :] == wanted


def test_greedy_rollouts_are_refused():
    with pytest.raises(ValueError, match="explore nothing"):
        RolloutConfig(temperature=0.0)


def test_the_distribution_sampled_from_is_the_configured_one():
    assert OPTIONS.sampling() == Sampling(temperature=0.8, top_p=0.9)
