"""A converted model in the stages that train it: killed and taken up again, one update of each kind."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mrl import dpo, memory_pretrain, memory_sft, reward_model, train
from mrl.recipes.preference import DPOStage, RewardModelStage
from mrl.recipes.reinforcement import MRLStage
from mrl.recipes.supervised import MemoryPretrainStage, MemorySFTStage
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.mrl.conversion.toy import write_rows
from tests.mrl.in_process import run_here
from tests.mrl.killing import run_killed_after

READERS = [{}, {"memory_read": "cross", "layers": [0]}]
STAGES = {
    memory_pretrain: (MemoryPretrainStage, "memory_pretrain"),
    memory_sft: (MemorySFTStage, "memory_sft"),
    train: (MRLStage, "train"),
    dpo: (DPOStage, "dpo"),
    reward_model: (RewardModelStage, "reward_model"),
}


@pytest.fixture
def recipe(tmp_path, convert, monkeypatch):
    """Converts with settings of `memory`, writes a recipe that starts from the result with its original weights frozen,
    and returns its path."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    rows = [{"path": str(write_rows(tmp_path / "rows.jsonl"))}]

    def write(name: str, memory: dict, **changes) -> Path:
        trainer = {"max_steps": 1, "log_every": 1, "precision": "fp32", **changes.pop("trainer", {})}
        optimizer = {"learning_rate": 1e-2, "warmup_steps": 0, "lr_multipliers": {"decoder": 0, "embedding": 0}}
        start = tmp_path / "out"
        made = {
            "output_dir": str(tmp_path / name),
            "model": {"path": str(start if start.exists() else convert(**memory))},
            "data": {"train": rows, "held_out": rows}, "trainer": trainer, "optimizer": optimizer, **changes,
        }  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(made))
        return path

    return write


def run(script, path: Path) -> dict:
    """A stage in this process, to its end; its metrics.json."""
    stage, name = STAGES[script]
    config = load_config(stage, path)
    run_here(script.main, config, name)
    return json.loads((config.output_dir / "metrics.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def moved(tmp_path: Path, name: str) -> set[str]:
    """Weights that a stage has changed."""
    before, after = weights(tmp_path / "out"), weights(tmp_path / name)
    assert before.keys() == after.keys()
    return {key for key in before if not before[key].equal(after[key])}


def is_reader(name: str) -> bool:
    return any(part in name for part in ("cross_attention", "cross_norm", "memory_norm", "slot_reader"))


def first_line(folder: Path, *names: str) -> dict:
    """The first line of metrics.jsonl that has all these figures."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return next(line for line in lines if all(name in line for name in names))


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.slow
def test_memory_sft_that_is_killed_ends_where_the_unbroken_run_does(recipe, tmp_path):
    settings = {
        "trainer": {"max_steps": 10, "batch_size": 8, "save_every": 3, "eval_every": 5},
        "curriculum": {"start": None},
    }
    memory = {"memory_read": "cross"}
    figures = run(memory_sft, recipe("straight", memory, **settings))
    assert (figures["status"], figures["steps"]) == ("complete", 10)
    broken = recipe("broken", memory, **settings)
    run_killed_after(7, "memory_sft", "--config-path", str(broken))
    assert not (tmp_path / "broken" / "model").exists()
    assert run(memory_sft, broken)["first_step"] == 6
    assert losses(tmp_path / "broken") == pytest.approx(losses(tmp_path / "straight"), abs=1e-6)
    one, two = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4)
    learnt = moved(tmp_path, "straight")
    assert {f"model.decoder.{layer}.cross_attention.gate" for layer in (0, 1)} < learnt
    assert all(is_reader(name) for name in learnt), "the original weights are frozen"


@pytest.mark.parametrize("memory", READERS)
def test_an_update_of_memory_reinforcement_learning_moves_what_reads_the_memory(recipe, tmp_path, memory):
    changes = {
        "curriculum": {"turns": [1]}, "rollout": {"episodes": 8, "max_new_tokens": 9},
        "ppo": {"minibatch_episodes": 8, "kl_coef": 0.01}, "rewards": {"weights": {"bleu": 1.0}},
        "held_out_dialogues": 4,
    }  # fmt: skip
    run(train, recipe("mrl", memory, **changes))
    first = first_line(tmp_path / "mrl", "ratio", "approx_kl", "value_loss")
    assert first["ratio"] == pytest.approx(1.0, abs=1e-5), "the update finds the probabilities of the rollout"
    assert first["approx_kl"] < 1e-6
    learnt = moved(tmp_path, "mrl")
    assert {"model.decoder.0.cross_attention.gate" if memory else "model.decoder.0.slot_reader.place"} <= learnt
    assert all(is_reader(name) for name in learnt)


@pytest.mark.parametrize("memory", READERS)
def test_a_step_of_dpo_prefers_the_chosen_answers_a_little_more(recipe, tmp_path, memory):
    changes = {"preference": {"loss_type": ["sigmoid"], "beta": 0.5}, "trainer": {"batch_size": 24, "max_steps": 2}}
    run(dpo, recipe("dpo", memory, **changes))
    first = first_line(tmp_path / "dpo", "rewards/margins")
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-4), "before the first step it is the reference"
    assert first_line(tmp_path / "dpo", "eval_rewards/margins")["eval_rewards/margins"] > 0
    learnt = moved(tmp_path, "dpo")
    assert {"model.decoder.0.cross_attention.gate" if memory else "model.decoder.0.slot_reader.place"} <= learnt
    assert all(is_reader(name) for name in learnt)


@pytest.mark.parametrize(
    ("script", "changes"),
    [(reward_model, {}), (memory_pretrain, {"optimizer": {}}), (memory_sft, {"objective": {"open_book": True}})],
)
def test_stages_that_take_an_encoder_refuse_it_with_the_remedy(recipe, script, changes):
    with pytest.raises(InputError, match=r"model.path: .* keeps token states .* a model of mrl/pretrain.py"):
        run(script, recipe("encoder", {}, **changes))


def test_a_critic_with_an_encoder_and_a_normal_start_are_refused(recipe, tmp_path):
    with pytest.raises(InputError, match=r"critic.kind: text_memory can't be built.*keeps token states.*; set memory"):
        run(train, recipe("mrl", {}, curriculum={"turns": [1]}, critic={"kind": "text_memory"}))
    start = {"path": str(tmp_path / "out"), "normal_start_std": 0.02}
    with pytest.raises(InputError, match=r"model.normal_start_std: .* keeps token states and starts empty"):
        run(memory_sft, recipe("normal", {}, model=start))
