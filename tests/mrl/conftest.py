"""A tokenizer and a model small enough for tests, and memory episodes written by hand."""

import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mrl.model import ReactiveConfig, ReactiveForCausalLM

FRAME = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]"]
WORDS = "who what has the a is noted Ann Bob Cid Dan cat dog owl fox red tea sun why because .".split()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word a token; ids 0-7 are the frame, `who` is 8, `what` 9 and so on."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(FRAME + WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]", mask_token="[MASK]",
        additional_special_tokens=["[Q]", "[A]", "[T]"],
    )  # fmt: skip


@pytest.fixture
def model() -> ReactiveForCausalLM:
    torch.manual_seed(0)
    return ReactiveForCausalLM(
        ReactiveConfig(
            vocab_size=len(FRAME + WORDS),
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=48,
            memory_slots=4,
            max_interaction_length=24,
            initial_state="learned",
            initial_state_std=0.5,
        )
    )


def episode(rng: random.Random, steps: int) -> dict:
    """Statements, then questions: `steps` interactions after the first."""
    told = rng.sample(["Ann", "Bob", "Cid", "Dan"], max(1, (steps + 1) // 2))
    pets = {name: rng.choice(["cat", "dog", "owl", "fox"]) for name in told}
    turns = [{"query": f"{n} has the {p} .", "answer": "noted", "facts": [], "distance": None} for n, p in pets.items()]
    while len(turns) <= steps:
        name = rng.choice(told)
        distance = len(turns) - told.index(name)
        turns.append({"query": f"what has {name}", "answer": pets[name], "facts": [pets[name]], "distance": distance})
    return {**turns[0], "interactions": turns[1:]}


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """A folder with subsets steps-1 and steps-3, splits train and test."""
    for steps in (1, 3):
        for split, count in (("train", 40), ("test", 12)):
            rng = random.Random(f"{steps} {split}")
            folder = tmp_path / "episodes" / f"steps-{steps}"
            folder.mkdir(parents=True, exist_ok=True)
            rows = [json.dumps(episode(rng, steps)) for _ in range(count)]
            (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path / "episodes"
