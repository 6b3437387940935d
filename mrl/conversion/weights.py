"""A Llama's weights in the places of a reactive decoder, which computes the same where its memory is empty."""

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from mrl.model import ReactiveConfig, ReactiveForCausalLM
from pipeline.errors import InputError

FAMILIES = ("llama", "mistral", "qwen2")
"""Values of `model_type` whose layers are a reactive decoder's: pre-norm RMS, rotary positions, SwiGLU."""
NORMED_HEADS = ("qwen3", "qwen3_moe")
"""Values near to them, but whose attention norms queries and keys."""


def require_supported(config: PretrainedConfig, where: str) -> None:
    """Raises InputError naming the first part of an architecture that a reactive decoder doesn't have."""
    if config.model_type not in FAMILIES:
        why = " (its attention norms queries and keys: q_norm, k_norm)" if config.model_type in NORMED_HEADS else ""
        raise InputError(f"{where}: model_type {config.model_type}{why} can't be converted; {', '.join(FAMILIES)} can")
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds or (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)):
        raise InputError(f"{where}: sliding-window attention can't be converted; a memory takes its place")
    rope = getattr(config, "rope_parameters", None) or {}
    if (kind := rope.get("rope_type", "default")) != "default":
        raise InputError(f"{where}: rotary positions of rope_type {kind} can't be converted; only default ones can")
    if getattr(config, "mlp_bias", False):
        raise InputError(f"{where}: mlp_bias can't be converted; the reactive feed-forward layers have no bias")
    if config.hidden_act != "silu":
        raise InputError(f"{where}: hidden_act {config.hidden_act} can't be converted; only silu can")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head * config.num_attention_heads != config.hidden_size:
        raise InputError(
            f"{where}: head_dim {head} x num_attention_heads {config.num_attention_heads} isn't hidden_size "
            f"{config.hidden_size}; such heads can't be converted"
        )


def shape_of(config: PretrainedConfig) -> dict[str, Any]:
    """Fields of ReactiveConfig that the causal configuration decides."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "rope_base": (getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0),
        "rms_norm_eps": config.rms_norm_eps,
        "attention_bias": config.model_type == "qwen2" or bool(getattr(config, "attention_bias", False)),
        "scale_embedding": False,
        "tie_word_embeddings": bool(config.tie_word_embeddings),
        "max_position_embeddings": config.max_position_embeddings,
    }


def reactive_weights(source: dict[str, Tensor], config: ReactiveConfig) -> dict[str, Tensor]:
    """State dict of a causal Llama under the names of `ReactiveForCausalLM`; projections that are one product here are
    joined. Biases that the causal model lacks where the reactive one has them are zero. Slots are read as the layer
    reads tokens (what has no counterpart in the causal model, places and gates, isn't in the result), and an encoder of
    its own is a copy of the decoder."""
    place = {
        "model.embedding.weight": source["model.embed_tokens.weight"],
        "model.decoder_norm.weight": source["model.norm.weight"],
        "lm_head.weight": source.get("lm_head.weight", source["model.embed_tokens.weight"]),
    }
    for index in range(config.num_hidden_layers):
        old, new = f"model.layers.{index}", f"model.decoder.{index}"
        attention = f"{old}.self_attn"
        for kind in ("weight", "bias"):
            if f"{attention}.q_proj.{kind}" not in source:
                continue
            parts = [source[f"{attention}.{name}_proj.{kind}"] for name in "qkv"]
            place[f"{new}.attention.qkv.{kind}"] = torch.cat(parts)
            out = source.get(f"{attention}.o_proj.{kind}")
            width = source[f"{attention}.o_proj.weight"].shape[0]
            place[f"{new}.attention.out.{kind}"] = parts[0].new_zeros(width) if out is None else out
        place[f"{new}.attention_norm.weight"] = source[f"{old}.input_layernorm.weight"]
        place[f"{new}.forward_norm.weight"] = source[f"{old}.post_attention_layernorm.weight"]
        gates = [source[f"{old}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
        place[f"{new}.feed_forward.gate_up.weight"] = torch.cat(gates)
        place[f"{new}.feed_forward.down.weight"] = source[f"{old}.mlp.down_proj.weight"]
    if config.encoder == "own":
        copied = (name for name in list(place) if name.startswith("model.decoder"))
        place |= {name.replace("model.decoder", "model.encoder"): place[name] for name in copied}
    return place | _readers(source, config)


def _readers(source: dict[str, Tensor], config: ReactiveConfig) -> dict[str, Tensor]:
    """What reads the slots: copies of the self-attention's projections, and of its norm where a reader has its own."""
    place = {}
    for index in config.reading_layers:
        old, new = f"model.layers.{index}.self_attn", f"model.decoder.{index}"
        cross = config.memory_read == "cross"
        reader = f"{new}.cross_attention" if cross else f"{new}.slot_reader"
        for kind in ("weight", "bias"):
            if f"{old}.q_proj.{kind}" not in source:
                continue
            query, key, value = (source[f"{old}.{name}_proj.{kind}"] for name in "qkv")
            place[f"{reader}.key_value.{kind}"] = torch.cat([key, value])
            if cross:
                place[f"{reader}.query.{kind}"] = query
        if cross:
            place[f"{reader}.out.weight"] = source[f"{old}.o_proj.weight"]
            norm = source[f"model.layers.{index}.input_layernorm.weight"]
            place |= {f"{new}.{name}.weight": norm for name in ("cross_norm", "memory_norm")}
    return place


def reactive_from_causal(causal: Any, **memory: Any) -> ReactiveForCausalLM:
    """A reactive model with the causal model's weights; `memory`: further fields of ReactiveConfig. Raises ValueError
    for fields that contradict each other."""
    fields: dict[str, Any] = {"memory_read": "joint", "memory_write": "surprise", "initial_state": "empty", **memory}
    config = ReactiveConfig(**shape_of(causal.config), **fields)
    model = ReactiveForCausalLM(config)
    report = model.load_state_dict(reactive_weights(causal.state_dict(), config), strict=False)
    # Those start at 0: nothing is known of a slot's place yet, and a gate is shut.
    new = (
        "token_worth.weight",
        "token_worth.bias",
        *(f"{of}.{name}" for of in ("slot_reader", "cross_attention") for name in ("place", "gate")),
    )
    without = [*report.unexpected_keys, *(name for name in report.missing_keys if not name.endswith(new))]
    if without:
        raise ValueError(f"the causal model's weights don't fill the decoder (first: {without[0]})")
    return model
