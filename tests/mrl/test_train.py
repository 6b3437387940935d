"""mrl/train.py as people run it: to the end, killed and taken up again, in two processes, misused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from mrl.recipes.model import ModelConfig
from mrl.rl.collector import EpisodeSampler
from mrl.rl.curriculum import Curriculum
from mrl.rl.memory_pool import MemoryPool
from mrl.stages.train import prepare
from mrl.train import MRLStage, main
from mrl.training.model_io import load_reactive, save_reactive
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.run import open_run
from tests.mrl.in_process import run_here

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path, episodes, tokenizer, model):
    """Writes a recipe of few steps and returns its path."""
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")

    def write(name: str, **changes) -> Path:
        rows = {
            "train": [{"path": str(episodes), "subset": "*", "split": "train"}],
            "held_out": [{"path": str(episodes), "subset": "*", "split": "test"}],
        }
        recipe = {
            "output_dir": str(tmp_path / name),
            "model": {"path": str(tmp_path / "start")},
            "data": rows,
            "curriculum": {
                "turns": [1, 3],
                "epochs": 2,
                "strategies": [{"kind": "cumulative", "weight": 2.0}, {"kind": "long_term"}],
                "resets": {"mode": "random", "carry": "own", "from_epoch": 1, "probability": 0.5},
                "overrides": {"3": {"ppo.clip_range": 0.1, "rollout.teacher_forcing": True}},
            },
            "rollout": {"episodes": 8, "max_new_tokens": 5},
            "ppo": {"minibatch_episodes": 4, "update_epochs": 2, "kl_coef": 0.01, "target_kl": 5.0},
            "trainer": {"max_steps": 24, "save_every": 3, "log_every": 1, "precision": "fp32"},
            "rounds_per_epoch": 2,
            "held_out_dialogues": 6,
        } | changes
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


def command(path: Path, processes: int = 0) -> tuple[list[str], dict[str, str]]:
    launcher = [sys.executable]
    if processes:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port"]
        launcher.append(str(29900 + os.getpid() % 90))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "ACCELERATE_USE_CPU": "true"}
    return [*launcher, str(ROOT / "mrl" / "train.py"), "--config-path", str(path)], environment


def run(path: Path, processes: int = 0) -> subprocess.CompletedProcess:
    words, environment = command(path, processes)
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=150)


def lines(folder: Path, *names: str) -> list[tuple]:
    """The named figures of every line that has them all."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [tuple(row[n] for n in ("step", *names)) for row in rows if all(n in row for n in names)]


