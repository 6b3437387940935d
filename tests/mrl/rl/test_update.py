"""Rounds become updates: what is credited, which turns are learnt, and that slices add up to the whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import round_metrics
from mrl.rl.critic import CriticConfig, build_critic, predict_values, value_turns
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.replay import memory_of, reference_loss, replay, said_references
from mrl.rl.rewards import RewardConfig, score
from mrl.rl.rollout import generate_rollouts
from mrl.rl.trajectory import Strategy, TrainingBatch
from mrl.rl.update import (
    MinibatchBuffer,
    UpdateConfig,
    answer_copies,
    calibrate_critic,
    credit,
    minibatch_counts,
    normalized,
    select_by_advantage,
    sft_turns,
    update_loss,
)
from tests.mrl.rl.toy import OPTIONS, batch_of, recipe, round_of


def gradients(modules, loss_of, parts) -> list[torch.Tensor]:
    modules.zero_grad()
    for part in parts:
        loss_of(part).backward()
    return [p.grad.clone() for p in modules.parameters() if p.grad is not None]


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "impo", "grpo", "raft"])
def test_slices_of_a_minibatch_add_up(model, dataset, vocabulary, algorithm):
    ppo = PPOConfig(algorithm=algorithm, group_size=2, minibatch_episodes=12, kl_coef=0.1, loss_scope="answer")
    critic = build_critic(model, "text_memory").eval()
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo, critic)
    batch = replace(batch, reference_log_probs=batch.log_probs - 0.1 * batch.sampled)
    sections = recipe(ppo, UpdateConfig(sft_coef=0.3), CriticConfig(turn_share=0.6))
    assert 0 < int(value_turns(batch, sections.critic).sum()) < int(batch.turns.sum())
    counts = minibatch_counts(batch, sections)
    both = torch.nn.ModuleList([model, critic])

    def loss_of(part: TrainingBatch) -> torch.Tensor:
        return update_loss(model, critic, part.trim(), counts, sections).loss

    whole = gradients(both, loss_of, [batch])
    sliced = gradients(both, loss_of, [batch.rows(slice(i, None, 4)) for i in range(4)])
    assert len(whole) == len(sliced) > 20
    for one, two in zip(whole, sliced, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=2e-4)


def test_before_the_first_step_nothing_has_moved(model, dataset, vocabulary):
    ppo = PPOConfig(minibatch_episodes=6)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    metrics = update_loss(model, None, batch, minibatch_counts(batch, recipe(ppo)), recipe(ppo)).metrics
    assert float(metrics["ratio"] / metrics["scored_n"]) == pytest.approx(1, abs=1e-5)
    assert float(metrics["approx_kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clipfrac"]) == 0


def test_only_turns_that_teach_something_are_scored(model, dataset, vocabulary):
    ppo = PPOConfig(minibatch_episodes=6)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    batch = replace(batch, advantages=torch.where(batch.batch.distance > 0, 1.0, 0.01) * batch.turns)
    few = recipe(ppo, UpdateConfig(min_abs_advantage=0.5))
    metrics = update_loss(model, None, batch, minibatch_counts(batch, few), few).metrics
    asked = batch.sampled & (batch.batch.distance > 0)[..., None]
    assert int(metrics["scored_n"]) == int(asked.sum()) < int(batch.sampled.sum())


def test_turns_without_a_reward_move_neither_policy_nor_critic(model, dataset, vocabulary):
    ppo = PPOConfig(gamma=0.0, normalize_advantages=False, entropy_coef=0.0, minibatch_episodes=6)
    delayed = replace(batch_of(dataset), strategies=(Strategy(kind="long_term"),))
    critic = build_critic(model.eval(), "text_memory").eval()
    critic.set_bias(0.7)  # a critic that expects something
    batch = round_of(model, delayed, vocabulary, ppo, critic)
    last = torch.arange(3).expand_as(batch.turns) == batch.turns.sum(1, keepdim=True) - 1
    assert torch.equal(batch.credited, batch.turns & last)
    assert torch.equal(value_turns(batch, CriticConfig()), batch.credited)
    assert not batch.advantages[~last].any()
    assert batch.values[batch.credited].tolist() == pytest.approx([0.7] * int(batch.credited.sum()))

    def gradient(rows: TrainingBatch) -> torch.Tensor:
        model.zero_grad()
        update_loss(model, critic, rows, minibatch_counts(rows, recipe(ppo)), recipe(ppo)).loss.backward()
        return model.model.embedding.weight.grad.clone()

    # what would be there is never read
    other = replace(batch, advantages=batch.advantages - 9.0 * ~batch.credited)
    torch.testing.assert_close(gradient(other), gradient(batch))


def test_answers_that_did_worse_weigh_as_much_as_is_said(model, dataset, vocabulary):
    plain = PPOConfig(gamma=0.0, normalize_advantages=False, minibatch_episodes=6)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, plain)
    mixed = replace(batch, advantages=torch.linspace(-1, 1, batch.advantages.numel()).view_as(batch.advantages))
    for coef in (0.0, 0.25, 1.0):
        weighed = normalized(mixed, replace(plain, negative_coef=coef)).advantages
        expected = [[a if a > 0 else coef * a for a in row] for row in mixed.advantages.tolist()]
        torch.testing.assert_close(weighed, torch.tensor(expected))
    with pytest.raises(ValueError, match=r"negative_coef is -0\.5"):
        replace(plain, negative_coef=-0.5)
    with pytest.raises(ValueError, match=r"negative_coef is 0\.5; raft learns the best"):
        PPOConfig(algorithm="raft", group_size=2, negative_coef=0.5)


@pytest.mark.parametrize("scope", ["token", "answer"])
def test_entropy_is_a_mean_over_what_was_sampled(model, dataset, vocabulary, scope):
    # 31 times too small elsewhere: divided by the number of tokens twice.
    ppo = PPOConfig(gamma=0.0, entropy_coef=1.0, loss_scope=scope, minibatch_episodes=6)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages))
    loss = update_loss(model, None, batch, minibatch_counts(batch, recipe(ppo)), recipe(ppo)).loss
    again = replay(model, batch, OPTIONS.sampling())
    entropy = torch.zeros(again.scored.shape).masked_scatter(again.scored, again.entropy.detach())
    each = entropy.sum(-1) / again.scored.sum(-1).clamp(min=1)
    wanted = again.entropy.mean() if scope == "token" else each[again.scored.any(-1)].mean()
    torch.testing.assert_close(-loss, wanted)


@pytest.mark.parametrize("group", [1, 2])
def test_answers_that_are_their_reference_teach_it_without_a_second_pass(
    model, dataset, vocabulary, group, monkeypatch
):
    ppo = PPOConfig(gamma=0.0, entropy_coef=0.0, group_size=group, minibatch_episodes=12)
    plain = replace(OPTIONS, temperature=1.0, top_p=1.0)
    rollout = generate_rollouts(model.eval(), batch_of(dataset), plain, group=group).rollout
    episodes = rollout.batch
    width = episodes.reference_ids.shape[-1]
    same = torch.zeros_like(rollout.turns)
    same[::2] = True  # these dialogues' answers become the references (of both rows of a group)
    same &= rollout.turns & (rollout.answer_mask.sum(-1) <= width)
    for wanted, said in ((episodes.reference_ids, rollout.answer_ids), (episodes.reference_mask, rollout.answer_mask)):
        wanted[same] = F.pad(said, (0, max(0, width - said.shape[-1])))[..., :width][same]
    assert torch.equal(said_references(rollout) & same, same)
    assert same.any()
    scored = score(RewardConfig(), vocabulary, rollout)
    batch = credit(scored, torch.zeros(scored.turns.shape), ppo)
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages))
    sections = recipe(ppo, UpdateConfig(sft_coef=1.0, sft_turns="all"), rollout=plain)
    counts = minibatch_counts(batch, sections)
    passes = []
    decode = model.decode
    monkeypatch.setattr(
        model, "decode", lambda ids, *rest, **more: passes.append(len(ids)) or decode(ids, *rest, **more)
    )
    fast = update_loss(model, None, batch, counts, sections)
    leaders = int(batch.turns[::group].sum())
    assert passes[1] <= leaders - int(same[::group].sum())
    slow, tokens = reference_loss(model, batch, memory_of(model, batch), batch.turns)
    torch.testing.assert_close(fast.loss, slow / counts["reference_tokens"])
    assert fast.metrics["sft_n"] == tokens == counts["reference_tokens"]


def test_of_turns_without_facts_a_share_is_learnt_whatever_the_slice(model, dataset, vocabulary):
    ppo = PPOConfig(minibatch_episodes=6)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo).rows(torch.arange(6).repeat(400))
    batch = replace(batch, batch=replace(batch.batch, start=EpisodeStart.fresh(torch.arange(2400) * 2**40)))
    needed = sft_turns(batch, UpdateConfig(sft_turns="asked"))
    other = batch.turns & ~needed
    assert needed.any()
    assert other.any()
    assert torch.equal(sft_turns(batch, UpdateConfig(sft_turns="all")), batch.turns)
    config = UpdateConfig(sft_turns="all", sft_other_fraction=0.3)
    some = sft_turns(batch, config)
    assert some[needed].all()
    assert not some[~batch.turns].any()
    assert float(some[other].float().mean()) == pytest.approx(0.3, abs=0.04)
    assert torch.equal(sft_turns(batch.rows(torch.arange(7, 90)), config), some[7:90])


def test_a_buffer_visits_every_dialogue_and_survives_a_checkpoint(model, dataset, vocabulary):
    ppo = PPOConfig(minibatch_episodes=4, update_epochs=2, group_size=2)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    buffer = MinibatchBuffer()
    with pytest.raises(ValueError, match="empty"):
        buffer.next()
    buffer.fill(batch, ppo, torch.Generator().manual_seed(3))
    assert [len(part) for part in buffer.order] == [2, 2, 2, 2, 2, 2]
    assert sorted(np.concatenate(buffer.order[:3])) == list(range(6))
    buffer.next()
    copy = MinibatchBuffer()
    copy.load_state_dict(buffer.state_dict())
    one, two = buffer.next(), copy.next()
    assert torch.equal(one.answer_ids, two.answer_ids)
    assert one.batch.strategies == two.batch.strategies == (Strategy(),)
    assert copy.drop() == 4
    assert not copy
    assert copy.state_dict()["batch"] is None, "of a finished round nothing is kept"


@pytest.mark.parametrize("group", [1, 2])
def test_updates_are_made_from_the_dialogues_with_the_largest_advantages(model, dataset, vocabulary, group):
    ppo = PPOConfig(group_size=group, minibatch_episodes=2, keep_fraction=0.5, update_epochs=1)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    advantages, credited = torch.zeros_like(batch.advantages), batch.credited.clone()
    advantages[[1 * group, 4 * group, 5 * group]] = torch.tensor([[-3.0], [2.0], [1.0]])
    credited[0] = False
    advantages[0] = 9.0  # counts for nothing
    batch = replace(batch, advantages=advantages, credited=credited)
    assert select_by_advantage(batch, 0.5).tolist() == [1, 4, 5]
    assert select_by_advantage(batch, 0.01).tolist() == [1]
    buffer = MinibatchBuffer()
    buffer.fill(batch, ppo, torch.Generator().manual_seed(3))
    assert sorted(i for part in buffer.order for i in part) == [1, 4, 5]


def test_groups_whose_answers_all_earned_the_same_are_dropped_and_counted(model, dataset, vocabulary):
    keep = PPOConfig(algorithm="grpo", group_size=2, minibatch_episodes=2, update_epochs=1, gamma=0.0, entropy_coef=0.0)
    drop = replace(keep, even_groups="drop")
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, keep)
    rewards = torch.full_like(batch.rewards, 0.5)
    rewards[2, 0], rewards[7, 1], rewards[9, 2] = 1.0, 0.0, 0.25  # of dialogues 1, 3 and 4
    rewarded = batch.turns.clone()
    rewarded[8:10, 2] = False  # nothing is said of the third
    told = {(2, 0), (3, 0), (6, 1), (7, 1)}
    scored = replace(batch, rewards=rewards * rewarded, rewarded=rewarded)
    every, few = (credit(scored, torch.zeros_like(rewards), ppo) for ppo in (keep, drop))
    assert set(map(tuple, few.credited.nonzero().tolist())) == told
    assert torch.equal(every.credited, rewarded)
    assert torch.equal(few.advantages, every.advantages)
    metrics = round_metrics(every)
    assert metrics["groups_with_spread"] == pytest.approx(2 / (int(rewarded.sum()) / 2))
    assert metrics["dialogues_with_spread"] == pytest.approx(2 / 6)
    sections = recipe(drop)
    counts = minibatch_counts(few, sections)
    assert counts["tokens"] == sum(int(few.sampled[place].sum()) for place in told)
    losses = [update_loss(model, None, whole, minibatch_counts(whole, sections), sections) for whole in (every, few)]
    assert int(losses[1].metrics["scored_n"]) == counts["tokens"]
    divided = minibatch_counts(every, sections)["tokens"] / counts["tokens"]
    torch.testing.assert_close(losses[1].loss, losses[0].loss * divided, atol=1e-6, rtol=1e-4)
    buffer = MinibatchBuffer()
    buffer.fill(few, drop, torch.Generator().manual_seed(3))
    assert sorted(i for part in buffer.order for i in part) == [1, 3]
    buffer.fill(every, keep, torch.Generator().manual_seed(3))
    assert sorted(i for part in buffer.order for i in part) == list(range(6))
    level = credit(replace(scored, rewards=torch.zeros_like(rewards)), torch.zeros_like(rewards), drop)
    buffer.fill(level, drop, torch.Generator().manual_seed(3))
    loss = update_loss(model, None, buffer.next(), minibatch_counts(level, sections), sections).loss
    assert not buffer, "a round in which nothing differs is over after one minibatch"
    assert loss == 0
    with pytest.raises(ValueError, match="only grpo and raft compare"):
        PPOConfig(even_groups="drop")


@pytest.mark.parametrize("scope", ["token", "answer"])
def test_what_several_answers_of_a_group_say_is_scored_once_and_counts_for_all(
    model, dataset, vocabulary, scope, monkeypatch
):
    ppo = PPOConfig(algorithm="grpo", group_size=3, minibatch_episodes=18, kl_coef=0.1, loss_scope=scope)
    batch = round_of(model.eval(), batch_of(dataset), vocabulary, ppo)
    # At every second turn the second of three answers is the first once more, worth the same.
    twin = torch.arange(len(batch.turns))
    twin[1::3] -= 1
    again = (torch.arange(batch.turns.shape[1]) % 2 == 0)[None, :]

    def said(values: torch.Tensor) -> torch.Tensor:
        return torch.where(again.view(1, -1, *[1] * (values.ndim - 2)), values[twin], values)

    names = ("answer_ids", "answer_mask", "sampled", "log_probs")
    batch = replace(batch, **{name: said(getattr(batch, name)) for name in names})
    advantages = said(torch.randn(batch.turns.shape, generator=torch.Generator().manual_seed(3)))
    batch = replace(
        batch, advantages=advantages, credited=batch.turns, reference_log_probs=batch.log_probs - 0.1 * batch.sampled
    )
    scored = batch.turns & batch.sampled.any(-1)
    repeats = scored & again & (torch.arange(len(twin)) % 3 == 1)[:, None]
    copies = answer_copies(batch, scored)
    assert repeats.any()
    assert torch.equal(copies > 0, scored & ~repeats)
    assert int(copies.sum()) == int(scored.sum())
    sections = recipe(ppo, UpdateConfig(sft_coef=0.3))
    counts = minibatch_counts(batch, sections)

    def results() -> tuple[list[torch.Tensor], dict[str, float]]:
        found = []
        moved = gradients(
            model, lambda b: (found.append(update_loss(model, None, b, counts, sections)), found[-1].loss)[1], [batch]
        )
        return moved, {name: float(value) for name, value in found[0].metrics.items()}

    once, figures = results()
    monkeypatch.setattr("mrl.rl.update.answer_copies", lambda batch, scored: scored.long())
    each, expected = results()
    assert figures == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for one, two in zip(once, each, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=2e-4)


def test_a_single_dialogue_of_a_single_turn_is_enough(model, dataset, vocabulary):
    ppo = PPOConfig(minibatch_episodes=1)
    batch = round_of(model, batch_of(dataset, turns=1, rows=1), vocabulary, ppo)
    assert update_loss(model, None, batch, minibatch_counts(batch, recipe(ppo)), recipe(ppo)).loss.isfinite()


def test_a_fresh_critic_is_told_the_mean_of_its_first_round(model, dataset, vocabulary):
    ppo = PPOConfig(gamma=0.0, normalize_advantages=False, minibatch_episodes=6)
    critic = build_critic(model.eval(), "classic").eval()
    batch = round_of(model, batch_of(dataset), vocabulary, ppo, critic)
    assert not batch.values.any(), "a fresh critic says 0 of everything"
    told = calibrate_critic(critic, batch, ppo, 8)
    mean = float(batch.rewards[batch.credited].mean())
    assert mean > 0
    assert told.values[told.credited].tolist() == pytest.approx([mean] * int(told.credited.sum()))
    assert not told.values[~told.credited].any()
    torch.testing.assert_close(told.advantages, (told.rewards - told.values) * told.credited)
    said = predict_values(critic, told, memory_of(model, told), CriticConfig(), looks_ahead=False)
    torch.testing.assert_close(said, told.values)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bptt_steps": 0}, "bptt_steps"),
        ({"micro_batch_turns": 0}, "micro_batch_turns"),
        ({"sft_coef": -1.0}, "sft_coef"),
        ({"sft_other_fraction": 2.0}, "sft_other_fraction"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UpdateConfig(**wrong)
