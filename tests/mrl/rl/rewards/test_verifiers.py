"""Terms that check an answer by rule, running scales, and what a recipe may say of quality."""

from dataclasses import replace
from math import nan

import pytest
import torch

from mrl.recipes.reinforcement import RolloutConfig
from mrl.recipes.rewards import RewardConfig
from mrl.rl.rewards import RunningScales, score
from mrl.rl.rewards.verifiers import brevity, is_polite
from mrl.rl.rollout import generate_rollouts
from tests.mrl.rl.toy import batch_of


@pytest.mark.parametrize(
    ("answer", "polite", "worth"),
    [
        ("cat, my pleasure", True, 1.0),
        ("Sorry, I do not know", True, 1.0),
        ("thankless cat", False, 1.0),
        ("cat " * 16 + "please", True, 8 / 17),
        ("", False, 0.0),
    ],
)
def test_manners_and_length(answer, polite, worth):
    assert is_polite(answer) == polite
    assert brevity(answer, 8) == pytest.approx(worth)


@pytest.fixture
def rollout(dataset, model):
    return generate_rollouts(model, batch_of(dataset), RolloutConfig(max_new_tokens=5), greedy=True).rollout


def said(rollout, tokenizer, *answers: str):
    """The rollout with other answers to its first dialogue's turns."""
    ids, mask = torch.zeros(*rollout.turns.shape, 14, dtype=torch.long), torch.zeros(*rollout.turns.shape, 14).bool()
    for turn, answer in enumerate(answers):
        tokens = tokenizer(answer, add_special_tokens=False)["input_ids"]
        ids[0, turn, : len(tokens)] = torch.tensor(tokens)
        mask[0, turn, : len(tokens)] = True
    blank = torch.zeros(mask.shape)
    return replace(rollout, answer_ids=ids, answer_mask=mask, sampled=mask, log_probs=blank)


def test_terms_read_the_answer_by_itself(rollout, tokenizer, vocabulary):
    rollout = said(rollout, tokenizer, "[A] cat dog [EOS]", "[T] why because [A] owl [EOS]", "[A] " + "cat " * 12)
    config = RewardConfig(
        weights={"brief": 1.0, "format": 1.0, "thought": 1.0, "abstention": 1.0}, pattern="(cat|dog| )+", most_words=4
    )
    terms = score(config, vocabulary, rollout).terms
    assert terms["brief"][0, :3].tolist() == pytest.approx([1.0, 1.0, 4 / 12])
    assert terms["format"][0, :3].tolist() == [1.0, 0.0, 1.0]
    assert terms["thought"][0, :3].tolist() == [0.0, 1.0, 0.0]
    assert terms["abstention"][0, :3].tolist() == [1.0, 1.0, 1.0], "nobody says that it isn't known"


def test_a_watched_term_and_a_model_are_measured_and_only_the_weighted_one_counts(rollout, vocabulary):
    def judge(of):
        return torch.where(of.turns, 0.25, 0.0)

    config = RewardConfig(weights={"mine": 2.0}, models={"mine": "somewhere"}, watched=["brief", "facts"])
    scored = score(config, vocabulary, rollout, {"mine": judge})
    assert set(scored.terms) == {"mine", "brief", "facts"}
    assert scored.rewards[scored.turns].unique().tolist() == [0.25]


def test_scales_over_rounds_are_those_of_all_values_at_once():
    scales, rng = RunningScales(), torch.Generator().manual_seed(0)
    rounds = [torch.rand(4, 3, generator=rng) * size for size in (1.0, 3.0, 0.5)]
    rounds[1][0, 0] = nan
    turns = torch.ones(4, 3, dtype=torch.bool)
    turns[2, 1] = False
    again = RunningScales()
    for values in rounds:
        scales.update({"x": values}, turns)
        again.load_state_dict(scales.state_dict())  # a checkpoint after every round
        scales = again
    every = torch.cat([values[turns & ~values.isnan()] for values in rounds])
    wanted = (rounds[0] - every.mean()) / every.std(correction=0)
    assert torch.allclose(scales.matched("x", rounds[0]), wanted, atol=1e-5)
    assert scales.matched("new", rounds[0]) is rounds[0]
    scales.update({"flat": torch.ones(4, 3)}, turns)
    assert float(scales.matched("flat", torch.zeros(1, 1))) == pytest.approx(-1 / 0.05), "not blown up any further"


def test_matched_terms_count_in_deviations(rollout, tokenizer, vocabulary):
    rollout = said(rollout, tokenizer, "[A] cat [EOS]", "[A] dog", "[A] " + "cat " * 8)
    config = RewardConfig(weights={"brief": 1.0, "thought": 1.0}, most_words=2, match_scales=True)
    scales = RunningScales()
    scales.seen = {"brief": [10.0, 0.75, 10 * 0.25**2], "thought": [10.0, 0.0, 10 * 0.5**2]}
    rewards = score(config, vocabulary, rollout, scales=scales).rewards[0, :3]
    assert rewards.tolist() == pytest.approx([(1 + 0) / 2, (1 + 0) / 2, (-2 + 0) / 2])


def test_a_ramp_raises_a_weight_from_one_share_of_the_run_to_another():
    config = RewardConfig(weights={"facts": 1.0, "polite": 2.0}, ramps={"polite": (0.2, 0.6)})
    assert [config.at(share).weights["polite"] for share in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 1, 2, 2])
    assert config.at(0.1).watched == ["polite"], "it is measured before it counts"
    assert config.at(0.9).weights["facts"] == 1.0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"weights": {"polight": 1.0}}, "polight is no term"),
        ({"models": {"mine": "x"}}, "models.mine has no weight and isn't watched"),
        ({"models": {"facts": "x"}}, "a term of that name is there already"),
        ({"watched": ["nothing"]}, "watched.nothing is no term"),
        ({"watched": ["facts"]}, "a watched term teaches nothing"),
        ({"ramps": {"polite": (0.0, 1.0)}}, "ramps.polite has no weight"),
        ({"weights": {"facts": 1.0, "polite": 1.0}, "ramps": {"polite": (0.6, 0.2)}}, "two shares of the run"),
        ({"weights": {"polite": 1.0}, "ramps": {"polite": (0.1, 0.2)}}, "nothing would be rewarded at first"),
        ({"weights": {"format": 1.0}}, "pattern and the term format belong together"),
        ({"weights": {"format": 1.0}, "pattern": "("}, "no regular expression"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**section)
