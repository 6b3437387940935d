"""Every option of TRL is honoured or refused by name; a new release can't add one that is ignored."""

import dataclasses
import re
from pathlib import Path

import pytest
from trl import DPOConfig, GRPOConfig, SFTConfig

from pipeline.errors import InputError
from pipeline.run import Run
from post_training.arguments import EarlyStoppingConfig, training_arguments
from post_training.trl_options import (
    DPO_LOSSES,
    GRPO_LOSSES,
    HONOURED,
    HONOURED_BY,
    LIMITS,
    REFUSED,
    REFUSED_BY,
    SFT_LOSSES,
)

CLASSES = {"sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig}


def build(stage: str, tmp_path, evaluates: bool = False, early_stopping=None, **section):
    run = Run(None, stage=stage, output_dir=tmp_path, seed=1)
    return training_arguments(CLASSES[stage], section, run, evaluates=evaluates, early_stopping=early_stopping)


@pytest.mark.parametrize("stage", CLASSES)
def test_every_option_stands_in_exactly_one_list(stage):
    fields = {field.name for field in dataclasses.fields(CLASSES[stage]) if field.init}
    honoured, refused = HONOURED | HONOURED_BY[stage], {*REFUSED, *REFUSED_BY[stage]}
    assert honoured & refused == set()
    assert honoured | refused == fields
    assert set(LIMITS) <= honoured | HONOURED_BY["sft"] | HONOURED_BY["dpo"] | HONOURED_BY["grpo"]


def test_the_losses_are_those_that_trl_knows():
    from trl.trainer import dpo_trainer, grpo_trainer

    source = Path(dpo_trainer.__file__).read_text()
    assert all(f'loss_type == "{loss}"' in source for loss in DPO_LOSSES)
    assert source.count('if loss_type == "') == len(DPO_LOSSES)
    assert set(SFT_LOSSES) == {"nll", "dft", "chunked_nll"}
    source = Path(grpo_trainer.__file__).read_text()
    asked = re.findall(r'self\.loss_type (?:==|in) (?:\[([^]]*)\]|("\w+"))', source)
    assert {name for pair in asked for name in re.findall(r'"(\w+)"', "".join(pair))} == set(GRPO_LOSSES)


@pytest.mark.parametrize(
    ("stage", "name"), [(s, n) for s in CLASSES for n in [*REFUSED, *REFUSED_BY[s]]], ids=lambda v: str(v)
)
def test_an_option_without_effect_is_refused_by_name_with_its_replacement(stage, name, tmp_path):
    defaults = {f.name: f.default for f in dataclasses.fields(CLASSES[stage])}
    value = defaults[name]
    if not isinstance(value, bool | int | str | None):
        value = []
    with pytest.raises(InputError, match=rf"^trainer\.{name}"):
        build(stage, tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("stage", "section", "said"),
    [
        ("sft", {"max_steps": 0}, "trainer.max_steps"),
        ("sft", {"max_steps": -7}, "trainer.max_steps"),
        ("sft", {"gradient_accumulation_steps": -1}, "trainer.gradient_accumulation_steps"),
        ("sft", {"max_length": -5}, "trainer.max_length"),
        ("sft", {"weight_decay": -1.0}, "trainer.weight_decay"),
        ("sft", {"weight_decay": float("nan")}, "trainer.weight_decay"),
        ("sft", {"learning_rate": float("inf")}, "trainer.learning_rate"),
        ("sft", {"learning_rate": 1e300}, "trainer.learning_rate"),
        ("sft", {"label_smoothing_factor": 7.0}, "trainer.label_smoothing_factor"),
        ("sft", {"lr_scheduler_kwargs": {"min_lr_rate": 5}}, "min_lr_rate"),
        ("sft", {"label_smoothing_factor": 0.1, "loss_type": "dft"}, "label_smoothing_factor"),
        ("sft", {"loss_type": "nlll"}, "trainer.loss_type"),
        ("sft", {"packing_strategy": "bfd_split"}, "trainer.packing_strategy"),
        ("sft", {"eval_packing": True}, "trainer.eval_packing"),
        ("sft", {"hub_strategy": "all_checkpoints"}, "trainer.hub_strategy"),
        ("sft", {"eval_strategy": "steps"}, "dataset.held_out"),
        ("sft", {"load_best_model_at_end": True}, "dataset.held_out"),
        ("sft", {"optim_args": "x", "optim": "nonsense"}, "trainer.optim"),
        ("sft", {"use_liger_kernel": True}, "trainer.use_liger_kernel: the package liger-kernel"),
        ("dpo", {"beta": -1.0}, "trainer.beta"),
        ("dpo", {"beta": 0.0}, "trainer.beta"),
        ("dpo", {"loss_type": ["apo_zer"]}, "trainer.loss_type"),
        ("dpo", {"loss_weights": [1.0, 2.0]}, "trainer.loss_weights"),
        ("dpo", {"sync_ref_model": True}, "precompute_ref_log_probs"),
        ("dpo", {"ref_model_sync_steps": 5}, "sync_ref_model"),
        ("dpo", {"f_divergence_type": "kl"}, "trainer.f_divergence_type"),
    ],
)
def test_values_that_would_train_something_else_are_refused(stage, section, said, tmp_path):
    with pytest.raises(InputError, match=said):
        build(stage, tmp_path, **section)


def test_a_token_goes_where_the_hub_looks_and_stays_out_of_the_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    args = build("sft", tmp_path, hub_token="hf_" + "s" * 20)
    assert args.hub_token is None
    from huggingface_hub import get_token

    assert get_token() == "hf_" + "s" * 20


def test_early_stopping_needs_evaluations_and_brings_what_it_needs(tmp_path):
    config = EarlyStoppingConfig(patience=2)
    with pytest.raises(InputError, match="early_stopping"):
        build("sft", tmp_path, early_stopping=config)
    args = build("sft", tmp_path, evaluates=True, early_stopping=config, eval_strategy="steps", eval_steps=3)
    assert (args.save_strategy, args.save_steps, args.load_best_model_at_end) == ("steps", 3, True)
    assert args.restore_callback_states_from_checkpoint
