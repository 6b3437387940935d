"""Every recipe of next_steps/ starts, made small by --set, and what it leaves is what the next stage begins with."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pipeline.config import load_config, load_yaml
from pipeline.run import open_run
from post_training.recipes.stages import InitialiseConfig, SFTStage
from tests.post_training import toy
from tests.post_training.test_runs import same, weights

CONFIG = Path(__file__).parents[2] / "post_training" / "config"
TESTED = {"experts_model", "llama_280m_model", "pretrain", "smollm2_360m_stage_1"}
SMALL_MODEL = {
    "architecture.hidden_size": 32, "architecture.intermediate_size": 64, "architecture.num_hidden_layers": 2,
    "architecture.num_attention_heads": 4, "architecture.num_key_value_heads": 2,
}  # fmt: skip
FEW_STEPS = {
    "trainer.max_steps": 3, "trainer.per_device_train_batch_size": 4, "trainer.gradient_accumulation_steps": 1,
    "trainer.max_length": 64, "trainer.logging_steps": 1, "trainer.report_to": "none", "trainer.learning_rate": 1e-2,
}  # fmt: skip


def run(recipe: str, output: Path, **changes: Any) -> dict[str, Any]:
    """Run a recipe of the room with `changes` as --set would make them (`__` for dots). Returns metrics.json."""
    stage, kind = ("initialise", InitialiseConfig) if recipe.endswith("model") else ("sft", SFTStage)
    settings = {"output_dir": str(output), **{name.replace("__", "."): value for name, value in changes.items()}}
    config = load_config(kind, CONFIG / f"{recipe}.yaml", [f"{key}={value}" for key, value in settings.items()])
    with open_run(config, stage=stage, output_dir=config.output_dir, seed=config.seed) as opened:
        import_module(f"post_training.{stage}").main(config, opened)
    facts = json.loads((output / "metrics.json").read_text())
    assert facts["status"] == "complete"
    return facts


def losses(output: Path) -> list[float]:
    """The loss of every step."""
    return [line["loss"] for line in map(json.loads, (output / "metrics.jsonl").open()) if "loss" in line]


def logits(output: Path) -> torch.Tensor:
    """What the model that a run left says of a few tokens, read as any program would read it."""
    model = AutoModelForCausalLM.from_pretrained(output / "model").eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 19)[None]).logits


@pytest.fixture(scope="module")
def chats(tmp_path_factory) -> Path:
    return toy.write_rows(tmp_path_factory.mktemp("rows") / "chat.jsonl", toy.rows(40))


def test_no_recipe_is_left_untested():
    assert {path.stem for path in (CONFIG / "next_steps").glob("*.yaml")} == TESTED


def test_a_mixture_of_experts_is_made_and_goes_through_two_stages(start, chats, tmp_path):
    made = run("next_steps/experts_model", tmp_path / "experts", tokenizer=start, **SMALL_MODEL)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "experts" / "model")
    config = model.config
    assert (config.model_type, config.num_local_experts, config.num_experts_per_tok) == ("mixtral", 4, 2)
    assert sum(p.numel() for p in model.parameters()) == made["parameters"]
    before = dict(model.named_parameters())
    common = {**FEW_STEPS, "dataset.name": chats, "trainer.warmup_steps": 0}
    run("quickstart/stage_1", tmp_path / "one", **common, **{"model.name": tmp_path / "experts"})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one" / "model")
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == before.keys()  # every layer's router and experts among them
    assert any("gate" in name for name in moved)
    assert any("experts" in name for name in moved)
    second = {**common, "model.name": tmp_path / "one", "trainer.lr_scheduler_kwargs": "{num_decay_steps: 1}"}
    run("quickstart/stage_2_ordered", tmp_path / "two", **second)
    assert losses(tmp_path / "two")[0] < losses(tmp_path / "one")[0]
    assert torch.isfinite(logits(tmp_path / "two")).all()
    assert not torch.equal(logits(tmp_path / "one"), logits(tmp_path / "two"))
    assert "aux_loss" in (tmp_path / "two" / "metrics.jsonl").read_text()  # experts are kept in balance
    left_padded = {
        "input_ids": torch.tensor([[5, 6, 7], [0, 0, 8]]),
        "attention_mask": torch.tensor([[1, 1, 1], [0, 0, 1]]),
    }
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "model")
    assert model.generate(**left_padded, max_new_tokens=3, min_new_tokens=3).shape == (2, 6)


def test_a_larger_llama_is_made_and_trained(start, chats, tmp_path):
    made = run("next_steps/llama_280m_model", tmp_path / "llama", tokenizer=start, **SMALL_MODEL)
    assert made["vocab_size"] == len(toy.tokenizer())
    changes = {**FEW_STEPS, "dataset.name": chats, "model.name": tmp_path / "llama", "trainer.warmup_steps": 0}
    run("quickstart/stage_1", tmp_path / "one", **changes)
    assert losses(tmp_path / "one")[-1] < losses(tmp_path / "one")[0]
    # Its real size, without its weights: the vocabulary is SmolLM2's.
    shape = load_yaml(CONFIG / "next_steps" / "llama_280m_model.yaml")["architecture"]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=49152, tie_word_embeddings=True))
    assert 270e6 < sum(p.numel() for p in model.parameters()) < 280e6


def test_pretraining_on_thoughts_goes_before_stage_1(start, chats, tmp_path):
    """Stage 1 is that of the larger backbone, whose recipe thereby starts as well."""
    thoughts = [
        {"question": row["messages"][0]["content"], "think": f"first {row['messages'][1]['content']} then done"}
        for row in toy.rows(40)
    ]
    rows = toy.write_rows(tmp_path / "thoughts.jsonl", thoughts)
    changes = {**FEW_STEPS, "dataset.name": rows, "model.name": start, "trainer.warmup_steps": 0}
    facts = run("next_steps/pretrain", tmp_path / "pretrain", **changes)
    assert facts["rows"] == 40
    preview = (tmp_path / "pretrain" / "preview.txt").read_text()
    assert "first" in preview
    assert "<|im_start|>" not in preview  # plain text, no chat
    assert losses(tmp_path / "pretrain")[-1] < losses(tmp_path / "pretrain")[0]
    changes |= {"dataset.name": chats, "model.name": tmp_path / "pretrain", "trainer.max_length": 200}
    facts = run("next_steps/smollm2_360m_stage_1", tmp_path / "one", **changes)
    assert "Tiny Reasoning Language Model" in (tmp_path / "one" / "preview.txt").read_text()
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "pretrain"))
    plain = run("next_steps/smollm2_360m_stage_1", tmp_path / "plain", **{**changes, "model.name": start})
    assert plain["start_fingerprint"] != facts["start_fingerprint"]
