"""Rates rise, stay and fall; parts wait for their step."""

import pytest

from mrl.training.optimizer import Optimizer, OptimizerConfig


def test_the_learning_rate_rises_stays_and_falls():
    config = OptimizerConfig(warmup_steps=10, schedule="linear", decay_share=0.5, final_share=0.1)
    factors = [config.factor(step, step / 100, 100) for step in (0, 9, 49, 75, 100)]
    assert factors == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1])
    assert OptimizerConfig(warmup_steps=0.1).factor(4, 0.04, 100) == pytest.approx(0.5, abs=0.01)


def test_every_parameter_is_in_one_group_and_frozen_parts_do_not_move(model):
    config = OptimizerConfig(lr_multipliers={"encoder": 0.0}, unfreeze={"memory_attention": 2}, warmup_steps=0)
    optimiser = Optimizer(model, config)
    assert sorted(map(id, optimiser.parameters)) == sorted(map(id, model.parameters()))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for step in range(3):
        optimiser.prepare(step, 0.0, 10)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = parameter.detach() + 1
        optimiser.step()
        moved = {n for n, p in model.named_parameters() if not p.equal(before[n])}
        assert not any("encoder" in n for n in moved)
        assert any("memory_attention" in n for n in moved) == (step == 2)
        assert "model.embedding.weight" in moved


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match="lr_multipliers names encodr; the parts are embedding"):
        OptimizerConfig(lr_multipliers={"encodr": 1.0})
