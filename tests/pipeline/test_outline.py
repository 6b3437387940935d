"""The outline of a class is what importing it would give, as far as its source writes it out."""

import dataclasses
import typing

import pytest
import trl
from transformers import TrainingArguments

from mrl.model import ReactiveConfig
from pipeline.arguments import check_arguments
from pipeline.errors import InputError
from pipeline.outline import outline

PARENTS = ("trl.trainer.base_config:_BaseConfig", "transformers.training_args:TrainingArguments")


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_an_outline_has_the_fields_of_the_class_and_types_that_are_its_own_or_any(stage):
    real = getattr(trl, f"{stage.upper()}Config")
    assert issubclass(real, TrainingArguments)
    drawn = outline(f"trl.trainer.{stage}_config:{real.__name__}", *PARENTS)
    assert drawn.__name__ == real.__name__
    assert {f.name for f in dataclasses.fields(drawn)} == {f.name for f in dataclasses.fields(real) if f.init}
    there, here = typing.get_type_hints(real), typing.get_type_hints(drawn)
    differing = {name for name in here if here[name] != there[name]}
    assert all("Any" in str(here[name]) for name in differing)
    assert len(differing) < 10


def test_a_value_is_refused_by_an_outline_as_by_the_class():
    drawn = outline("trl.trainer.dpo_config:DPOConfig", *PARENTS)
    for wrong in ({"max_steps": "many"}, {"beta_": 0.1}, {"truncation_mode": "keep_middle"}):
        with pytest.raises(InputError) as quick:
            check_arguments(drawn, wrong, "trainer")
        with pytest.raises(InputError) as thorough:
            check_arguments(trl.DPOConfig, wrong, "trainer")
        assert str(quick.value) == str(thorough.value)
    assert check_arguments(drawn, {"lr_scheduler_type": "cosine", "bf16": True}, "trainer")["bf16"] is True


def test_fields_can_be_left_out():
    drawn = outline("mrl.model.configuration_reactive:ReactiveConfig", leave_out=frozenset({"use_cache"}))
    assert {f.name for f in dataclasses.fields(drawn)} == set(vars(ReactiveConfig)["__annotations__"]) - {
        "model_type",
        "use_cache",
    }