def weights(folder: Path) -> dict:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_run_that_is_killed_ends_where_the_unbroken_one_does(recipe, tmp_path):
    done = run(recipe("straight"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "straight" / "metrics.json").read_text())
    assert (found["status"], found["steps"], found["processes"]) == ("complete", 24, 1)
    assert 0 <= found["evaluation"]["recall"] <= 1
    assert found["stages"] == [1, 3]
    names = ("rollout_reward", "rollout_explained_variance", "rollout_rollout_s", "rollout_episode_turns")
    assert [row[-1] for row in lines(tmp_path / "straight", *names)] == [1, 1, 1, 1, 3, 3]
    first = lines(tmp_path / "straight", "approx_kl", "ratio", "entropy", "drift", "value_loss")[0]
    assert first[1] < 1e-6
    assert first[2] == pytest.approx(1.0, abs=1e-5)
    samples = [json.loads(line) for line in (tmp_path / "straight" / "samples.jsonl").read_text().splitlines()]
    assert {"query", "answer", "reference", "reward"} <= set(samples[-1])

    words, environment = command(recipe("broken"))
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, cwd=ROOT)
    deadline = time.monotonic() + 300
    while (
        not (tmp_path / "broken" / "checkpoint-9").exists() and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(tmp_path / "broken.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "broken" / "metrics.json").read_text())
    assert 9 <= found["first_step"] < 24
    one, two = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert all(one[name].equal(two[name]) for name in one)
    for names in (("loss", "approx_kl"), ("eval_reward",)):
        assert lines(tmp_path / "broken", *names) == lines(tmp_path / "straight", *names)


@pytest.mark.slow
def test_two_processes_do_what_one_does(recipe, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        trainer = {"max_steps": 8, "log_every": 1, "precision": "fp32", "processes": processes}
        # The two also share out the optimizer's state.
        shared = {"optimizer": {"shard": processes > 1}}
        path = recipe(name, trainer=trainer, rollout={"episodes": 7, "max_new_tokens": 5}, **shared)
        done = run(path, processes if processes > 1 else 0)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert found["processes"] == 2
    for names in (("loss",), ("rollout_reward",), ("eval_reward", "eval_recall")):
        one, two = lines(tmp_path / "one", *names), lines(tmp_path / "two", *names)
        assert len(one) == len(two) > 0
        for a, b in zip(one, two, strict=True):
            assert b == pytest.approx(a, abs=1e-4)


@pytest.mark.slow
def test_what_is_missing_is_built_first_and_said(recipe, tmp_path):
    never, wrong = str(tmp_path / "never"), tmp_path / "wrong.yaml"
    wrong.write_text("output_dri: x\n")
    needed = {"folder": never, "script": "data/data_collection.py", "config": str(wrong)}
    refused = run(recipe("needy", prerequisites=[needed], model={"path": f"{never}/model"}))
    assert refused.returncode == 2
    assert "is missing: building it with data/data_collection.py" in refused.stderr
    assert "prerequisites: data/data_collection.py" in refused.stderr.splitlines()[-1]


def test_in_bf16_the_first_update_finds_the_probabilities_that_were_recorded(recipe, tmp_path, monkeypatch):
    # The sampler decodes token by token and rounds otherwise than the update: the record has the update's own.
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trainer = {"max_steps": 1, "log_every": 1, "precision": "bf16"}
    config = load_config(MRLStage, recipe("half", trainer=trainer, curriculum={"turns": [3]}))
    run_here(main, config, "train")
    ((_, ratio, approx_kl),) = lines(tmp_path / "half", "ratio", "approx_kl")
    assert ratio == pytest.approx(1.0, abs=1e-6)
    assert approx_kl == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curriculum": {"turns": [1], "overrides": {"1": {"seed": 3}}}}, "seed can't differ by stage"),
        ({"curriculum": {"turns": [1], "overrides": {"1": {"curriculum.epochs": 3}}}}, "curriculum can't differ by"),
        ({"curriculum": {"strategies": [{"rows": [""]}]}}, "rows has an empty name"),
        ({"model": {"tokenizer": "x", "normal_start_std": 0.02}}, "normal_start_std is for weights of path"),
        ({"curriculum": {"turns": [1], "overrides": {"1": {"ppo.clip_rnage": 0.1}}}}, "clip_range"),
        (
            {"curriculum": {"turns": [1], "overrides": {"1": {"critic.kind": "classic"}}}},
            "critic.kind holds for the whole",
        ),
        ({"curriculum": {"turns": [1], "overrides": {"1": {"optimizer.betas": [0.5, 0.9]}}}}, "optimizer.betas holds"),
        ({"rewards": {"weights": {"fcts": 1.0}}}, "fcts is no term"),
        ({"trainer": {"max_steps": 1, "batch_size": 3}}, "trainer.batch_size has no meaning here"),
        ({"ppo": {"algorithm": "grpo"}}, "set group_size to 2 or more"),
        ({"rollout": {"temperature": 0}}, "explore nothing"),
    ],
)
def test_bad_recipes_are_refused_by_name(recipe, changes, message):
    with pytest.raises(InputError, match=message):
        load_config(MRLStage, recipe("bad", **changes)).at(1)


@pytest.fixture
def bare_rows(tmp_path) -> Path:
    """Rows in the published format alone: query, answer, interactions; the name comes back in the last answer."""
    pets = [("Ann", "cat"), ("Bob", "dog"), ("Cid", "owl"), ("Dan", "fox")] * 3
    rows = [
        {"query": f"who has the {pet}", "answer": f"the {name} .",
         "interactions": [{"query": "who is", "answer": f"is {name} ."}]}
        for name, pet in pets
    ]  # fmt: skip
    (tmp_path / "bare.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "bare.jsonl"


@pytest.mark.parametrize(
    ("marks", "weights"), [({}, {"bleu": 1.0}), ({"facts": "carried"}, {"facts": 1.0}), ({}, {"facts": 1.0})]
)
def test_bare_rows_train_or_are_refused_with_the_remedy_before_the_run(
    recipe, bare_rows, marks, weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    rows = [{"path": str(bare_rows), **marks}]
    changes = {
        "data": {"train": rows, "held_out": rows}, "curriculum": {"turns": [1]}, "rewards": {"weights": weights},
        "trainer": {"max_steps": 1, "log_every": 1, "precision": "fp32"},
    }  # fmt: skip
    config = load_config(MRLStage, recipe("bare", **changes))
    if not marks and "facts" in weights:
        with pytest.raises(InputError, match="data.train: no term of rewards.weights .facts. says anything") as refused:
            run_here(main, config, "train")
        assert "`facts: carried` at the source" in str(refused.value)
        assert not (tmp_path / "bare").exists()
    else:
        run_here(main, config, "train")
        assert (tmp_path / "bare" / "model" / "model.safetensors").exists()


def test_a_push_that_can_not_succeed_is_refused_before_anything_is_built(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    never = {"folder": str(tmp_path / "never"), "script": "none.py", "config": "none.yaml"}
    config = load_config(MRLStage, recipe("pushed", push_to_hub="me/model", prerequisites=[never]))
    with pytest.raises(InputError, match="push_to_hub: HF_HUB_OFFLINE is set"):
        run_here(main, config, "train")
    assert not (tmp_path / "pushed").exists()


def test_a_push_into_somebody_elses_repository_is_refused_before_anything_is_read(recipe, at_standin, tmp_path):
    at_standin.add_repo("other/model", {"config.json": "{}"}, repo_type="model")
    nothing = {"train": [{"path": "./none"}], "held_out": [{"path": "./none"}]}
    config = load_config(MRLStage, recipe("pushed", push_to_hub="other/model", data=nothing))
    with pytest.raises(InputError, match="push_to_hub: the token is of tester, who can't write into other/model"):
        run_here(main, config, "train")


def test_a_stage_changes_what_its_overrides_name_and_nothing_else(recipe):
    stage = load_config(MRLStage, recipe("good"))
    later = stage.at(3)
    assert (stage.ppo.clip_range, later.ppo.clip_range, later.rollout.teacher_forcing) == (0.2, 0.1, True)
    assert later.ppo.minibatch_episodes == 4
    assert stage.at(1) == stage


def test_a_stage_may_have_strategies_resets_and_data_of_its_own(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    own = {
        "curriculum.strategies": [{"kind": "long_term", "rows": ["steps-3"]}],
        "curriculum.resets": {"mode": "random", "probability": 0.0, "carry": "normal", "std": 0.02},
        "data.train": [{"path": str(tmp_path / "episodes"), "subset": "steps-3", "split": "train", "limit": 20}],
        "data.held_out": [{"path": str(tmp_path / "episodes"), "subset": "steps-3", "split": "test"}],
    }
    settings = {"turns": [1, 3], "overrides": {"3": own}}
    stage = load_config(MRLStage, recipe("own", curriculum=settings, trainer={"max_steps": 1, "precision": "fp32"}))
    assert stage.at(1) == stage
    with open_run(stage, stage="train", output_dir=stage.output_dir, seed=stage.seed) as opened:
        setup = prepare(stage, opened)
    curriculum = Curriculum(stage.curriculum, 1, {turns: s.curriculum for turns, s in setup.stages.items()})
    sampler = EpisodeSampler(setup.dialogues.train, curriculum, MemoryPool(1), 1)
    first = sampler.next(8, setup.policy)
    assert (first.steps, first.strategies[0].kind, first.start.states) == (1, "cumulative", None)
    curriculum.stage = 1
    batch = next(b for b in (sampler.next(8, setup.policy) for _ in range(20)) if b.steps == 3)
    assert {strategy.kind for strategy in batch.strategies} == {"long_term"}
    assert bool(batch.start.carried.all())
    assert float(batch.start.states.slots.std()) == pytest.approx(0.02, rel=0.1)
    assert len(setup.dialogues.train[1].data) == 80
    assert len(setup.dialogues.train[3].data) == 20


def test_weights_may_start_from_a_normal_memory_and_keep_doing_so(recipe, tmp_path):
    path = str(tmp_path / "start")
    recipe("any")
    learnt, _ = load_reactive(ModelConfig(path=path))
    assert learnt.initial_state(2).slots[:, 0].equal(learnt.initial_state(2).slots[:, 1])
    model, tokenizer = load_reactive(ModelConfig(path=path, normal_start_std=0.02))
    save_reactive(model, tokenizer, tmp_path / "normal")
    again, _ = load_reactive(ModelConfig(path=str(tmp_path / "normal")))
    states = again.initial_state(seeds=list(range(50))).slots
    assert float(states.std()) == pytest.approx(0.02, rel=0.05)
    assert not states[:, 0].equal(states[:, 1])


def test_names_of_before_are_taken_and_said(recipe, caplog):
    old = recipe(
        "old",
        curriculum={"steps": [1], "replay": 0.1},
        replay={"turns_at_once": 7, "least_advantage": 0.1, "supervised_coef": 0.5, "supervised_share": 0.3},
        ppo={"used_share": 0.5, "minibatch_episodes": 4},
        optimiser={"rates": {"critic": 2.0}},
    )
    stage = load_config(MRLStage, old, ["replay.supervised_scope=all"])
    assert (stage.curriculum.turns, stage.curriculum.replay_fraction) == ([1], 0.1)
    update = stage.update
    assert (update.micro_batch_turns, update.min_abs_advantage, update.sft_coef) == (7, 0.1, 0.5)
    assert (update.sft_other_fraction, update.sft_turns) == (0.3, "all")
    assert (stage.ppo.keep_fraction, stage.optimizer.lr_multipliers) == (0.5, {"critic": 2.0})
    for said in ("replay is now called update", "turns_at_once is now called update.micro_batch_turns",
                 "used_share is now called ppo.keep_fraction", "steps is now called curriculum.turns"):  # fmt: skip
        assert said in caplog.text
