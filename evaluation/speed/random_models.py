"""The random models that the speed measurements of `mrl/` measure; all of them by the same command-line sizes."""

import argparse
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mrl.model import ReactiveConfig, ReactiveForCausalLM


def reactive_model(arguments: argparse.Namespace, longest: int, **fields: Any) -> ReactiveForCausalLM:
    """A reactive model for interactions of up to `longest` tokens; `fields` are further ones of ReactiveConfig."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": arguments.vocab,
        "hidden_size": arguments.width,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.heads,
        "intermediate_size": 3 * arguments.width,
        "memory_slots": arguments.slots,
        "max_interaction_length": longest,
    }
    return ReactiveForCausalLM(ReactiveConfig(**sizes | fields))


def llama_model(arguments: argparse.Namespace, longest: int, **fields: Any) -> LlamaForCausalLM:
    """The plain decoder beside it: the same width, depth, heads and feed-forward width."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": arguments.vocab,
        "hidden_size": arguments.width,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.heads,
        "num_key_value_heads": arguments.heads,
        "intermediate_size": 3 * arguments.width,
        "max_position_embeddings": longest,
        "attn_implementation": "sdpa",
    }
    return LlamaForCausalLM(LlamaConfig(**sizes | fields))
