"""Reward functions of one's own: called with texts where the user allows it, refused before a run where not."""

from dataclasses import replace

import pytest

from mrl.rl.rewards import RewardConfig, score
from mrl.rl.rewards.custom import CustomRewardError
from tests.mrl.rl.rewards.test_rewards import IDS, rollout_of, vocabulary  # noqa: F401 (a fixture)

NAMES = list(IDS)

MODULE = """
CALLS = []
def short(query, answer, reference):
    CALLS.append((query, answer, reference))
    return None if answer == "rex" else float(len(answer.split()) < 3) / 2
def wild(query, answer, reference):
    return 7.0
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reading(vocabulary):  # noqa: F811
    return replace(vocabulary, decode=lambda ids: " ".join(NAMES[i - 6] for i in ids))


def config(path: str = "own_rewards.short", **more) -> RewardConfig:
    return RewardConfig(weights={"own": 1.0}, custom={"own": path}, allow_custom_code=True, **more)


def test_a_function_gets_texts_and_its_values_are_rewards(reading):
    import sys

    played = score(config(scale=10.0), reading, rollout_of([["dog .", "my dog is called rex ."], ["rex", "tom"]]))
    assert played.rewards.tolist() == [[5, 0], [0, 5]]
    assert played.rewarded.tolist() == [[True, True], [False, True]]  # `rex` alone: it said nothing
    query, answer, reference = sys.modules["own_rewards"].CALLS[0]
    assert (query, answer) == ("what name does my dog have", "dog .")
    assert reference == "your dog is called rex ."


def test_a_value_out_of_range_is_refused_by_name(reading):
    with pytest.raises(CustomRewardError, match=r"custom\.own gave 7\.0; give 0\.\.1"):
        score(config("own_rewards.wild"), reading, rollout_of([["dog"]]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"custom": {"own": "own_rewards.short"}}, "would import and call own_rewards.short; set rewards.allow_custom"),
        ({"custom": {"own": "own_rewards.nope"}, "allow_custom_code": True}, "own_rewards has no function nope"),
        ({"custom": {"own": "nowhere.f"}, "allow_custom_code": True}, "nowhere can't be imported"),
        ({"custom": {"own": "f"}, "allow_custom_code": True}, "give module.function"),
        ({"custom": {"bleu": "own_rewards.short"}, "allow_custom_code": True}, "choose another name"),
        ({"custom": {"else": "own_rewards.short"}, "allow_custom_code": True}, "custom.else has no weight"),
    ],
)
def test_what_cannot_be_called_is_refused_at_load(given, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(weights={"own": 1.0, "facts": 1.0}, **given)


def test_nothing_is_imported_without_leave(tmp_path):
    (tmp_path / "own_trap.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="allow_custom_code"):
        RewardConfig(weights={"own": 1.0}, custom={"own": "own_trap.f"})
