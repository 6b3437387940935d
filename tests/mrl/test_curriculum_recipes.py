"""The shipped recipes of the documents' curriculum and of its two strategies, on small dialogues of their own kind."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data.generators.episode_topics import generate
from mrl.model import ReactiveConfig, ReactiveForCausalLM
from mrl.recipes.curriculum import turn_counts
from mrl.recipes.model import ModelConfig
from mrl.train import MRLStage, main
from mrl.training.model_io import load_reactive
from pipeline.config import load_config
from tests.mrl.conftest import FRAME
from tests.mrl.in_process import run_here

RECIPES = Path(__file__).resolve().parents[2] / "mrl" / "config" / "quickstart"
SMALL = [
    "prerequisites=[]", "rounds_per_epoch=1", "held_out_dialogues=4", "curriculum.epochs=1",
    "curriculum.replay_fraction=0", "rollout.episodes=4", "rollout.max_new_tokens=4", "ppo.minibatch_episodes=4",
    "ppo.keep_fraction=1.0", "trainer.log_every=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """Episodes of every length of both topics, eight a file, and a model of fresh weights that knows their words."""
    folder, words = tmp_path_factory.mktemp("curriculum"), {}
    for topic in ("extend", "change"):
        for steps in (1, 2, 3, 4, 6, 8, 12, 16, 32):
            for part, split in (("", "train"), ("validation_", "validation")):
                options = {"topic": topic, "steps": steps, "entities": 2, "facts": 4, "pair": 0}
                rows = [row for batch in generate(options, 8, split, 0) for row in batch.to_pylist()]
                path = folder / "data" / f"{topic}_{part}{steps}" / "train.jsonl"
                path.parent.mkdir(parents=True)
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
                split_words = pre_tokenizers.Whitespace().pre_tokenize_str(path.read_text())
                words |= dict.fromkeys(word for word, _ in split_words)
    vocabulary = {word: number for number, word in enumerate([*FRAME, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]", mask_token="[MASK]",
        additional_special_tokens=["[Q]", "[A]", "[T]"],
    ).save_pretrained(folder / "start")  # fmt: skip
    torch.manual_seed(0)
    ReactiveForCausalLM(
        ReactiveConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, intermediate_size=48, memory_slots=4,
            max_interaction_length=64, initial_state="learned", initial_state_std=0.5,
        )
    ).save_pretrained(folder / "start")  # fmt: skip
    return folder


def trained(name: str, start: Path, folder: Path, *settings: str) -> Path:
    """Where the run of a recipe, made smaller, ended."""
    here = [f"output_dir={folder}", f"model.path={start / 'start'}", f"data.folder={start / 'data'}"]
    config = load_config(MRLStage, RECIPES / f"{name}.yaml", [*SMALL, *here, *settings])
    run_here(main, config, "train")
    return folder


def learnt(start: Path, folder: Path) -> set[str]:
    """Parts of the model that aren't what they were."""
    before, after = (load_reactive(ModelConfig(path=str(path)))[0].parts() for path in (start / "start", folder))
    return {part for part in after if any(not a.equal(b) for a, b in zip(after[part], before[part], strict=True))}


def test_the_curriculum_goes_from_1_step_to_32_with_memory_learning_first(start, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shipped = load_config(MRLStage, RECIPES / "mrl_curriculum.yaml").curriculum
    assert turn_counts(shipped) == [1, 2, 3, 4, 6, 8, 12, 16, 32]
    assert any(strategy.final_weight > 1 for strategy in shipped.strategies)
    assert shipped.resets.mode == "random"
    short = ("trainer.max_steps=3", "curriculum.turns=[1, 2, 3]", "curriculum.resets.from_epoch=1")
    folder = trained("mrl_curriculum", start, tmp_path / "run", *short)
    assert json.loads((folder / "metrics.json").read_text())["stages"] == [1, 2, 3]
    model = json.loads((folder / "model" / "config.json").read_text())
    assert (model["initial_state"], model["initial_state_std"]) == ("normal", 0.02)
    assert learnt(start, folder) == {"memory_attention", "memory_cross_attention"}, "no reward has come for the rest"


def test_the_rest_learns_once_reward_has_come(start, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    enough = (
        "curriculum.unfreeze=[{parts: [memory_attention, memory_cross_attention]}, {parts: [encoder], reward: 0.0}]"
    )
    folder = trained("mrl_curriculum", start, tmp_path / "run", "trainer.max_steps=2", "curriculum.turns=[1]", enough)
    assert learnt(start, folder) == {"memory_attention", "memory_cross_attention", "encoder"}


# A long-term dialogue that is cut short asks nothing.
@pytest.mark.parametrize(("name", "turns"), [("mrl_cumulative", 2), ("mrl_long_term", 16)])
def test_the_strategies_of_the_tour_train(name, turns, start, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = trained(name, start, tmp_path / "run", "trainer.max_steps=1", f"curriculum.turns=[{turns}]")
    assert json.loads((folder / "metrics.json").read_text())["stages"] == [turns]
