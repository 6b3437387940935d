"""The one place where the gradient through memory is cut."""

import numpy as np
import pytest
import torch

from mrl.dialogues.collation import collate_episodes
from mrl.losses.answer_lm import (
    memory_states,
)
from mrl.losses.bptt import unroll


@pytest.mark.parametrize("steps", [1, 2, None])
def test_the_gradient_flows_through_as_many_writes_as_asked(model, data, steps):
    index = np.flatnonzero(data.turns == 5)[:1]
    batch = collate_episodes(data, index, None, 0)
    states = memory_states(model, batch, steps)
    last = model.decode(batch.ids[:, -1], batch.mask[:, -1], states[-1], labels=batch.labels[:, -1])
    start = model.model.initial_memory
    (gradient,) = torch.autograd.grad(last.loss, [start], allow_unused=True)
    reaches = gradient is not None and bool(gradient.abs().sum() > 0)
    assert reaches == (steps is None), "the first write is four before the answer"


@pytest.mark.parametrize("bptt_steps", [None, 1, 2])
def test_saving_memory_gives_the_same_states_and_gradients(model, data, bptt_steps):
    batch = collate_episodes(data, np.arange(6), None, 7)
    gradients = []
    for save_memory in (False, True):
        model.zero_grad()
        start = model.initial_state(seeds=batch.seeds.tolist())
        history = unroll(model.eval(), start, batch.ids, batch.mask, bptt_steps, save_memory)
        history[-1].slots.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 5
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
