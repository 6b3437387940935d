"""mrl/rlhf.py over a reward model: cut short and taken up again, in two processes; reward models by themselves."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from mrl import reward_model, rlhf
from mrl.dialogues.dataset import RowSource, read_conversations
from mrl.dialogues.tokenization import encode_dialogues
from mrl.preferences.judges import OwnJudge, TextJudge, load_judges
from mrl.recipes.preference import RewardModelStage
from mrl.recipes.reinforcement import MRLStage, RolloutConfig
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.rollout import generate_rollouts
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.mrl.in_process import run_here
from tests.mrl.killing import killed_after
from tests.mrl.preferences.conftest import ROWS
from tests.mrl.rl.toy import batch_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(tmp_path, tokenizer, model) -> Path:
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def scorer(tmp_path, start, monkeypatch):
    """Trains a reward model on the pairs by hand, with a context, and returns its folder and figures."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 4))

    def made(context: str, steps: int = 2) -> tuple[Path, dict]:
        recipe = {
            "output_dir": str(tmp_path / f"scorer_{context}"), "model": {"path": str(start)},
            "data": {"train": [{"path": str(rows)}], "held_out": [{"path": str(rows)}]},
            "reward": {"context": context, "context_turns": 2}, "optimizer": {"learning_rate": 1e-2},
            "trainer": {"max_steps": steps, "batch_size": 6, "log_every": 1, "precision": "fp32"},
        }  # fmt: skip
        run_recipe(reward_model, written(tmp_path / f"scorer_{context}.yaml", recipe), RewardModelStage)
        folder = tmp_path / f"scorer_{context}"
        return folder / "model", json.loads((folder / "metrics.json").read_text())

    return made


@pytest.fixture
def recipe(tmp_path, episodes, start, scorer):
    """Writes a recipe with both rewards, of few steps, and returns its path."""
    judge, _ = scorer("memory")

    def write(name: str, **changes) -> Path:
        rows = {"path": str(episodes), "subset": "steps-3"}
        recipe = {
            "output_dir": str(tmp_path / name),
            "model": {"path": str(start)},
            "data": {"train": [{**rows, "split": "train"}], "held_out": [{**rows, "split": "test"}]},
            "curriculum": {"turns": [3], "epochs": 9},
            "rollout": {"episodes": 4, "max_new_tokens": 5},
            "rewards": {
                "models": {"quality": str(judge)}, "weights": {"facts": 1.0, "quality": 1.0}, "match_scales": True,
                "ramps": {"quality": [0.1, 0.5]}, "watched": ["brief"],
            },
            "ppo": {
                "algorithm": "grpo", "group_size": 2, "minibatch_episodes": 4, "update_epochs": 1, "kl_coef": 0.02,
                "target_kl": None,
            },
            "optimizer": {"learning_rate": 2e-3},
            "trainer": {"max_steps": 5, "save_every": 2, "log_every": 1, "precision": "fp32", "restore_best": False},
            "rounds_per_epoch": 3,
            "held_out_dialogues": 4,
        } | changes  # fmt: skip
        return written(tmp_path / f"{name}.yaml", recipe)

    return write


def written(path: Path, recipe: dict) -> Path:
    path.write_text(yaml.safe_dump(recipe))
    return path


def run_recipe(script, path: Path, kind: type) -> None:
    run_here(script.main, load_config(kind, path), path.stem)


