"""mrl/remember.py from a model that mrl/convert.py made, with every script at a step or two; and what it refuses."""

import json
import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from data import tokenizer
from data.tokenizer import TokenizerConfig
from evaluation import report, retention
from mrl import memory_pretrain, memory_sft, pretrain, remember, train
from mrl.model import ReactiveConfig, ReactiveForCausalLM
from mrl.own_dialogues.start import read_start
from mrl.recipes import prerequisites
from mrl.recipes.conversion import ConvertStage
from mrl.recipes.reinforcement import MRLStage
from mrl.recipes.supervised import MemoryPretrainStage, MemorySFTStage, PretrainStage
from mrl.stages.convert import run_stage
from mrl.training.model_io import save_reactive
from pipeline.config import load_config, parse_config
from pipeline.errors import InputError
from pipeline.run import open_run
from tests.mrl.in_process import run_here
from tests.mrl.own_dialogues.conftest import FRAME_OF_BYTES, of_bytes

NAMES = "Ann Bob Cid Dora Emil Fay Gus Hal Ida Jon Kay Leo Mia Ned Ola Pia Quin Ron Sue Tim Uma Vic Wim Yin".split()
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STAGES = {
    "data/tokenizer.py": (TokenizerConfig, tokenizer),
    "mrl/pretrain.py": (PretrainStage, pretrain), "mrl/memory_pretrain.py": (MemoryPretrainStage, memory_pretrain),
    "mrl/memory_sft.py": (MemorySFTStage, memory_sft), "mrl/train.py": (MRLStage, train),
}  # fmt: skip
READERS = {"evaluation/retention.py": retention, "evaluation/report.py": report}


def causal(folder: Path) -> Path:
    """A tiny Llama with a chat template, as anybody's."""
    words = PreTrainedTokenizerFast(tokenizer_object=of_bytes(["<unk>"]), eos_token="<|im_end|>")
    marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<think>", "</think>")]
    words.add_special_tokens({"additional_special_tokens": marks})
    words.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(5)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture
def converted(tmp_path) -> Path:
    recipe = {
        "model": {"name": str(causal(tmp_path / "causal"))},
        "memory": {"slots": 48},
        "max_interaction_length": 96,
    }
    stage = parse_config(ConvertStage, recipe | {"output_dir": str(tmp_path / "converted")})
    with open_run(stage, stage="convert", output_dir=stage.output_dir, seed=1) as run:
        run_stage(stage, run)
    return tmp_path / "converted"


@pytest.fixture
def chats(tmp_path) -> Path:
    """Two things of two people, asked at the end."""
    rng = random.Random(0)
    rows = []
    for name in NAMES:
        other, town, bird = rng.choice(NAMES), f"{name}ville", f"{name.lower()}bird"
        turns = [
            {"query": f"My friend {name} lives in {town}.", "answer": "Noted.", "facts": []},
            {"query": f"A {bird} sings at {other}'s.", "answer": "Noted.", "facts": []},
            {"query": f"Where does {name} live?", "answer": f"In {town}.", "facts": [town], "kind": "home"},
            {"query": "What sings?", "answer": f"The {bird}.", "facts": [bird], "kind": "bird"},
        ]
        rows.append({**turns[0], "interactions": turns[1:]})
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def in_this_process(command: list[str], check: bool) -> subprocess.CompletedProcess:
    """What `subprocess.run` would have another process do; this one has loaded torch already."""
    _, script, *arguments = command
    if script in STAGES:
        kind, module = STAGES[script]
        assert arguments[0] == "--config-path"
        run_here(module.main, load_config(kind, arguments[1]), Path(script).stem)
    else:
        READERS[script].main(READERS[script].parse_options(arguments))
    return subprocess.CompletedProcess(command, 0)


