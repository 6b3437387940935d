"""Any value at any option of TRL's classes gives their object or one short line: no traceback, nothing out of range."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from trl import DPOConfig, SFTConfig

from pipeline.errors import InputError
from pipeline.run import Run
from pipeline.stage_config import TrainingStageConfig
from post_training.arguments import modernise_dpo, training_arguments

ODD = [None, True, 0, -1, 10**18, -0.5, 7.5, 1e300, float("nan"), float("inf"), "", " ", "x", [], [""], {}, {"x": None}]
BOTH = {f.name for f in dataclasses.fields(SFTConfig)} & {f.name for f in dataclasses.fields(DPOConfig)}
OPTIONS = [(SFTConfig, f.name) for f in dataclasses.fields(SFTConfig) if f.init]
OPTIONS += [(DPOConfig, f.name) for f in dataclasses.fields(DPOConfig) if f.init and f.name not in BOTH]


def build(cls: type, section: dict[str, Any], folder: Path) -> Any:
    """What the script makes of a `trainer` section."""
    config = TrainingStageConfig(output_dir=folder)
    run = Run(config, stage=cls.__name__[:3].lower(), output_dir=folder, seed=1)
    section = modernise_dpo(section, None)[0] if cls is DPOConfig else section
    return training_arguments(cls, section, run, evaluates=True)


@pytest.mark.parametrize(("cls", "name"), OPTIONS, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_value_is_taken_or_refused_in_one_line(cls, name, tmp_path):
    for value in ODD:
        try:
            build(cls, {name: value}, tmp_path)
        except InputError as error:
            assert len(str(error)) < 500
            assert str(error).startswith("trainer")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1e300), ("learning_rate", 0), ("weight_decay", -1), ("max_steps", 0), ("max_steps", -7),
        ("gradient_accumulation_steps", -1), ("max_length", -5), ("label_smoothing_factor", 7), ("adam_beta1", 1),
        ("per_device_train_batch_size", 0), ("lr_scheduler_kwargs", {"min_lr_rate": 5}), ("report_to", "wandbb"),
        ("loss_type", "nlll"), ("log_level", "loud"), ("train_sampling_strategy", "x"), ("data_seed", -1),
        ("pad_to_multiple_of", 0), ("ddp_timeout", -1), ("router_aux_loss_coef", -1), ("lr_scheduler_kwargs", "x"),
        ("accelerator_config", "x"), ("logging_steps", 0), ("logging_steps", float("inf")), ("torch_compile_mode", "x"),
    ],
)  # fmt: skip
def test_what_was_taken_once_is_refused_by_key(name, value, tmp_path):
    with pytest.raises(InputError, match=rf"^trainer\.{name}"):
        build(SFTConfig, {name: value}, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", -1), ("beta", 0), ("loss_type", ["sigmoidd"]), ("ld_alpha", 2), ("discopop_tau", 0),
     ("label_smoothing", 1), ("loss_weights", [-1.0])],
)  # fmt: skip
def test_what_dpo_took_once_is_refused_by_key(name, value, tmp_path):
    with pytest.raises(InputError, match=rf"^trainer\.{name}"):
        build(DPOConfig, {name: value}, tmp_path)
