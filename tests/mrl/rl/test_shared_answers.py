"""Answers that are only written are drawn once for a group, or not at all: beside every turn drawn by every row."""

from dataclasses import replace

import pytest
import torch

from mrl.recipes.strategy import Strategy
from mrl.rl.algorithms import PPOConfig
from mrl.rl.algorithms.advantages import credited_turns
from mrl.rl.collector import round_metrics
from mrl.rl.replay import log_probs_again
from mrl.rl.rewards import RewardConfig, may_be_rewarded, score
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from mrl.rl.trajectory import TrainingBatch
from mrl.rl.update import credit, minibatch_counts, update_loss
from tests.mrl.rl.toy import OPTIONS, batch_of, recipe

FACTS = RewardConfig(weights={"facts": 1.0})
HOT = replace(OPTIONS, temperature=3.0, top_p=1.0)
LAST = (Strategy(kind="long_term"),)


@pytest.fixture
def drawn(model, monkeypatch) -> list[tuple[int, int]]:
    """(queries read, answers drawn) of each call of `generate_answers`."""
    calls, generate = [], model.generate_answers

    def counted(ids, *rest, samples, **more):
        calls.append((len(ids), int(samples.sum())))
        return generate(ids, *rest, samples=samples, **more)

    monkeypatch.setattr(model, "generate_answers", counted)
    return calls


def one_by_one(model, batch, options: RolloutConfig, learnt: torch.Tensor, group: int) -> dict[tuple, list[int]]:
    """What each row says at the turns where it has an answer of its own, by row, turn and member: every dialogue alone,
    every member of a group by a call of its own."""
    said = {}
    for row in range(batch.size):
        one = batch.select(slice(row, row + 1))
        alone = generate_rollouts(model, one, options, group=group).rollout
        for turn in batch.turns[row].nonzero().squeeze(1).tolist():
            for member in range(group):
                source = member if learnt[row, turn] else 0
                mask = alone.answer_mask[source, turn]
                said[row, turn, member] = alone.answer_ids[source, turn][mask].tolist()
    return said


