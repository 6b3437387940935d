"""Every YAML of every room is read by the class that will read it, and none is overlooked."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.config import load_config, load_yaml

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("data", "post_training", "mrl", "evaluation")


@dataclass(frozen=True)
class Kind:
    """Files matching `pattern` (below the repository) are read by `load`; at least `at_least` of them exist."""

    pattern: str
    load: Callable[[Path], object]
    at_least: int


def stage(module: str, name: str, path: Path) -> object:
    """Load into the configuration dataclass `name` of the script `module`."""
    return load_config(getattr(import_module(module), name), path)


def sft(path: Path) -> object:
    """Load an SFT recipe, and its trainer section into TRL's own SFTConfig."""
    return trl_arguments("sft", path)


def dpo(path: Path) -> object:
    """Load a DPO recipe, and its trainer section into TRL's own DPOConfig."""
    return trl_arguments("dpo", path)


def grpo(path: Path) -> object:
    """Load a GRPO recipe, and its trainer section into TRL's own GRPOConfig."""
    return trl_arguments("grpo", path)


def trl_arguments(script: str, path: Path) -> object:
    """What the script itself does with the trainer section, up to the real TRL object."""
    import trl

    from pipeline.run import Run
    from post_training.arguments import modernise_dpo, training_arguments

    module = import_module(f"post_training.{script}")
    config = load_config(getattr(module, f"{script.upper()}Stage"), path)
    section = modernise_dpo(config.trainer, None)[0] if script == "dpo" else config.trainer
    run = Run(config, stage=script, output_dir=config.output_dir, seed=config.seed)
    evaluates = script != "grpo" and config.dataset.held_out is not None
    made = training_arguments(getattr(trl, f"{script.upper()}Config"), section, run, evaluates=evaluates)
    assert made.output_dir == str(config.output_dir)
    return made


def mrl_stages(path: Path) -> object:
    """Load an MRL recipe, and what its overrides make of it at every stage."""
    from mrl.rl.curriculum import turn_counts
    from mrl.train import MRLStage

    config = load_config(MRLStage, path)
    return [config.at(turns) for turns in turn_counts(config.curriculum)]


def accelerate_file(path: Path) -> object:
    """Load with accelerate's own reader, which refuses unknown keys."""
    from accelerate.commands.config.config_args import load_config_from_file

    return load_config_from_file(str(path))


