"""The critic that reads how sure the actor is before the first word of an answer."""

from dataclasses import replace

import pytest
import torch

from mrl.rl.algorithms import PPOConfig
from mrl.rl.algorithms.advantages import explained_variance
from mrl.rl.critic import CriticConfig, build_critic, opened, predict_values
from mrl.rl.opening_critic import SURENESS, OpeningCritic, with_openings
from mrl.rl.rewards import RewardConfig, score
from mrl.rl.rollout import generate_rollouts
from mrl.rl.update import MinibatchBuffer, calibrate_critic, credit, minibatch_counts, update_loss
from tests.mrl.rl.toy import OPTIONS, batch_of, recipe

SAMPLING = OPTIONS.sampling()


def played_round(model, dataset, vocabulary, critic, group=1):
    played = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS, group=group, keep_history=True)
    scored = score(RewardConfig(), vocabulary, played.rollout)
    looks_ahead = {"looks_ahead": True}
    return played, opened(critic, model, scored, played.history, CriticConfig(), SAMPLING, **looks_ahead)


@pytest.mark.parametrize(("group", "forced"), [(1, "answer"), (3, "answer"), (2, "auto"), (2, "think")])
def test_what_a_rollout_keeps_on_its_way_is_what_is_read_anew_afterwards(model, dataset, group, forced):
    critic, batch = OpeningCritic(model.config.hidden_size), batch_of(dataset)
    options = replace(OPTIONS, forced=forced, max_think_tokens=3)
    learnt = batch.asks
    kept = {"keep_history": True, "opening": critic.reads(SAMPLING)}
    played = generate_rollouts(model.eval(), batch, options, group=group, learnt=learnt, **kept)
    wanted = learnt.repeat_interleave(group, 0)
    anew = with_openings(model, played.rollout, played.history, wanted, SAMPLING, groups=2)
    read = critic.opened(model, played.rollout, played.history, wanted, SAMPLING, groups=2)
    assert anew.opening[wanted].any(-1).all()
    torch.testing.assert_close(read.opening, anew.opening, atol=1e-4, rtol=1e-4)
    assert not read.opening[~wanted].any()


@torch.no_grad()
def test_an_opening_is_what_the_actor_sees_before_its_first_word(model, dataset, vocabulary):
    played, scored = played_round(model, dataset, vocabulary, OpeningCritic(model.config.hidden_size), group=2)
    batch, wanted = scored.batch, scored.opening.any(-1)
    assert wanted.any()
    for row, turn in wanted.nonzero().tolist():
        query = batch.query_ids[row, turn][batch.query_mask[row, turn].bool()]
        ids = torch.cat([query, scored.answer_ids[row, turn, :1]])[None]  # the [A] that is forced
        out = model.decode(ids, None, played.history.after(torch.tensor([turn + 1]), torch.tensor([row // 2])))
        drawn = torch.tensor([SAMPLING.temperature])
        logits = out.logits[0, -1] / drawn
        kept = logits.sort(descending=True)
        cut = kept.values.softmax(-1).cumsum(-1) - kept.values.softmax(-1) < SAMPLING.top_p
        p = kept.values[cut].softmax(-1)
        second = float(p[1]) if len(p) > 1 else 0.0
        by_hand = torch.tensor([float(p[0].log()), float(-(p * p.log()).sum()), float((p * p).sum()), second])
        torch.testing.assert_close(scored.opening[row, turn, -SURENESS:], by_hand, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(scored.opening[row, turn, :-SURENESS], out.hidden[0, -1], atol=1e-4, rtol=1e-4)
    again = with_openings(model, scored, played.history, wanted, SAMPLING, groups=1)
    torch.testing.assert_close(again.opening, scored.opening, atol=1e-5, rtol=1e-5)


def test_a_warm_up_learns_the_first_round_alike_each_time_and_survives_being_saved():
    openings = torch.randn(600, 8 + SURENESS, generator=torch.Generator().manual_seed(1))
    returns = (openings[:, -1] > 0).float()
    critics = [OpeningCritic(8), OpeningCritic(8)]
    for critic in critics:
        critic.warm_up(openings[:400], returns[:400], epochs=60)
    first, second = (critic(openings[400:]) for critic in critics)
    assert torch.equal(first, second)
    held_out = torch.ones(1, 200, dtype=torch.bool)
    assert explained_variance(first[None].detach(), returns[None, 400:], held_out) > 0.5
    fresh = OpeningCritic(8)
    assert not fresh(openings).any(), "a fresh critic says 0 of everything"
    fresh.warm_up(openings, returns, epochs=0)
    torch.testing.assert_close(fresh(openings), returns.mean().expand(600))
    fresh.load_state_dict(critics[0].state_dict())
    assert torch.equal(fresh(openings[400:]), first)


def test_it_is_told_of_the_first_round_and_learns_beside_the_policy_without_moving_it(model, dataset, vocabulary):
    ppo = PPOConfig(gamma=0.0, normalize_advantages=False, minibatch_episodes=6)
    critic = build_critic(model, "memory")
    played, scored = played_round(model, dataset, vocabulary, critic)
    values = predict_values(critic, scored, played.history, CriticConfig(), looks_ahead=False)
    batch = credit(scored, values, ppo)
    assert not batch.values.any()
    told = calibrate_critic(critic, batch, ppo, 8)
    said = predict_values(critic, told, played.history, CriticConfig(), looks_ahead=False)
    torch.testing.assert_close(said, told.values)
    assert told.values[told.credited].std() > 0, "turns aren't worth the same to it"
    torch.testing.assert_close(told.advantages, (told.rewards - told.values) * told.credited)
    kept, resumed = MinibatchBuffer(), MinibatchBuffer()
    kept.fill(told, ppo, torch.Generator().manual_seed(0))
    resumed.load_state_dict(kept.state_dict())
    assert torch.equal(resumed.next().opening, kept.next().opening), "a checkpoint holds what is read"
    moved = {name: p.clone() for name, p in model.named_parameters()}
    output = update_loss(model, critic, told, minibatch_counts(told, recipe(ppo)), recipe(ppo))
    by_hand = 0.5 * (told.values - told.returns)[told.credited].square().mean()
    torch.testing.assert_close(output.metrics["value_loss"], by_hand)
    critic(told.opening[told.credited]).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, moved[name]) for name, p in model.named_parameters())
    assert critic.out.weight.grad is not None


def test_a_rollout_without_openings_and_a_warm_up_without_effect_are_refused(model, dataset, vocabulary):
    critic = OpeningCritic(model.config.hidden_size)
    played = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS, keep_history=True)
    scored = score(RewardConfig(), vocabulary, played.rollout)
    with pytest.raises(ValueError, match="needs a rollout that has them"):
        predict_values(critic, scored, played.history, CriticConfig(), looks_ahead=False)
    with pytest.raises(ValueError, match="only a critic of kind memory"):
        CriticConfig(kind="classic", warmup_epochs=3)
