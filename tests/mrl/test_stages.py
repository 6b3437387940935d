"""The three scripts as people run them: one after another, killed and taken up again, in two processes, misused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file, save_file

from mrl import memory_sft
from mrl.recipes.supervised import MemorySFTStage
from mrl.training.checkpoint import load_state
from pipeline.artifact import read_manifest, seal
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.mrl.in_process import run_here

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 4, "max_interaction_length": 24,
    "initial_state": "learned", "dropout": 0.1,
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path, episodes, tokenizer):
    """Writes a recipe of few steps and returns its path."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    def write(name: str, model: dict, **changes) -> Path:
        rows = {
            "train": [{"path": str(episodes), "subset": "*", "split": "train"}],
            "held_out": [{"path": str(episodes), "subset": "*", "split": "test"}],
        }
        trainer = {
            "max_steps": 6,
            "batch_size": 16,
            "eval_every": 3,
            "save_every": 2,
            "log_every": 1,
            "precision": "fp32",
        }
        trainer |= changes.pop("trainer", {})
        recipe = {"output_dir": str(tmp_path / name), "model": model, "data": rows, "trainer": trainer, **changes}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


def run(
    script: str, path: Path, *more: str, processes: int = 0, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess:
    launcher = [sys.executable]
    if processes:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port"]
        launcher.append(str(29500 + os.getpid() % 400))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "ACCELERATE_USE_CPU": "true"}
    environment |= variables
    command = [*launcher, str(ROOT / "mrl" / f"{script}.py"), "--config-path", str(path), *more]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


def refused_here(path: Path, words: str) -> None:
    """memory_sft refuses a recipe with these words; in this process, which has loaded torch."""
    config = load_config(MemorySFTStage, path)
    with pytest.raises(InputError, match=re.escape(words)):
        run_here(memory_sft.main, config, "memory_sft")


def launched_with(config: str) -> dict[str, str]:
    """What `accelerate launch --config_file` tells the processes that it starts on GPUs."""
    arguments = launch_command_parser().parse_args(["--config_file", str(ROOT / config), "mrl/train.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    told = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in told.items() if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_the_stages_follow_one_another_and_survive_a_kill(recipe, tmp_path):
    first = recipe("pretrain", {"tokenizer": str(tmp_path / "tokenizer"), "new": SIZES})
    done = run("pretrain", first)
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path / "pretrain")
    assert found["status"] == "complete"
    assert (found["steps"], found["processes"], found["rows"]) == (6, 1, 80)
    assert found["evaluation"]["mlm_loss"] > 0

    second = recipe("memory", {"path": str(tmp_path / "pretrain")}, trainer={"batch_size": 8})
    done = run("memory_pretrain", second)
    assert done.returncode == 0, done.stderr
    before, after = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("pretrain", "memory"))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert all("memory_attention" in n or "initial_memory" in n for n in moved), "the other parts are frozen"

    changes = {
        "trainer": {"max_steps": 60, "save_every": 5, "eval_every": 25},
        "curriculum": {"min_steps": 8, "max_steps": 12},
    }
    model = {"path": str(tmp_path / "memory")}
    straight = recipe("straight", model, **changes)
    done = run("memory_sft", straight)
    assert done.returncode == 0, done.stderr
    assert figures(tmp_path / "straight")["lesson_steps"] == 3

    broken = recipe("broken", model, **changes)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "mrl/memory_sft.py"), "--config-path", str(broken)],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while (
        not list((tmp_path / "broken").glob("checkpoint-*")) and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run("memory_sft", broken)
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path / "broken")
    assert found["resumed_from"].startswith("checkpoint-")
    assert 0 < found["first_step"] < 60
    assert losses(tmp_path / "broken") == losses(tmp_path / "straight")
    one, two = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("straight", "broken"))
    assert all(one[name].equal(two[name]) for name in one)


def test_two_processes_do_what_one_does(recipe, tmp_path):
    model = {"tokenizer": str(tmp_path / "tokenizer"), "new": SIZES | {"dropout": 0.0}}
    shape = {"max_steps": 4, "batch_size": 15, "accumulation": 2, "eval_every": 4}
    fsdp = launched_with("mrl/config/accelerate/fsdp.yaml")
    for name, processes, variables in (("one", 1, {}), ("two", 2, {}), ("shared", 2, fsdp)):
        path = recipe(name, model, trainer=shape | {"processes": processes})
        done = run("memory_sft", path, processes=processes if processes > 1 else 0, variables=variables)
        assert done.returncode == 0, done.stderr
        assert ("gradients and the optimizer's moments are shared out" in done.stderr) == (name == "shared")
    one = losses(tmp_path / "one")
    assert list(one) == [1, 2, 3, 4]
    for name in ("two", "shared"):
        assert figures(tmp_path / name)["processes"] == 2
        assert losses(tmp_path / name) == pytest.approx(one, abs=1e-4)
        a, b = (figures(tmp_path / n)["evaluation"] for n in ("one", name))
        assert a["answer_loss"] == pytest.approx(b["answer_loss"], abs=1e-4)
    whole, shared = (load_state(tmp_path / n / "checkpoint-4")["optimizer"]["inner"][0] for n in ("one", "shared"))
    assert [g["params"] for g in whole["param_groups"]] == [g["params"] for g in shared["param_groups"]]
    assert list(whole["state"]) == list(shared["state"])
    for place, moments in whole["state"].items():
        torch.testing.assert_close(shared["state"][place]["exp_avg"], moments["exp_avg"], atol=1e-4, rtol=1e-3)
    # What several processes have saved, one can go on from.
    path = recipe("shared", model, trainer=shape | {"processes": None, "max_steps": 6})
    done = run("memory_sft", path)
    assert done.returncode == 0, done.stderr
    longer = recipe("one", model, trainer=shape | {"processes": None, "max_steps": 6})
    assert run("memory_sft", longer).returncode == 0
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_bad_input_costs_one_line_and_no_checkpoint(recipe, tmp_path):
    model = {"tokenizer": str(tmp_path / "tokenizer"), "new": SIZES}
    good = recipe("run", model, trainer={"max_steps": 2})
    assert run("memory_sft", good).returncode == 0
    kept = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")

    wider = recipe("run", {**model, "new": SIZES | {"hidden_size": 64}}, trainer={"max_steps": 4})
    refused = run("memory_sft", wider)
    assert refused.returncode == 2
    assert "was made with another model.new.hidden_size" in refused.stderr.splitlines()[-1]

    other = recipe("other", {"path": str(tmp_path / "run"), "new": {"memory_slots": 9}})
    refused_here(other, "model.new.memory_slots is 9, but the weights")

    refused = run("memory_sft", good, variables=launched_with("post_training/config/accelerate/fsdp.yaml"))
    assert refused.returncode == 2
    assert "mrl/config/accelerate/fsdp.yaml" in refused.stderr.splitlines()[-1]
    weights = tmp_path / "run" / "model" / "model.safetensors"
    broken = {k: torch.full_like(v, torch.nan) if "lm_head" in k else v for k, v in load_file(weights).items()}
    save_file(broken, str(weights), {"format": "pt"})
    damaged, poisoned = (recipe(name, {"path": str(tmp_path / "run")}) for name in ("damaged", "poisoned"))
    refused_here(damaged, "model.safetensors is damaged: its content has changed")
    seal(weights.parent, read_manifest(weights.parent))
    refused_here(poisoned, "lm_head.weight holds values that are not numbers")
    again = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    assert all(again[name].equal(kept[name]) for name in kept)
