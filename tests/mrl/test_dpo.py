"""mrl/dpo.py as people run it: to the end, cut short and taken up again, in two processes, misused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from mrl.dpo import DPOStage, main
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.mrl.in_process import run_here
from tests.mrl.killing import killed_after
from tests.mrl.preferences.conftest import ROWS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path, tokenizer, model):
    """Writes a recipe of few steps and returns its path."""
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 4))

    def write(name: str, **changes) -> Path:
        recipe = {
            "output_dir": str(tmp_path / name),
            "model": {"path": str(tmp_path / "start")},
            "data": {"train": [{"path": str(rows)}], "held_out": [{"path": str(rows)}]},
            "preference": {"loss_type": ["sigmoid", "sft"], "beta": 0.5},
            "optimizer": {"learning_rate": 3e-3, "warmup_steps": 1},
            "trainer": {
                "max_steps": 12, "batch_size": 5, "save_every": 4, "eval_every": 12, "log_every": 1,
                "precision": "fp32",
            },
        } | changes  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


@pytest.fixture
def dpo(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(path: Path) -> dict:
        config = load_config(DPOStage, path)
        run_here(main, config, "dpo")
        return json.loads((config.output_dir / "metrics.json").read_text())

    return run


def curve(folder: Path, name: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_a_run_that_is_cut_short_ends_where_the_unbroken_one_does(recipe, dpo, tmp_path):
    figures = dpo(recipe("straight"))
    assert (figures["status"], figures["steps"], figures["pairs"]) == ("complete", 12, 24)
    assert figures["train_s"] > 0.01, "the reference's pass, before the clock starts, isn't taken off it"
    margins = curve(tmp_path / "straight", "rewards/margins")
    assert margins[0] == pytest.approx(0.0, abs=1e-4), "before the first step the policy is the reference"
    assert margins[-1] > 0.5
    assert figures["evaluation"]["rewards/accuracies"] == figures["margin_accuracy"] > 0.9
    low, high = figures["margin_accuracy_interval"]
    assert low < figures["margin_accuracy"] <= high

    with killed_after(6):
        dpo(recipe("broken"))
    assert dpo(recipe("broken"))["first_step"] == 4
    one, two = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("straight", "broken"))
    assert all(one[name].equal(two[name]) for name in one)
    assert curve(tmp_path / "broken", "loss") == curve(tmp_path / "straight", "loss")


@pytest.mark.slow
def test_two_processes_do_what_one_does(recipe, dpo, tmp_path):
    trainer = {"max_steps": 5, "batch_size": 5, "eval_every": 5, "log_every": 1, "precision": "fp32"}
    dpo(recipe("one", trainer=trainer))
    path = recipe("two", trainer=trainer | {"processes": 2})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    command += [str(29990 + os.getpid() % 90), str(ROOT / "mrl" / "dpo.py"), "--config-path", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("loss", "rewards/margins", "logps/rejected"):
        assert curve(tmp_path / "two", name) == pytest.approx(curve(tmp_path / "one", name), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference": {"loss_type": ["aot"]}}, r"loss_type\[0\]: 'aot' is not one of"),
        ({"preference": {"betta": 0.1}}, "preference.betta is not a setting"),
        ({"preference": {"bptt_steps": 0}}, "bptt_steps"),
    ],
)
def test_bad_recipes_are_refused_by_name(recipe, changes, message):
    with pytest.raises(InputError, match=message):
        load_config(DPOStage, recipe("bad", **changes))


def test_rows_without_pairs_are_refused_by_name(recipe, dpo, episodes):
    rows = [{"path": str(episodes), "subset": "*", "split": "train"}]
    with pytest.raises(InputError, match=r"data.train: no turn has two answers; give rows with chosen and rejected"):
        dpo(recipe("plain", data={"train": rows, "held_out": rows}))
