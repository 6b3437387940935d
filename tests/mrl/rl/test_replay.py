"""Playing recorded dialogues again: what was sampled is what is scored, and credit reaches the first write."""

from dataclasses import replace

import pytest
import torch

from mrl.model import ReactiveConfig, ReactiveForCausalLM
from mrl.rl.replay import log_probs_again, replay
from mrl.rl.rollout import generate_rollouts
from tests.mrl.rl.toy import OPTIONS, batch_of


@pytest.mark.parametrize(
    ("group", "temperature", "copy_window"), [(1, 1.0, 0), (3, 1.0, 0), (1, 0.7, 0), (3, 0.7, 0), (3, 0.7, 3)]
)
def test_the_first_replay_gives_the_probabilities_that_were_sampled_from(
    model, dataset, group, temperature, copy_window
):
    options = replace(OPTIONS, temperature=temperature, top_k=9)
    if copy_window:
        model = ReactiveForCausalLM(type(model.config)(**model.config.to_dict() | {"copy_window": copy_window}))
    played = generate_rollouts(model.eval(), batch_of(dataset), options, group=group, keep_history=True)
    rollout = played.rollout
    again = replay(model, rollout, options.sampling())
    ratio = (again.log_probs - rollout.log_probs[again.scored]).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)
    assert len(ratio) == int(rollout.sampled.sum()) > 20
    torch.testing.assert_close(again.history.slots, played.history.slots, atol=1e-5, rtol=1e-5)
    whole = log_probs_again(model, rollout, options.sampling(), at_once=2)
    torch.testing.assert_close(whole, rollout.log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("bptt_steps", "reaches"), [(None, True), (3, True), (1, False)])
@pytest.mark.parametrize("save_memory", [False, True])
def test_credit_reaches_the_write_that_stored_the_fact(model, dataset, bptt_steps, reaches, save_memory):
    rollout = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS).rollout
    model.config.gate = "linear"
    last = torch.zeros_like(rollout.turns)
    last[:, -1] = True
    again = replay(model, rollout, OPTIONS.sampling(), wanted=last, bptt_steps=bptt_steps, save_memory=save_memory)
    again.log_probs.sum().backward()
    # The learned initial memory lies before the first write: a gradient there has come through all three.
    reached = model.model.initial_memory.grad is not None and bool(model.model.initial_memory.grad.abs().sum() > 0)
    assert reached == reaches


def test_saving_memory_changes_nothing_but_memory(model, dataset):
    rollout = generate_rollouts(model.eval(), batch_of(dataset), OPTIONS).rollout
    gradients = []
    for save_memory in (False, True):
        model.zero_grad()
        replay(model, rollout, OPTIONS.sampling(), save_memory=save_memory).log_probs.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_replays_ignore_dropout(dataset):
    torch.manual_seed(1)
    config = ReactiveConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48, memory_slots=4,
        max_interaction_length=24, dropout=0.5,
    )  # fmt: skip
    model = ReactiveForCausalLM(config).eval()
    rollout = generate_rollouts(model, batch_of(dataset), OPTIONS).rollout
    again = replay(model, rollout, OPTIONS.sampling())
    torch.testing.assert_close(again.log_probs, rollout.log_probs[again.scored], atol=1e-5, rtol=0)