KINDS = [
    Kind("data/config/**/stage_*.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 9),
    Kind("data/config/**/held_out.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 1),
    Kind("data/config/**/memory_*episodes.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 2),
    Kind("data/config/**/memory_[cd]*s.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 2),
    Kind("data/config/**/preference*s.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 1),
    Kind("data/config/**/puzzle_*s.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 2),
    Kind("data/config/**/both_ways.yaml", partial(stage, "data.blending.blend", "BlendConfig"), 1),
    Kind("data/config/**/*tokenizer.yaml", partial(stage, "data.tokenizer", "TokenizerConfig"), 2),
    Kind("post_training/config/**/*model.yaml", partial(stage, "post_training.initialise", "InitialiseConfig"), 6),
    Kind("post_training/config/**/*stage_[12].yaml", sft, 11),
    Kind("post_training/config/**/*_chats.yaml", sft, 2),
    Kind("post_training/config/**/*_ordered.yaml", sft, 1),
    Kind("post_training/config/**/both_ways.yaml", sft, 1),
    Kind("post_training/config/**/pretrain.yaml", sft, 1),
    Kind("post_training/config/**/stage_3.yaml", dpo, 5),
    Kind("post_training/config/**/grpo.yaml", grpo, 3),
    Kind("mrl/config/**/pretrain.yaml", partial(stage, "mrl.pretrain", "PretrainStage"), 1),
    Kind("mrl/config/**/interaction_sft.yaml", partial(stage, "mrl.pretrain", "PretrainStage"), 1),
    Kind("mrl/config/**/memory_pretrain.yaml", partial(stage, "mrl.memory_pretrain", "MemoryPretrainStage"), 1),
    Kind("mrl/config/**/*memory_sft*.yaml", partial(stage, "mrl.memory_sft", "MemorySFTStage"), 1),
    Kind("mrl/config/**/convert.yaml", partial(stage, "mrl.convert", "ConvertStage"), 1),
    Kind("mrl/config/**/dpo*.yaml", partial(stage, "mrl.dpo", "DPOStage"), 1),
    Kind("mrl/config/**/reward_model*.yaml", partial(stage, "mrl.reward_model", "RewardModelStage"), 1),
    Kind("mrl/config/**/mrl*.yaml", mrl_stages, 1),
    Kind("mrl/config/quickstart/[rc][lo][hm][fb]*.yaml", mrl_stages, 2),
    Kind("evaluation/config/smollm2.yaml", partial(stage, "evaluation.benchmark_config", "BenchmarksConfig"), 1),
    Kind("evaluation/config/study.yaml", partial(stage, "evaluation.study.config", "StudyConfig"), 1),
    Kind("*/config/accelerate/*.yaml", accelerate_file, 3),
]
"""A new kind of YAML gets its row here."""


def recipes() -> list[Path]:
    """Every YAML in a room's config folder."""
    return sorted(p for room in ROOMS for p in (ROOT / room).glob("config/**/*.y*ml"))


@pytest.mark.parametrize("path", recipes(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_recipe_loads_into_the_class_that_reads_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kinds = [kind for kind in KINDS if path in ROOT.glob(kind.pattern)]
    assert len(kinds) == 1, f"{path} is read by {len(kinds)} rows of KINDS; give it exactly one"
    load_yaml(path)
    with caplog.at_level(logging.WARNING):
        kinds[0].load(path)
    assert not [r.getMessage() for r in caplog.records if "is now" in r.getMessage()], "a recipe uses an old key"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.pattern)
def test_no_recipe_is_lost(kind: Kind) -> None:
    assert len(list(ROOT.glob(kind.pattern))) >= kind.at_least


def test_the_published_recipes_are_the_published_ones() -> None:
    first, second, third = (load_yaml(ROOT / f"post_training/config/stage_{n}.yaml") for n in (1, 2, 3))
    one, two, three = first["trainer"], second["trainer"], third["trainer"]
    assert first["model"]["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert [c["dataset"]["name"] for c in (first, second, third)] == [
        "Shekswess/trlm-sft-stage-1-final-2",
        "Shekswess/trlm-sft-stage-2-final-2",
        "Shekswess/trlm-dpo-stage-3-final-2",
    ]
    assert (one["num_train_epochs"], one["per_device_train_batch_size"], one["gradient_accumulation_steps"]) == (
        3,
        32,
        4,
    )
    assert (one["learning_rate"], one["lr_scheduler_type"], one["warmup_steps"]) == (3e-4, "cosine", 0.1)
    assert (one["weight_decay"], one["max_grad_norm"], one["loss_type"]) == (0.01, 1.0, "dft")
    assert (one["neftune_noise_alpha"], one["max_length"], one["save_steps"]) == (0.01, 4096, 1500)
    assert one["activation_checkpointing"] is True
    assert (two["num_train_epochs"], two["weight_decay"], two["neftune_noise_alpha"], two["save_steps"]) == (
        1,
        0.02,
        0.02,
        300,
    )
    assert second["model"]["special_tokens"] == ["<think>", "</think>"]
    assert (three["num_train_epochs"], three["learning_rate"], three["lr_scheduler_type"]) == (
        1,
        1e-5,
        "cosine_with_min_lr",
    )
    assert three["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}
    assert (three["beta"], three["loss_type"], three["max_grad_norm"]) == (0.1, "apo_zero", 0.2)
    assert (three["max_length"], third["dataset"]["max_prompt_length"], three["save_steps"]) == (2048, 1048, 180)
    assert all(t["dataloader_persistent_workers"] is True for t in (one, two, three))
    assert [str(c["output_dir"]) for c in (first, second, third)] == [
        "outputs/stage_1", "outputs/stage_2", "outputs/stage_3_final",
    ]  # fmt: skip
    assert all(t["push_to_hub"] and t["hub_strategy"] == "every_save" and t["hub_model_id"] for t in (one, two, three))
    assert "Tiny Reasoning Language Model" in first["chat_template"]
    assert "<think>" not in first["chat_template"]
    assert all("<think>...</think>" in c["chat_template"] for c in (second, third))
