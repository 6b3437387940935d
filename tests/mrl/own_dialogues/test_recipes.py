"""The way of mrl/remember.py without its trainings: sizes that follow from rows, recipes that the stages accept."""

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data.tokenizer import TokenizerConfig
from mrl import remember
from mrl.dialogues.dataset import Conversation, Exchange, parse_row
from mrl.dialogues.tokenization import encode_dialogues
from mrl.own_dialogues.plan import Sizes, choose_sizes, explain, vocabulary_size
from mrl.own_dialogues.recipes import Rows, as_yaml, tokenizer_stage, training_stages
from mrl.own_dialogues.rows import write_rows
from mrl.own_dialogues.start import Start
from mrl.recipes.reinforcement import MRLStage
from mrl.recipes.supervised import MemoryPretrainStage, MemorySFTStage, PretrainStage
from pipeline.config import load_config
from pipeline.errors import InputError
from tests.mrl.conftest import episode

SIZES = Sizes(interaction_limit=56, answer_limit=20, slots=24, steps=11, mrl_turns=(8, 11))
ROWS = Rows(["train.jsonl", "untold.jsonl"], "“Nobody told me.” (of the dialogues)")
CLASSES = {
    "pretrain": PretrainStage, "interaction_sft": PretrainStage, "memory_pretrain": MemoryPretrainStage,
    "memory_sft": MemorySFTStage, "mrl": MRLStage,
}  # fmt: skip


def conversations(steps: int, count: int) -> list[Conversation]:
    rng = random.Random(steps)
    return [Conversation(parse_row(episode(rng, steps), "here"), "here") for _ in range(count)]


def test_every_stage_accepts_its_recipe_and_starts_from_the_one_before(tmp_path):
    stages = training_stages(tmp_path, ROWS, SIZES, None, effort=0.5, seed=7)
    assert [stage.name for stage in stages] == list(CLASSES)
    before = None
    for stage in stages:
        path = tmp_path / f"{stage.name}.yaml"
        path.write_text(as_yaml(stage))
        config = load_config(CLASSES[stage.name], path)
        assert config.seed == 7
        assert config.model.path == before
        assert [source.path for source in config.data.train] == ["train.jsonl", "untold.jsonl"]
        assert "untold.jsonl answers “Nobody told me.” (of the dialogues)." in path.read_text()
        before = str(tmp_path / stage.name)
    assert stages[0].recipe["trainer"]["max_steps"] == 90, "half of 180: 40 steps learnt next to nothing"
    objective = stages[3].recipe["objective"]
    # With 0.2 of 0.15 of the weight of questions small talk was answered with facts (18 per cent of it right).
    assert objective["other_turns"] * objective["other_share"] >= 0.25
    assert config.rollout.max_new_tokens == 20
    assert config.trainer.max_steps == 36, "half of 72"
    path.write_text(as_yaml(tokenizer_stage(tmp_path, ROWS.files, 1024, 7)))
    config = load_config(TokenizerConfig, path)
    assert config.vocab_size == 1024
    assert list(map(str, config.datasets)) == [str(tmp_path / "data" / name) for name in ROWS.files]


def test_a_given_model_takes_the_place_of_fresh_weights(tmp_path):
    start = Start("given/model", "given/model/model", interaction_limit=90, slots=12, converted=False)
    stages = training_stages(tmp_path, ROWS, SIZES, start, effort=1, seed=7)
    assert [stage.name for stage in stages] == list(CLASSES)[1:]
    assert stages[0].recipe["model"] == {"path": "given/model"}


def test_a_converted_model_learns_to_remember_and_nothing_else(tmp_path):
    start = Start("given", "given/model", interaction_limit=90, slots=12, converted=True)
    stages = training_stages(tmp_path, Rows(["train.jsonl"]), SIZES, start, effort=1, seed=7)
    assert [stage.name for stage in stages] == ["memory_sft", "mrl"], "joint pre-training is for new models"
    assert stages[0].recipe["model"] == {"path": "given"}
    path = tmp_path / "stage.yaml"
    for stage in stages:
        path.write_text(as_yaml(stage))
        config = load_config(CLASSES[stage.name], path)
        assert config.optimizer.lr_multipliers["decoder"] == config.optimizer.lr_multipliers["embedding"] == 0
        assert "untold" not in path.read_text()
    assert config.optimizer.lr_multipliers["critic"] == 4.0
    assert stages[0].recipe["trainer"]["batch_size"] == 8


def test_sizes_follow_from_the_rows(tokenizer):
    rows = [*conversations(3, 60), *conversations(7, 40)]
    data = encode_dialogues(rows, tokenizer, max_length=100)
    sizes = choose_sizes(data, rows)
    # The longest turn is [BOS] [Q] Ann has the cat . [A] noted [EOS], 10 tokens; the longest answer [A] cat [EOS],
    # and one to spare.
    assert sizes == Sizes(interaction_limit=32, answer_limit=4, slots=16, steps=7, mrl_turns=(7,))
    assert explain(sizes, data, 100)[0].startswith("vocabulary 100: bytes")
    start = Start("given", "given/model", interaction_limit=9, slots=12, converted=True)
    given = choose_sizes(data, rows, start)
    assert given == Sizes(interaction_limit=9, answer_limit=4, slots=12, steps=7, mrl_turns=(7,))
    lines = explain(given, data, 100, start)
    assert (lines[0], lines[2]) == ("vocabulary 100: those of given/model", "memory_slots 12: those of given/model")
    statements = sum(e.query.endswith(".") for c in rows for e in c.exchanges)  # ten tokens, the questions have eight
    assert lines[1].endswith(f"10 at most; {statements / len(data.lengths):.2%} are longer and cut")
    twice = Conversation((Exchange("one two", "two"), Exchange("one", "three")), "here")
    assert (
        vocabulary_size([twice]) == 320
    )  # 256 bytes, 8 of the frame, four times the 2 words said again: in sixty-fours


