"""The first losses of each stage at tiny sizes, as they were recorded: a change that wasn't meant to move them fails.

Whoever means to move them (another draw of random numbers, another loss) records them again with
`RECORD=1 uv run pytest -s tests/mrl/training/test_loss_curves.py` and says so in the commit.
"""

import importlib
import json
import os
from pathlib import Path

import pytest

from mrl import memory_pretrain, memory_sft, pretrain, train
from pipeline.config import parse_config
from tests.mrl.in_process import run_here

RECORDED = Path(__file__).parent / "loss_curves.json"
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 4, "max_interaction_length": 24,
    "initial_state": "learned", "initial_state_std": 0.5, "dropout": 0.1,
}  # fmt: skip
TRAINER = {"max_steps": 5, "batch_size": 16, "eval_every": 5, "save_every": 50, "log_every": 1, "precision": "fp32"}
STAGES = {
    "pretrain": (pretrain.PretrainStage, {"objective": {"noise": 0.1, "hidden_share": 0.2}}),
    "memory_pretrain": (memory_pretrain.MemoryPretrainStage, {"objective": {"noise": 0.1, "jitter": 0.1}}),
    "memory_sft": (memory_sft.MemorySFTStage, {"curriculum": {"max_steps": 2}, "objective": {"other_share": 0.5}}),
    "train": (
        train.MRLStage,
        {
            "trainer": {"max_steps": 2, "log_every": 1, "precision": "fp32"},
            "curriculum": {"turns": [3]},
            "rollout": {"episodes": 8, "max_new_tokens": 5},
            "ppo": {"minibatch_episodes": 4, "kl_coef": 0.01},
            "rounds_per_epoch": 2,
            "held_out_dialogues": 6,
        },
    ),
}  # fmt: skip
WATCHED = (
    "loss", "gradient_norm", "rollout_reward", "value_loss", "eval_reward", "eval_recall", "eval_answer_loss",
    "eval_ar_loss", "eval_mlm_loss", "eval_cosine_gap",
)  # fmt: skip


def curve(stage: str, episodes: Path, tokenizer, folder: Path) -> list[dict[str, float]]:
    """What metrics.jsonl of a short run says, line by line."""
    cls, changes = STAGES[stage]
    tokenizer.save_pretrained(folder / "tokenizer")
    config = parse_config(
        cls,
        {
            "output_dir": str(folder / "run"),
            "model": {"tokenizer": str(folder / "tokenizer"), "new": SIZES},
            "data": {name: [{"path": str(episodes), "subset": "*", "split": split}] for name, split in
                     (("train", "train"), ("held_out", "test"))},
            "trainer": TRAINER,
            "optimizer": {"warmup_steps": 0, "learning_rate": 1e-3},
        } | changes,
    )  # fmt: skip
    module = importlib.import_module(f"mrl.{stage}")
    run_here(module.main, config, stage)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    watched = [{"step": line["step"], **{name: line[name] for name in WATCHED if name in line}} for line in lines]
    return [line for line in watched if len(line) > 1]


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_losses_are_the_recorded_ones(stage, episodes, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    found = curve(stage, episodes, tokenizer, tmp_path)
    if os.environ.get("RECORD"):
        every = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        RECORDED.write_text(json.dumps({**every, stage: found}, indent=1) + "\n")
    recorded = json.loads(RECORDED.read_text())[stage]
    assert len(found) == len(recorded)
    for line, expected in zip(found, recorded, strict=True):
        # CPUs with and without AVX-512 differ in the seventh digit.
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-6)
