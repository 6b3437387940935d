"""A model and a tokenizer small enough to train in seconds, and rows for them."""

import json
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.config import parse_config
from pipeline.run import open_run

CHATML = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}
{% else %}{{ message['content'] }}<|im_end|>
{% endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif %}"""
COLOURS = ["red", "blue", "green", "black", "white", "brown"]


def rows(count: int, seed: int = 0) -> list[dict]:
    """Chats of different lengths whose answer follows from the question."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        names = [draw.choice(COLOURS) for _ in range(draw.randint(1, 9))]
        question = "say " + " ".join(names)
        made.append(
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": " ".join(names)}]}
        )
    return made


def pairs(count: int, seed: int = 0) -> list[dict]:
    """Preference rows as whole conversations: the right colours against others."""
    made = []
    for row in rows(count, seed):
        question, answer = row["messages"]
        wrong = {"role": "assistant", "content": " ".join(reversed(answer["content"].split())) + " no"}
        made.append({"prompt": [question], "chosen": [question, answer], "rejected": [question, wrong]})
    return made


def write_rows(path: Path, made: list[dict]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def tokenizer(*, pad_is_eos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 320 tokens with ChatML's marks; by default <|im_end|> both ends and pads."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    text = [m["content"] for row in rows(200) for m in row["messages"]] + ["user assistant system"] * 50
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(text, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>" if pad_is_eos else "<|endoftext|>",
    )
    made.chat_template = CHATML
    return made


def model(vocabulary: int = 320, *, layers: int = 2, seed: int = 0, **settings) -> LlamaForCausalLM:
    """A Llama of some 50,000 parameters with grouped keys and tied embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.2,
        **settings,
    )
    return LlamaForCausalLM(config)


def save(folder: Path, **settings) -> Path:
    """Write a toy model with its tokenizer."""
    made = tokenizer()
    model(len(made), **settings).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def run(stage: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Run sft or dpo in this process, as the script would. Returns metrics.json; raises what the stage raises."""
    module = import_module(f"post_training.{stage}")
    config = parse_config(getattr(module, f"{stage.upper()}Stage"), recipe)
    with open_run(config, stage=stage, output_dir=config.output_dir, seed=config.seed) as opened:
        module.main(config, opened)
    return json.loads((config.output_dir / "metrics.json").read_text())


def recipe(start: Path, data: Path, output: Path, *, dataset: dict | None = None, **trainer: Any) -> dict[str, Any]:
    """A short recipe over the toy model in `start` and the rows in `data`."""
    return {
        "output_dir": str(output),
        "model": {"name": str(start)},
        "dataset": {"name": str(data), **(dataset or {})},
        "trainer": {
            "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no",
            "report_to": "none", "max_steps": 2, **trainer,
        },
    }  # fmt: skip