def lines(folder: Path, *names: str) -> list[tuple]:
    """The named figures of every line that has them all."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [tuple(row[n] for n in ("step", *names)) for row in rows if all(n in row for n in names)]


def test_a_run_that_is_killed_ends_where_the_unbroken_one_does(recipe, tmp_path):
    run_recipe(rlhf, recipe("straight"), MRLStage)
    figures = lines(tmp_path / "straight", "ratio", "approx_kl", "reference_kl")
    assert len(figures) == 5
    _, ratio, approx_kl, reference_kl = figures[0]
    assert (ratio, approx_kl, reference_kl) == pytest.approx((1.0, 0.0, 0.0), abs=1e-5), "a first pass changes nothing"
    assert figures[-1][3] > 1e-6, "the distance to the start is seen"
    assert lines(tmp_path / "straight", "rollout_term_quality", "rollout_term_brief")

    with killed_after(3):
        run_recipe(rlhf, recipe("broken"), MRLStage)
    run_recipe(rlhf, recipe("broken"), MRLStage)
    assert json.loads((tmp_path / "broken" / "metrics.json").read_text())["first_step"] == 2
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("straight", "broken"))
    assert all(one[name].equal(two[name]) for name in one), "the running scales came back too"
    for names in (("loss", "approx_kl"), ("rollout_reward",), ("eval_reward",)):
        assert lines(tmp_path / "broken", *names) == lines(tmp_path / "straight", *names)


@pytest.mark.slow
def test_two_processes_do_what_one_does(recipe, tmp_path):
    trainer = {"max_steps": 3, "log_every": 1, "precision": "fp32", "restore_best": False}
    run_recipe(rlhf, recipe("one", trainer=trainer), MRLStage)
    path = recipe("two", trainer=trainer | {"processes": 2})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    command += [str(29700 + os.getpid() % 90), str(ROOT / "mrl" / "rlhf.py"), "--config-path", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=150)
    assert done.returncode == 0, done.stderr
    for names in (("loss",), ("rollout_reward", "rollout_term_quality"), ("eval_reward",)):
        one, two = lines(tmp_path / "one", *names), lines(tmp_path / "two", *names)
        assert len(one) == len(two) > 0
        assert all(b == pytest.approx(a, abs=1e-4) for a, b in zip(one, two, strict=True))


@pytest.fixture
def rollout(episodes, tokenizer, model):
    rows = read_conversations(RowSource(path=str(episodes), subset="*", split="train"))
    dataset = EpisodeDataset(encode_dialogues(rows, tokenizer, max_length=24), tokenizer, "rows")
    return generate_rollouts(model, batch_of(dataset), RolloutConfig(max_new_tokens=5), group=2).rollout


@pytest.mark.parametrize("context", ["memory", "text"])
def test_a_reward_model_learns_is_reported_and_judges_what_it_is_told_of(context, scorer, rollout, tokenizer):
    folder, figures = scorer(context, steps=12)
    low, high = figures["held_out_accuracy_interval"]
    assert low < figures["held_out_accuracy"] <= high
    assert figures["held_out_accuracy"] > 0.8
    judge = load_judges({"quality": str(folder)}, tokenizer)["quality"]
    assert isinstance(judge, OwnJudge)
    values = judge(rollout)
    assert values.shape == rollout.turns.shape
    assert bool(((values > 0) & (values < 1))[rollout.turns].all())
    # Other words in the first interaction, which only later turns are told of.
    other = replace(rollout, writes=rollout.writes.clone())
    other.writes[:, 0, 2:6] = tokenizer.convert_tokens_to_ids("sun")
    changed = ~judge(other).isclose(values, atol=1e-6)
    assert bool(changed[rollout.turns].any())


def test_a_classifier_of_texts_reads_the_newest_interactions_and_the_answer(tmp_path, rollout, tokenizer):
    torch.manual_seed(1)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), pad_token_id=0, num_labels=1, **size))
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    judge = load_judges({"quality": str(tmp_path / "bert")}, tokenizer)["quality"]
    assert isinstance(judge, TextJudge)
    values = judge(rollout)
    row, turn = (place.tolist()[-1] for place in rollout.turns.nonzero(as_tuple=True))
    spoken = [(rollout.writes[row, k], rollout.writes_mask[row, k]) for k in range(max(0, turn - 3), turn + 1)]
    spoken.append((rollout.batch.query_ids[row, turn], rollout.batch.query_mask[row, turn]))
    spoken.append((rollout.answer_ids[row, turn], rollout.answer_mask[row, turn]))
    text = "\n".join(tokenizer.decode(ids[mask.bool()].tolist(), skip_special_tokens=True) for ids, mask in spoken)
    with torch.no_grad():
        wanted = bert.eval()(**tokenizer(text, return_tensors="pt")).logits.sigmoid()
    assert float(values[row, turn]) == pytest.approx(float(wanted), abs=1e-5)


def test_what_is_no_reward_model_is_refused_by_name(tmp_path, tokenizer, start):
    with pytest.raises(InputError, match=r"rewards.models.kind: .*start is no sequence classifier"):
        load_judges({"kind": str(start)}, tokenizer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"rewards.models.kind"):
        load_judges({"kind": str(tmp_path / "empty")}, tokenizer)