@pytest.mark.slow
def test_from_a_converted_model_to_a_report(tmp_path, converted, chats, monkeypatch, caplog):
    for module in (prerequisites, remember):
        monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=in_this_process))
    out = tmp_path / "own"
    held = tmp_path / "held.jsonl"
    held.write_text("".join(line + "\n" for line in chats.read_text().splitlines()[:4]))
    files = ["--data", str(chats), "--held-out", str(held), "--output-dir", str(out)]
    options = remember.parse_options(
        [*files, "--model", str(converted), "--copies", "1", "--effort", "0.001", "--untold", "1"]
    )
    with caplog.at_level("INFO"):
        remember.main(options)
    assert sorted(p.stem for p in (out / "recipes").iterdir()) == ["memory_sft", "mrl"], "it speaks already"
    for stage in ("memory_sft", "mrl"):
        found = json.loads((out / stage / "metrics.json").read_text())
        assert (found["status"], found["steps"]) == ("complete", 2)
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in (converted, out / "mrl"))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved
    assert all("slot_reader" in name for name in moved), "the weights that it came with stay"
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["interaction_limit"], plan["slots"]) == (96, 48), "the model's own"

    derived = json.loads((out / "derived.json").read_text())
    made = {name: len((out / "data" / f"{name}.jsonl").read_text().splitlines()) for name in ("renamed", "untold")}
    counts = derived["counts"]
    assert counts["copies with other names"] == made["renamed"] == derived["dialogues"] == 24 - 4 - 1
    assert counts["copies with a question for what was never told"] == made["untold"] == 2 * 19
    assert f"to learn from: 19 copies with other names, {made['untold']} copies with a question" in caplog.text
    assert "copies answer “You haven't told me that yet.” (the default, for the dialogues have none)" in caplog.text
    assert "You haven't told me that yet." in (out / "recipes" / "memory_sft.yaml").read_text()
    written = json.loads((out / "report.json").read_text())
    assert written["derived"] == derived
    sizes = {name: (found["n"]["untold"], found["n"]["told"]) for name, found in written["abstention_by_model"].items()}
    # Asked in copies alone, for no held-out dialogue asks so: where Ann lives, and still what sings.
    assert sizes == {"memory_sft_held_untold": (4, 4), "mrl_held_untold": (4, 4)}
    assert "copies that do are measured on too, 4 in held_untold" in caplog.text
    controls = {"memory_sft_held_reset_control", "mrl_held_foreign_control"}
    assert set(written["recall"]) >= {"memory_sft_held", "mrl_held"} | controls
    assert f"| copies with other names | {made['renamed']} |" in (out / "report.md").read_text()

    finished = [*out.rglob("metrics.json"), *out.rglob("retention.json")]
    times = [path.stat().st_mtime_ns for path in finished]
    remember.main(options)
    assert len(times) == 6
    assert [path.stat().st_mtime_ns for path in finished] == times, "started again, it does nothing twice"


def given_model(folder: Path, words: PreTrainedTokenizerFast) -> Path:
    """A model as the stages of mrl/ leave one."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 20}
    config = ReactiveConfig(
        vocab_size=len(words), max_interaction_length=80, initial_state="learned", **shape, **FRAME_OF_BYTES
    )
    save_reactive(ReactiveForCausalLM(config), words, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_from_a_model_of_these_stages_and_from_nothing(tmp_path, byte_tokenizer, chats, monkeypatch, fresh):
    """A given model goes through all stages but the first, with its tokenizer, interaction limit and slots."""
    monkeypatch.setattr(prerequisites, "subprocess", SimpleNamespace(run=in_this_process))
    monkeypatch.setattr(remember, "measure", lambda folder, sizes: None)
    out = tmp_path / "own"
    options = ["--data", str(chats), "--output-dir", str(out), "--copies", "1", "--effort", "0.001", "--untold", "0"]
    if not fresh:
        options += ["--model", str(given_model(tmp_path / "given", byte_tokenizer))]
    remember.main(remember.parse_options(options))
    stages = [*(["pretrain"] if fresh else []), "interaction_sft", "memory_pretrain", "memory_sft", "mrl"]
    assert [json.loads((out / name / "metrics.json").read_text())["steps"] for name in stages] == [2] * len(stages)
    assert sorted(p.stem for p in (out / "recipes").iterdir()) == sorted(stages + ["tokenizer"] * fresh)
    plan = json.loads((out / "plan.json").read_text())
    config = json.loads((out / "mrl" / "model" / "config.json").read_text())
    assert (plan["interaction_limit"], plan["slots"]) == (config["max_interaction_length"], config["memory_slots"])
    assert ((plan["interaction_limit"], plan["slots"]) == (80, 20)) is not fresh
    assert not (out / "data" / "untold.jsonl").exists()
    assert json.loads((out / "derived.json").read_text())["untold_answer"] is None


def test_the_model_is_looked_at_before_anything_is_made(tmp_path, converted, chats):
    start = read_start(str(converted))
    assert (start.source, start.interaction_limit, start.slots) == (str(converted / "model"), 96, 48)
    assert start.converted
    wrong = {
        str(tmp_path / "causal"): r"--model: .* of type llama, which has no memory; .* uv run mrl/convert\.py --from",
        str(tmp_path / "nowhere"): "--model: there is no folder",
        str(chats.parent): "--model: .* holds no finished model",
    }
    for path, said in wrong.items():
        options = remember.parse_options(["--data", str(chats), "--model", path, "--output-dir", str(tmp_path / "own")])
        with pytest.raises(InputError, match=said):
            remember.main(options)
    assert not (tmp_path / "own").exists()
    config = json.loads((converted / "model" / "config.json").read_text())
    (tmp_path / "causal" / "config.json").write_text(json.dumps(config | {"memory_slots": 0}))
    with pytest.raises(InputError, match=r"has no memory \(memory_slots 0\)"):
        read_start(str(tmp_path / "causal"))
    (tmp_path / "causal" / "config.json").write_text("{")
    with pytest.raises(InputError, match="its configuration can't be read"):
        read_start(str(tmp_path / "causal"))
