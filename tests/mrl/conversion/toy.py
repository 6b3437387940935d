"""Causal models and a chat tokenizer small enough for tests, and conversations of their few words."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from mrl.model import ReactiveForCausalLM

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = ["<unk>", "\n", "user", "assistant", *"abcdefgh", "alpha", "beta", "gamma", "<", "/", "think", ">"]
VALUES = ("alpha", "beta", "gamma")


def chat_tokenizer(*, thoughts: bool = True) -> PreTrainedTokenizerFast:
    """A word a token, ChatML; thoughts: `<think>` and `</think>` are a token each, as in trlm's models, and else
    several, as in a model that never saw them."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[<>/\n]"), "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<|im_end|>")
    marks = ["<|im_start|>", "<|head|>", "<|/head|>", *(["<think>", "</think>"] if thoughts else [])]
    made.add_special_tokens({"additional_special_tokens": [AddedToken(m, special=True) for m in marks]})
    made.chat_template = CHATML
    return made


def causal_checkpoint(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Two Llama layers with random weights, saved as a stage of post_training/ leaves them; returns the stage's
    folder."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
HEADER = [7, 8, 9]
MEMORY = {
    "memory_slots": 12,
    "max_interaction_length": 64,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "encoder": "shared",
    "turn_frame": {
        "header": HEADER,
        "opening": HEADER,
        "answer": [4, 7, 5],
        "think": [4, 7, 5, 6],
        "think_end": [2, 1],
        "end": [3],
    },
}


READERS = {
    "joint": {},
    "joint in two layers": {"memory_layers": [0, 2]},
    "cross": {"memory_read": "cross"},
    "cross in one layer": {"memory_read": "cross", "memory_layers": [1]},
}


def causal(kind=LlamaConfig, **more):
    """A causal model of three layers with random weights and biases."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(kind(**SIZES, **more)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def tokens(*shape, seed=0):
    """Ids that are part of no marker."""
    return torch.randint(10, 61, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def opened(model: ReactiveForCausalLM) -> ReactiveForCausalLM:
    """The model as if it had learnt: gates are open, places of slots tell something."""
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(0.07)
        elif name.endswith("place"):
            torch.nn.init.normal_(parameter)
    return model


def write_rows(path: Path) -> Path:
    """Dialogues of two interactions, a JSONL: something is told, then asked for; each answer has one that is worse."""
    rows = []
    for place, letter in enumerate("abcdefgh"):
        for value in VALUES:
            other = VALUES[(VALUES.index(value) + 1 + place % 2) % 3]
            asked = {"query": f"{letter} g", "answer": value, "rejected": other, "facts": [value], "distance": 1}
            rows.append({"query": f"{letter} {value}", "answer": "h", "interactions": [asked]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