def in_words(rollout, group: int) -> dict[tuple, list[int]]:
    """The answers of a rollout by row, turn and member."""
    return {
        (row // group, turn, row % group): rollout.answer_ids[row, turn][rollout.answer_mask[row, turn]].tolist()
        for row, turn in rollout.turns.nonzero().tolist()
    }


def test_turns_that_are_only_written_are_drawn_once_for_a_group_and_nothing_else_changes(model, dataset, drawn):
    batch = batch_of(dataset)
    learnt = may_be_rewarded(FACTS, batch)
    assert torch.equal(learnt, batch.asks)
    written = (batch.turns & ~learnt)[:, :-1]
    assert bool(written.any()), "some turns aren't asked"
    shared = generate_rollouts(model.eval(), batch, HOT, group=4, learnt=learnt, keep_history=True)
    queries, answers = (sum(column) for column in zip(*drawn, strict=True))
    assert queries == int(learnt.sum()) + int(written.sum()), "a question is read once for all answers to it"
    assert answers == 4 * int(learnt.sum()) + int(written.sum())
    drawn.clear()
    every = generate_rollouts(model, batch, HOT, group=4, keep_history=True)
    assert sum(answers for _, answers in drawn) == 4 * int(batch.turns.sum())
    assert torch.equal(shared.history.slots, every.history.slots), "the leader says the same, so memory is the same"
    assert torch.equal(shared.rollout.writes, every.rollout.writes)
    assert in_words(shared.rollout, 4) == one_by_one(model, batch, HOT, learnt, 4)
    rows = learnt.repeat_interleave(4, 0)
    assert torch.equal(shared.rollout.answer_ids[rows], every.rollout.answer_ids[rows])
    torch.testing.assert_close(shared.rollout.log_probs[rows], every.rollout.log_probs[rows], atol=1e-5, rtol=0)
    apart = shared.rollout.answer_ids[0::4] != shared.rollout.answer_ids[1::4]
    assert torch.equal(apart.any(-1) & ~learnt, torch.zeros_like(learnt))
    assert apart.any(), "rows of a group say different things where they are drawn apart"


@pytest.mark.parametrize("group", [1, 3])
def test_where_references_are_written_only_asked_turns_are_answered(model, dataset, vocabulary, drawn, group):
    batch = replace(batch_of(dataset), strategies=LAST)
    learnt = may_be_rewarded(FACTS, batch)
    assert learnt.sum(1).max() == 1
    options = replace(HOT, teacher_forcing=True)
    few = generate_rollouts(model.eval(), batch, options, group=group, learnt=learnt, keep_history=True)
    assert drawn == [(int(learnt[:, turn].sum()), group * int(learnt[:, turn].sum())) for turn in (2,)]
    every = generate_rollouts(model, batch, options, group=group, keep_history=True)
    assert torch.equal(few.history.slots, every.history.slots)
    rows = learnt.repeat_interleave(group, 0)
    width = few.rollout.answer_ids.shape[-1]
    assert torch.equal(few.rollout.answer_ids[rows], every.rollout.answer_ids[rows][:, :width])
    assert torch.equal(few.rollout.answered, rows)
    assert not few.rollout.log_probs[~rows].any()
    scored = score(FACTS, vocabulary, few.rollout)
    assert torch.equal(scored.rewards, score(FACTS, vocabulary, every.rollout).rewards)
    metrics = round_metrics(credit(scored, torch.zeros(rows.shape), PPOConfig(gamma=0.0)))
    lengths = few.rollout.answer_mask.sum(-1)[rows].float()
    assert metrics["answer_length"] == pytest.approx(float(lengths.mean())), "an answer that isn't there has no length"
    assert metrics["recall"] == pytest.approx(float(scored.exact[rows].mean()))


@pytest.mark.parametrize("teacher_forcing", [False, True])
@pytest.mark.parametrize(("algorithm", "gamma"), [("grpo", 0.0), ("a2c", 0.9)])
def test_an_update_learns_the_same_from_fewer_answers(model, dataset, vocabulary, teacher_forcing, algorithm, gamma):
    batch = replace(batch_of(dataset), strategies=(Strategy(kind="single"),) if gamma else LAST)
    ppo = PPOConfig(algorithm=algorithm, gamma=gamma, group_size=2, minibatch_episodes=12, normalize_advantages=False)
    options, terms = replace(HOT, teacher_forcing=teacher_forcing), RewardConfig(weights={"bleu": 1.0})
    learnt = credited_turns(batch.turns, may_be_rewarded(terms, batch), looks_ahead=ppo.looks_ahead)
    assert bool((batch.turns & ~learnt).any())

    def taught(turns: torch.Tensor | None) -> tuple[TrainingBatch, torch.Tensor, list[torch.Tensor]]:
        played = generate_rollouts(model.eval(), batch, options, group=2, learnt=turns)
        scored = score(terms, vocabulary, played.rollout)
        whole = credit(scored, torch.zeros(scored.turns.shape), ppo)
        assert not (whole.credited & ~learnt.repeat_interleave(2, 0)).any()
        sections = recipe(ppo, rollout=options)
        model.zero_grad()
        loss = update_loss(model, None, whole, minibatch_counts(whole, sections), sections).loss
        loss.backward()
        return whole, loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    few, all_turns = taught(learnt), taught(None)
    assert few[0].sampled.sum() < all_turns[0].sampled.sum() or not teacher_forcing
    torch.testing.assert_close(few[1], all_turns[1], atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(few[2], all_turns[2], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_no_turn_outside_the_prediction_is_ever_rewarded(model, dataset, vocabulary):
    for strategy in (
        Strategy(kind="single"),
        *LAST,
        Strategy(kind="cumulative"),
        Strategy(kind="long_term", dense=True),
    ):
        batch = replace(batch_of(dataset), strategies=(strategy,))
        rollout = generate_rollouts(model.eval(), batch, HOT).rollout
        for weights in ({"facts": 1.0}, {"facts": 1.0, "bleu_saved": 0.5}, {"facts": 1.0, "bleu": 0.0}):
            config = RewardConfig(weights=weights)
            foreseen = may_be_rewarded(config, batch)
            scored = score(config, vocabulary, rollout)
            assert not (scored.rewarded & ~foreseen).any()
            if "bleu_saved" not in weights:
                assert torch.equal(scored.rewarded, foreseen), "by facts it is known for sure"


def test_log_probs_are_computed_again_only_where_they_are_wanted(model, dataset):
    rollout = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS, group=2).rollout
    wanted = rollout.batch.asks
    some = log_probs_again(model, rollout, OPTIONS.sampling(), at_once=2, wanted=wanted)
    every = log_probs_again(model, rollout, OPTIONS.sampling(), at_once=2)
    torch.testing.assert_close(some[wanted], every[wanted], atol=1e-5, rtol=0)
    assert every[~wanted].any()
    assert not some[~wanted].any()
