"""Times and sizes of both kinds of model, on ones so small that their sizes are worked out by hand."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evaluation.memory.full_history import measure_full_history, measure_full_latency, whole_chat
from evaluation.memory.latency import measure_latency
from evaluation.memory.questions import questions_of
from mrl.dialogues.dataset import Conversation, Exchange

TURNS = ["1", "2", "4", "8", "16", "32", "64"]
ASKED = Exchange("what has Ann", "cat", facts=("cat",), distance=1)
CONVERSATION = Conversation((Exchange("Ann has the cat", "noted"), ASKED), "here")
OTHER = Conversation((Exchange("Bob has the owl", "noted"), Exchange("why", "because"), ASKED), "there")


@pytest.fixture
def chat_tokenizer(tokenizer):
    """The tokenizer with a chat template, padding on the left as the control needs it."""
    tokenizer = copy.deepcopy(tokenizer)  # padding leaves its mark on one that others use
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '[Q] ' if m.role == 'user' else '[A] ' }}{{ m.content }} {% endfor %}[A]"
    )
    tokenizer.padding_side = "left"
    return tokenizer


@pytest.fixture
def llama(tokenizer) -> LlamaForCausalLM:
    """Two layers, two heads of eight."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=512, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_a_memory_has_the_same_size_at_every_turn(model, tokenizer):
    figures = measure_latency(model.eval(), tokenizer, CONVERSATION, 2)
    times = figures["latency"]["reactive_ms"]
    assert list(times) == TURNS
    assert figures["latency_ratio_64_1"] == pytest.approx(times["64"] / times["1"], rel=0.05)
    assert figures["state_bytes"] == dict.fromkeys(TURNS, 2 * 4 * 32 * 4)  # layers, slots, width, bytes of fp32


def test_a_cache_grows_with_the_conversation(llama, chat_tokenizer):
    figures = measure_full_latency(llama, chat_tokenizer, CONVERSATION, 2)
    assert list(figures["latency"]["full_history_ms"]) == TURNS
    # [Q] what has Ann [A] and, from turn 2 on, [Q] Ann has the cat [A] noted before it: keys and values of 16 numbers
    # in two layers, four bytes each.
    assert [figures["full_history_cache_bytes"][turn] for turn in ("1", "2")] == [5 * 256, (5 + 7) * 256]


def test_the_control_reads_everything_that_was_said(llama, chat_tokenizer):
    assert whole_chat(chat_tokenizer, CONVERSATION.exchanges[:1], "why") == "[Q] Ann has the cat [A] noted [Q] why [A]"
    conversations = [CONVERSATION, OTHER]
    both = measure_full_history(llama, chat_tokenizer, conversations, questions_of(conversations), 4)
    # Padded to one width, each question is answered as it is alone.
    alone = [measure_full_history(llama, chat_tokenizer, [c], questions_of([c]), 4) for c in conversations]
    assert [s["answer"] for s in both.samples] == [tally.samples[0]["answer"] for tally in alone]
    assert both.sizes() == {"1": 2}
