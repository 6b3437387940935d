"""The recipes of all stages as YAML files, which a person may edit and run again one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mrl.own_dialogues.plan import Sizes
from mrl.own_dialogues.start import Start

TOKENIZER = "tokenizer"
COPY_WINDOW = 12
"""Tokens that a slot keeps as they were read, a name and what is said of it: words never seen are copied from it."""
SCALED = ("max_steps", "eval_every", "save_every")
"""Numbers of a trainer that follow how long is trained."""
FRAME_TOKENS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]", "mask_token": "[MASK]",
    "additional": ["[Q]", "[A]", "[T]"],
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A stage: the folder it makes, its script, its recipe."""

    name: str
    script: str
    recipe: Mapping[str, Any]
    notes: Sequence[str] = ()
    """What a person who edits it should know, a line each."""


@dataclass(frozen=True)
class Rows:
    """What is learnt from."""

    files: Sequence[str]
    """In the folder data."""
    untold: str = ""
    """What copies answer where nothing was told, for a person; "" where there are no such copies."""


def tokenizer_stage(folder: Path, files: Sequence[str], vocabulary: int, seed: int) -> Stage:
    """The tokenizer's stage, of files in the folder data."""
    recipe = {
        "output_dir": str(folder / TOKENIZER),
        "seed": seed,
        "datasets": [str(folder / "data" / name) for name in files],
        "vocab_size": vocabulary,
        "space_before_text": True,
        "special_tokens": FRAME_TOKENS,
    }
    return Stage(TOKENIZER, "data/tokenizer.py", recipe)


def training_stages(
    folder: Path, rows: Rows, sizes: Sizes, start: Start | None, effort: float, seed: int
) -> list[Stage]:
    """The training stages in their order, from fresh weights or from a model. effort: factor on all steps."""
    scripts = {
        "pretrain": "pretrain", "interaction_sft": "pretrain", "memory_pretrain": "memory_pretrain",
        "memory_sft": "memory_sft", "mrl": "train",
    }  # fmt: skip
    before: dict[str, Any] = {"tokenizer": str(folder / TOKENIZER), "new": _new(sizes)}
    if start is not None:
        # Of a converted model there is nothing to pre-train: it speaks, and its slots hold states of its own layers.
        for name in ("pretrain", "interaction_sft", "memory_pretrain") if start.converted else ("pretrain",):
            scripts.pop(name)
        before = {"path": start.path}
    notes = [f"Asked for what was never told, untold.jsonl answers {rows.untold}."] if rows.untold else []
    stages = []
    for name, script in scripts.items():
        own = _own_sections(name, sizes)
        if start is not None and start.converted:
            own = _gentle(own)
        trainer = own.pop("trainer")
        scaled = {key: max(2, round(effort * trainer[key])) for key in SCALED if key in trainer}
        recipe = {
            "output_dir": str(folder / name),
            "seed": seed,
            "model": before,
            "data": {
                "folder": str(folder / "data"),
                "train": [{"path": file} for file in rows.files],
                "held_out": [{"path": "validation.jsonl"}],
            },
            **own,
            "trainer": {"precision": "fp32", "log_every": 20, **trainer, **scaled},
        }
        stages.append(Stage(name, f"mrl/{script}.py", recipe, notes))
        before = {"path": str(folder / name)}
    return stages


def _gentle(own: dict[str, Any]) -> dict[str, Any]:
    """The sections of a stage for a converted model: its own weights stay, as in mrl/config/smollm2/memory_sft.yaml,
    and a batch is as large as there."""
    frozen = {**own["optimizer"].get("lr_multipliers", {}), "decoder": 0, "embedding": 0}
    small = {"batch_size": 8} if "batch_size" in own["trainer"] else {}
    return {
        **own,
        "optimizer": {**own["optimizer"], "lr_multipliers": frozen},
        "trainer": {**own["trainer"], **small},
    }


def _new(sizes: Sizes) -> dict[str, Any]:
    return {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
        "max_interaction_length": sizes.interaction_limit, "memory_slots": sizes.slots, "memory_variant": "simple",
        "gate": "content", "gate_init": 0.0, "initial_weights": "mimetic", "initial_state": "learned",
        "initial_state_std": 0.5, "tie_word_embeddings": True, "copy_window": COPY_WINDOW,
    }  # fmt: skip


def _own_sections(name: str, sizes: Sizes) -> dict[str, Any]:
    """What a stage has of its own."""
    if name == "mrl":
        return _mrl(sizes)
    return {
        "pretrain": {
            "objective": {"noise": 0.05, "hidden_share": 0.1},
            "optimizer": {"learning_rate": 1.0e-3, "warmup_steps": 20},
            "trainer": {"max_steps": 180, "batch_size": 128, "eval_every": 180},
        },
        "interaction_sft": {
            "objective": {"scored": "answer", "noise": 0.05, "hidden_share": 0.1},
            "optimizer": {"learning_rate": 5.0e-4, "warmup_steps": 10},
            "trainer": {"max_steps": 90, "batch_size": 128, "eval_every": 90},
        },
        "memory_pretrain": {
            "optimizer": {"learning_rate": 5.0e-4, "warmup_steps": 10},
            "max_turns": 5,
            "trainer": {"max_steps": 30, "batch_size": 64, "eval_every": 30},
        },
        "memory_sft": {
            "objective": {"bptt_steps": None, "other_turns": 1.0, "other_share": 0.25},
            "curriculum": {
                "start": 4, "threshold": 0.75, "min_steps": 20, "max_steps": 250, "replay_fraction": 0.2,
                "max_batch_turns": 400,
            },
            "optimizer": {"learning_rate": 1.0e-3, "warmup_steps": 50, "schedule": "linear", "decay_share": 0.7},
            "trainer": {"max_steps": 900, "batch_size": 64, "eval_every": 450, "save_every": 150},
            "held_out_dialogues": 150,
        },
    }[name]  # fmt: skip


def _mrl(sizes: Sizes) -> dict[str, Any]:
    return {
        "curriculum": {
            "turns": list(sizes.mrl_turns), "epochs": 1, "promote_at": None, "replay_fraction": 0.2,
            "strategies": [{"kind": "cumulative"}],
        },
        "rollout": {"episodes": 128, "max_new_tokens": sizes.answer_limit},
        "rewards": {"weights": {"facts": 1.0}},
        "ppo": {
            "gamma": 0.0, "keep_fraction": 0.5, "update_epochs": 1, "minibatch_episodes": 16, "entropy_coef": 0.0,
            "normalize_advantages": False, "value_clip": None, "target_kl": 0.2,
        },
        "update": {"min_abs_advantage": 0.05, "sft_coef": 2.0, "sft_turns": "all", "sft_other_fraction": 0.2},
        "critic": {"turn_share": 0.25},
        "optimizer": {
            "learning_rate": 2.5e-4, "warmup_steps": 10, "schedule": "linear", "decay_share": 0.7,
            "lr_multipliers": {"critic": 4.0},
        },
        "trainer": {"max_steps": 72, "restore_best": False, "log_every": 16, "save_every": 72},
        "rounds_per_epoch": 8,
        "held_out_dialogues": 128,
    }  # fmt: skip


def as_yaml(stage: Stage) -> str:
    """A recipe as it is written: with the command that runs it, and what is to be known of it."""
    head = [f"uv run {stage.script} --config-path recipes/{stage.name}.yaml", *stage.notes]
    lines = "".join(f"# {line}\n" for line in head)
    return lines + yaml.safe_dump(dict(stage.recipe), sort_keys=False, width=120, allow_unicode=True)
