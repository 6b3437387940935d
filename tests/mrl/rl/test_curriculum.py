"""Stages by table, promotion, replay, resets, unfreezing, and positions that refuse another curriculum."""

import json

import pytest

from mrl.rl.curriculum import Curriculum, CurriculumConfig, ResetConfig, Unfreeze, turn_counts
from mrl.rl.trajectory import Strategy
from pipeline.config import parse_config
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 2, 3, 4, 6, 8, 12, 16]),
        ({"kind": "linear", "first": 1, "last": 8, "increment": 3}, [1, 4, 7, 8]),
        ({"kind": "exponential", "first": 1, "last": 32, "factor": 2.0}, [1, 2, 4, 8, 16, 32]),
        ({"kind": "exponential", "first": 2, "last": 9, "factor": 1.5}, [2, 3, 4, 7, 9]),
        ({"kind": "linear", "first": 5, "last": 5}, [5]),
        ({"kind": "linear"}, list(range(1, 17))),
    ],
)
def test_turn_counts(settings, expected):
    assert turn_counts(CurriculumConfig(**settings)) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"turns": [2, 1]}, "must grow"),
        ({"turns": []}, "must grow"),
        ({"turns": [0, 1]}, "should be at least 1"),
        ({"kind": "linear", "increment": 0}, "increment"),
        ({"kind": "exponential", "factor": 1.0}, "growing rule"),
        ({"replay_fraction": 1.0}, "replay_fraction should be"),
        ({"overrides": {"5": {}}}, "overrides.5 is no stage"),
        ({"strategies": [{"weight": 0.0}]}, "positive weight"),
        ({"min_epochs": 9}, "min_epochs 9"),
        ({"promote_at": 9.0}, "recall lies in 0..1"),
        ({"unfreeze": [{"parts": []}]}, "parts is empty"),
        ({"unfreeze": [{"parts": ["encodr"]}]}, "parts are"),
        ({"resets": {"probability": 1.5}}, "probability should be"),
    ],
)
def test_curricula_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        parse_config(CurriculumConfig, wrong)


def test_old_names_are_taken_and_said(caplog):
    config = parse_config(CurriculumConfig, {"steps": [1, 2], "replay": 0.5})
    assert (config.turns, config.replay_fraction) == ([1, 2], 0.5)
    assert "steps is now called turns" in caplog.text
    assert "replay is now called replay_fraction" in caplog.text


def test_a_stage_ends_with_its_threshold_or_its_epochs():
    curriculum = Curriculum(CurriculumConfig(turns=[1, 2, 4], epochs=3, promote_at=0.9), seed=0)
    assert curriculum.observe(reward=0.1, recall=0.95)
    assert curriculum.present == 2
    assert [curriculum.observe(reward=0.99, recall=0.5) for _ in range(3)] == [False, False, True]
    assert [curriculum.observe(reward=0.99, recall=0.5) for _ in range(9)] == [False] * 9
    assert not curriculum.finished, "the last stage lasts as long as the run"
    assert not curriculum.observe(reward=0, recall=0.9)
    assert curriculum.finished


def test_without_facts_the_reward_decides():
    curriculum = Curriculum(CurriculumConfig(turns=[1, 2], epochs=5, promote_at=0.5), seed=0)
    assert not curriculum.observe(reward=0.4, recall=None)
    assert curriculum.observe(reward=0.6, recall=None)


def test_earlier_stages_are_replayed_in_about_the_share_asked_for():
    curriculum = Curriculum(CurriculumConfig(turns=[1, 2, 4], replay_fraction=0.25), seed=3)
    assert {curriculum.draw(2).turns for _ in range(20)} == {1}
    curriculum.stage = 2
    drawn = [curriculum.draw(2) for _ in range(400)]
    assert {d.turns for d in drawn} == {1, 2, 4}
    assert all(d.replayed == (d.turns != 4) for d in drawn)
    assert 0.18 < sum(d.replayed for d in drawn) / 400 < 0.32


def test_strategies_are_mixed_by_weight():
    mix = [Strategy(kind="cumulative", weight=3), Strategy(kind="long_term", weight=1)]
    drawn = Curriculum(CurriculumConfig(strategies=mix), seed=0).draw(2000)
    assert 0.2 < sum(drawn.strategy) / 2000 < 0.3


def test_resets_are_always_then_random_from_an_epoch():
    resets = ResetConfig(mode="random", from_epoch=1, probability=0.25, carry="own")
    curriculum = Curriculum(CurriculumConfig(resets=resets), seed=0)
    assert all(curriculum.draw(100).reset)
    curriculum.observe(reward=0, recall=0)
    assert 0.2 < sum(curriculum.draw(2000).reset) / 2000 < 0.3


def test_parts_wake_by_epoch_or_reward():
    rules = [
        Unfreeze(parts=["memory_attention"]),
        Unfreeze(parts=["encoder"], epoch=2),
        Unfreeze(parts=["decoder"], reward=0.8),
    ]
    curriculum = Curriculum(CurriculumConfig(unfreeze=rules, epochs=9, promote_at=None), seed=0)
    assert curriculum.trainable() == {"memory_attention"}
    curriculum.observe(reward=0.9, recall=None)
    assert curriculum.trainable() == {"memory_attention", "decoder"}
    curriculum.observe(reward=0.1, recall=None)
    assert curriculum.trainable() == {"memory_attention", "decoder", "encoder"}


def test_a_position_survives_json_and_gives_the_same_draws():
    config = CurriculumConfig(turns=[1, 2, 4], replay_fraction=0.5)
    first = Curriculum(config, seed=7)
    first.observe(reward=1, recall=1)
    for _ in range(5):
        first.draw(3)
    second = Curriculum(config, seed=7)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [first.draw(4) for _ in range(10)] == [second.draw(4) for _ in range(10)]
    assert second.metrics() == first.metrics()


def test_a_position_in_another_curriculum_is_refused_by_name():
    saved = Curriculum(CurriculumConfig(replay_fraction=0.1), seed=1).state_dict()
    with pytest.raises(ValueError, match=r"replay_fraction is 0\.1 there and 0\.2 here"):
        Curriculum(CurriculumConfig(), seed=1).load_state_dict(saved)
    with pytest.raises(ValueError, match="seed is 1 there and 2 here"):
        Curriculum(CurriculumConfig(replay_fraction=0.1), seed=2).load_state_dict(saved)
