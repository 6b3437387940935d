"""sft.py and dpo.py as users run them, on a toy model: resume after a kill, pushes through faults, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.post_training import toy

ROOT = Path(__file__).resolve().parents[2]
OTHER_TEMPLATE = toy.CHATML.replace(
    "{%- for message in messages -%}", "{{ 'Be brief.\\n' }}{%- for message in messages -%}"
)


def recipe(path: Path, **content: object) -> Path:
    """Write a YAML."""
    path.write_text(yaml.safe_dump(content))
    return path


def run(script: str, config: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "post_training" / script), "--config-path", str(config), *options]
    quiet = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", **(env or {})}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **quiet})


def losses(folder: Path) -> dict[int, float]:
    """The loss curve."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A toy model and rows."""
    folder = tmp_path_factory.mktemp("start")
    toy.save(folder / "toy")
    toy.write_rows(folder / "chat" / "train.jsonl", toy.rows(96))
    toy.write_rows(folder / "pairs" / "train.jsonl", toy.pairs(48))
    return folder


def sft_recipe(path: Path, start: Path, **trainer: object) -> Path:
    return recipe(
        path,
        output_dir=str(path.with_suffix("")),
        model={"name": str(start / "toy"), "special_tokens": ["<think>", "</think>"]},
        dataset={"name": str(start / "chat"), "held_out": {"rows": 16}},
        trainer={
            "per_device_train_batch_size": 8, "learning_rate": 1e-2, "num_train_epochs": 2, "logging_steps": 1,
            "save_steps": 4, "assistant_only_loss": True, "neftune_noise_alpha": 5.0, **trainer,
        },
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(start, tmp_path):
    whole = sft_recipe(tmp_path / "whole.yaml", start)
    done = run("sft.py", whole)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert facts["status"] == "complete"
    assert facts["steps"] == 20
    for key in ("final_loss", "tokens_per_s", "wall_s", "peak_mb", "config_hash", "git_commit", "seed", "versions"):
        assert facts[key], key
    assert facts["evaluation"]["eval_loss"] > 0
    assert losses(tmp_path / "whole")[20] < losses(tmp_path / "whole")[1]
    # Killed after the second checkpoint; the newest one is cut short, as a full disk would leave it.
    config = sft_recipe(tmp_path / "broken.yaml", start)
    command = [sys.executable, str(ROOT / "post_training" / "sft.py"), "--config-path", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=environment)
    second = tmp_path / "broken" / "checkpoint-8"
    while not (second / "manifest.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "broken" / "model").exists()
    for later in (tmp_path / "broken").glob("checkpoint-*"):  # it may have got further before it died
        if int(later.name.split("-")[1]) > 8:
            shutil.rmtree(later)
    torn = tmp_path / "broken" / "checkpoint-12"
    shutil.copytree(second, torn)
    with (torn / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    again = run("sft.py", config)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "passing over" in again.stderr
    assert "checkpoint-8" in again.stderr
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    first, second_weights = (load_file(tmp_path / f / "model" / "model.safetensors") for f in ("whole", "broken"))
    assert all(torch.equal(first[name], second_weights[name]) for name in first)
    # Other settings don't silently continue it.
    changed = run("sft.py", config, "--set", "trainer.learning_rate=0.5")
    assert changed.returncode == 2
    assert "trainer.learning_rate" in changed.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_every_save_is_pushed_in_spite_of_faults_and_no_secret_is_left(hub, start, tmp_path):
    hub.fail(2, status=500, match="POST .*commit")
    hub.fail(1, status=429, match="POST .*repos/create", retry_after=0)
    token = "hf_" + "s" * 34
    hub.token = token
    config = sft_recipe(
        tmp_path / "pushed.yaml", start, push_to_hub=True, hub_model_id="me/pushed", hub_strategy="every_save",
        max_steps=8, hub_token=token,
    )  # fmt: skip
    env = {**hub.env(tmp_path / "home", token=token), "TRLM_RETRY_BASE_S": "0.05"}
    done = run("sft.py", config, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    repo = hub.repo("me/pushed", "model")
    messages = [commit.message for commit in repo.commits]
    assert [m for m in messages if "step" in m] == [f"Training in progress, step {n}" for n in (4, 8)]
    assert messages[-1] == "End of training"
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(repo.files)
    assert not [name for name in repo.files if name.startswith(("optimizer", "rng_state", "training_args"))]
    card = repo.files["README.md"].decode()
    assert "learning_rate" in card
    assert "final_loss" in card or "final loss" in card
    for file in [f for f in (tmp_path / "pushed").rglob("*") if f.is_file() and f.suffix != ".bin"]:
        assert token.encode() not in file.read_bytes(), file
    assert token not in done.stderr
    assert all(token.encode() not in content for content in repo.files.values())


@pytest.mark.slow
def test_dpo_uses_the_yamls_template_filters_long_prompts_and_reports_preferences(start, tmp_path):
    config = recipe(
        tmp_path / "dpo.yaml",
        output_dir=str(tmp_path / "dpo"),
        model={"name": str(start / "toy")},
        dataset={"name": str(start / "pairs"), "held_out": {"rows": 12}},
        chat_template=OTHER_TEMPLATE,
        trainer={
            "per_device_train_batch_size": 8, "learning_rate": 5e-3, "num_train_epochs": 4, "loss_type": "apo_zero",
            "max_length": 128, "max_prompt_length": 60, "warmup_ratio": 0.1, "logging_steps": 1,
        },
    )  # fmt: skip
    done = run("dpo.py", config)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Be brief." in done.stderr  # the preview shows what the model reads
    assert "warmup_steps" in done.stderr
    assert "dataset.max_prompt_length" in done.stderr
    saved = AutoTokenizer.from_pretrained(tmp_path / "dpo" / "model")
    assert saved.chat_template == OTHER_TEMPLATE
    facts = json.loads((tmp_path / "dpo" / "metrics.json").read_text())
    assert facts["preference_accuracy"] > facts["preference_accuracy_before"]
    change = facts["preference_accuracy_before_after"]
    assert change["low"] < change["after"] - change["before"] < change["high"]
    assert change["n"] == facts["preference_pairs"]
    assert facts["preference_pairs"] == 12
    assert "preference accuracy" in (tmp_path / "dpo" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trainer": {"learning_rat": 1.0}}, "learning_rate"),
        ({"trainer": {"learning_rate": "fast"}}, "learning_rate"),
        ({"trainer": {"output_dir": "x"}}, "output_dir at the top level"),
        ({"modle": {}}, "model"),
        ({"model": {"name": "./nowhere"}}, "there is no folder"),
        ({"dataset": {"name": "./nowhere/train.jsonl"}}, "no file matches"),
        ({"dataset": {"name": "x", "held_out": {"rows": 1, "fraction": 0.5}}}, "exactly one"),
    ],
)
def test_bad_recipes_get_one_line(change, said, start, tmp_path, capsys):
    from pipeline.config import load_config
    from pipeline.run import exit_status, open_run
    from post_training import sft

    content = yaml.safe_load(sft_recipe(tmp_path / "good.yaml", start).read_text())
    config = recipe(tmp_path / "bad.yaml", **{**content, **change})

    def stage() -> None:
        with exit_status():
            made = load_config(sft.SFTStage, config)
            with open_run(made, stage="sft", output_dir=made.output_dir, seed=1) as opened:
                sft.main(made, opened)

    with pytest.raises(SystemExit) as ended:
        stage()
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
