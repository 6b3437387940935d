"""The records: built whole or refused, cut and joined without a value lost."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from mrl.rl.algorithms import PPOConfig
from mrl.rl.trajectory import EpisodeBatch, Strategy, TrainingBatch
from tests.mrl.rl.toy import batch_of, round_of


@pytest.fixture
def batch(model, dataset, vocabulary) -> TrainingBatch:
    return round_of(model.eval(), batch_of(dataset), vocabulary, PPOConfig(group_size=2, minibatch_episodes=12))


def equal(one: TrainingBatch, two: TrainingBatch) -> None:
    left, right = one.state_dict(), two.state_dict()
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, right[name], equal_nan=True)
    for name, value in left["batch"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, right["batch"][name])


def test_a_record_is_frozen_and_of_one_shape(batch):
    with pytest.raises(FrozenInstanceError):
        batch.rewards = batch.rewards * 2
    with pytest.raises(ValueError, match="rewards has shape"):
        replace(batch, rewards=batch.rewards[:, :1])
    with pytest.raises(ValueError, match="distance has shape"):
        replace(batch.batch, distance=batch.batch.distance[0])
    with pytest.raises(ValueError, match="no whole number of groups"):
        batch.select(slice(0, 3))


def test_rows_joined_again_are_the_whole(batch):
    parts = [batch.rows(slice(0, 1)), batch.rows(slice(1, 4)).trim(), batch.rows(slice(4, 6))]
    assert [len(part) for part in parts] == [1, 3, 2]
    joined = TrainingBatch.join(parts)
    width = joined.writes.shape[-1]
    equal(joined, replace(batch, writes=batch.writes[..., :width], writes_mask=batch.writes_mask[..., :width]))


def test_a_value_that_only_some_parts_have_is_refused(batch):
    other = replace(batch, reference_log_probs=batch.log_probs)
    with pytest.raises(ValueError, match="reference_log_probs is missing"):
        TrainingBatch.join([batch, other])


def test_trimming_cuts_what_is_empty_in_every_row(batch):
    wide = torch.nn.functional.pad
    padded = replace(
        batch,
        **{name: wide(getattr(batch, name), (0, 5)) for name in ("answer_ids", "answer_mask", "sampled", "log_probs")},
    )
    equal(padded.trim(), batch.trim())
    assert padded.trim().answer_ids.shape[-1] == int(batch.answer_mask.sum(-1).max())


def test_a_record_comes_back_from_plain_tensors(batch, tmp_path):
    torch.save(batch.state_dict(), tmp_path / "batch.pt")
    back = TrainingBatch.from_state(torch.load(tmp_path / "batch.pt", weights_only=True))
    equal(batch, back)
    assert back.batch.strategies == (Strategy(),)
    assert back.group == 2
    assert isinstance(back.batch, EpisodeBatch)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": -1.0}, "negative"),
        ({"saved_offset": 0}, "saved_offset"),
        ({"kind": "single", "final_weight": 2.0}, "belong to kind: cumulative"),
        ({"dense": True}, "belongs to kind: long_term"),
        ({"kind": "long_term", "topic_change_penalty": 0.5}, "dense: true"),
    ],
)
def test_strategies_with_options_that_do_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Strategy(**wrong)