def test_reinforced_lengths_can_be_watched(tokenizer):
    """mrl/train.py refuses turns that no dialogue to watch by has, when all else is trained already."""
    data = encode_dialogues([*conversations(3, 40), *conversations(7, 60)], tokenizer, max_length=100)
    assert choose_sizes(data, conversations(8, 2)).mrl_turns == (7,)
    assert choose_sizes(data, conversations(5, 2)).mrl_turns == (5,), "of 6 turns"
    late = replace(conversations(7, 1)[0], exchanges=(Exchange("a", "b", asks=False),) * 7 + (Exchange("c", "d"),))
    assert choose_sizes(data, [late]).mrl_turns == (7,), "asks in its last turn"
    # Of those that suffice for 4 turns the shorter one is taken, which asks nothing there.
    silent = replace(late, exchanges=(Exchange("a", "b", asks=False),) * 5)
    asking = replace(late, exchanges=(Exchange("a", "b", asks=False), Exchange("c", "d"), *silent.exchanges[:4]))
    assert choose_sizes(data, [silent, asking]).mrl_turns == (5,)
    assert choose_sizes(data, [silent]).mrl_turns == (7,), "none can be: the stage says so"


def options(tmp_path: Path, *files: str, held_out: tuple[str, ...] = ()) -> argparse.Namespace:
    given = ["--data", *files, "--output-dir", str(tmp_path / "out"), "--copies", "1"]
    return remember.parse_options([*given, *(["--held-out", *held_out] if held_out else [])])


def test_rows_are_split_and_each_held_out_file_stands_by_itself(tmp_path):
    files = {name: tmp_path / f"{name}.jsonl" for name in ("chats", "near", "far")}
    for steps, path in enumerate(files.values(), start=5):
        write_rows(path, conversations(steps, 80))
    chats, near, far = map(str, files.values())
    remember.prepare_rows(options(tmp_path, chats, held_out=(near, far)), tmp_path / "out")
    names = sorted(str(p.relative_to(tmp_path / "out" / "data")) for p in (tmp_path / "out" / "data").rglob("*.jsonl"))
    # Words that more than a tenth of the dialogues have aren't renamed, here all: a file without rows would be refused.
    # No held-out dialogue asks for what was never told, so copies that do are measured on as well.
    measured = ["held_out/far.jsonl", "held_out/far_untold.jsonl", "held_out/near.jsonl", "held_out/near_untold.jsonl"]
    assert names == [*measured, "train.jsonl", "untold.jsonl", "validation.jsonl"]


def test_a_folder_stays_with_its_dialogues_and_nothing_that_is_read_is_written_over(tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_rows(first, conversations(6, 80))
    write_rows(second, conversations(7, 80))
    for _ in range(2):
        remember.prepare_rows(options(tmp_path, str(first)), tmp_path / "out")
    with pytest.raises(InputError, match="was made from another --data"):
        remember.prepare_rows(options(tmp_path, str(second)), tmp_path / "out")
    with pytest.raises(InputError, match=r"data/train\.jsonl would be written over"):
        remember.main(options(tmp_path, str(tmp_path / "out" / "data" / "train.jsonl")))
    with pytest.raises(InputError, match="was made from another --held-out"):
        remember.prepare_rows(options(tmp_path, str(first), held_out=(str(second),)), tmp_path / "out")
    wrong = options(tmp_path, str(first))
    wrong.effort = 0.0
    with pytest.raises(InputError, match="--effort one above 0"):
        remember.main(wrong)
    wrong.effort, wrong.untold = 1.0, 0.25
    with pytest.raises(InputError, match=r"was made from another --untold \(0\.5, now 0\.25\)"):
        remember.main(wrong)
    wrong.untold = 1.5
    with pytest.raises(InputError, match="--untold one from 0 to 1"):
        remember.main(wrong)


def test_dialogues_that_ask_for_nothing_are_refused(tmp_path):
    """Also chats without marks: the last stage would refuse them, for nothing in them can be rewarded."""
    silent = '{"query": "a", "answer": "b", "facts": [], "interactions": []}\n'
    chat = {"messages": [{"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "ho"))] * 2}
    path = tmp_path / "chats.jsonl"
    for line in (silent, json.dumps(chat) + "\n"):
        path.write_text(line * 30)
        with pytest.raises(InputError, match="no turn asks for anything said before; mark `facts`"):
            remember.prepare_rows(options(tmp_path, str(path)), tmp_path / "out")


def test_a_stage_runs_by_the_recipe_that_stands_there(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(remember, "build_missing", ran.extend)
    (stage,) = training_stages(tmp_path, ROWS, SIZES, None, effort=1, seed=7)[:1]
    remember.run_stage(stage, tmp_path)
    path = tmp_path / "recipes" / "pretrain.yaml"
    assert yaml.safe_load(path.read_text())["seed"] == 7
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    remember.run_stage(stage, tmp_path)
    assert yaml.safe_load(path.read_text())["seed"] == 8, "an edited recipe is used as it is"
    assert [(each.folder, each.script, each.config) for each in ran] == [
        (str(tmp_path / "pretrain"), "mrl/pretrain.py", str(path))
    ] * 2
