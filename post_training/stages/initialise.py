"""A small Llama with random weights: what post_training/initialise.py does."""

import math
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.artifact import atomic_dir
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable
from pipeline.run import Run
from post_training.policy import MODEL_FOLDER, agree_on_turn_end, load_policy
from post_training.recipes.model import ArchitectureConfig, StartConfig
from post_training.recipes.stages import InitialiseConfig


def new_model(
    architecture: ArchitectureConfig, start: StartConfig, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """A Llama (with experts: a Mixtral) with as many embedding rows as the tokenizer has tokens, fp32."""
    heads = architecture.num_attention_heads
    if len(start.look_back) > min(heads, architecture.num_key_value_heads or heads):
        raise InputError("start.look_back: there are fewer heads in a layer than distances; drop some")
    if start.induction and architecture.num_hidden_layers < 2:
        raise InputError("start.induction: its heads lie in the second layer, and the model has one")
    shape: dict[str, Any] = {**vars(architecture), "num_key_value_heads": architecture.num_key_value_heads or heads}
    experts, each = shape.pop("num_experts"), shape.pop("experts_per_token")
    shape["vocab_size"] = len(tokenizer)
    if experts is None:
        model: Any = LlamaForCausalLM(LlamaConfig(**shape, attention_bias=bool(start.look_back)))
    else:
        mixture = {"num_local_experts": experts, "num_experts_per_tok": each}
        model = MixtralForCausalLM(MixtralConfig(**shape, **mixture, sliding_window=None))
    with torch.no_grad():
        if start.embedding_std is not None:
            embedding: Any = model.get_input_embeddings()
            embedding.weight.mul_(start.embedding_std / architecture.initializer_range)
        if start.copying:
            layers: Any = model.model.layers
            for layer in layers:
                lay_copying(layer.self_attn, start.copying)
        for head, distance in enumerate(start.look_back):
            lay_look_back(model, head, distance, start.look_back_strength)
        if start.induction:
            lay_induction(model, len(start.look_back), start.induction, start.copying)
    return model


def lay_copying(attention: Any, gain: float) -> None:
    """Output matrix = transpose of an orthogonal value matrix: a token that is read is written on, times gain²."""
    value, output = attention.v_proj.weight, attention.o_proj.weight
    torch.nn.init.orthogonal_(value)
    value.mul_(gain)
    groups = output.shape[1] // value.shape[0]
    head_dim = attention.head_dim
    per_head = value.view(-1, 1, head_dim, value.shape[1]).expand(-1, groups, -1, -1).reshape(output.shape[1], -1)
    output.copy_(per_head.T / groups)


def rows_of(attention: Any, head: int) -> tuple[slice, slice]:
    """Rows of a key head in the matrices of keys and values, and before them those of the first query head that reads
    it, in the matrix of queries."""
    size = attention.head_dim
    query = head * attention.num_key_value_groups
    return slice(query * size, (query + 1) * size), slice(head * size, (head + 1) * size)


def lay_look_back(model: Any, head: int, distance: int, strength: float) -> None:
    """Make a head of the first layer attend `distance` tokens back, whatever the tokens are.

    Rotary embedding turns pair i of a query at t and of a key at s by w_i·t and w_i·s. With the key bias along the
    first axis of every pair and the query bias at the angle -w_i·distance, their product is the sum over i of
    strength²·cos(w_i·(t - s - distance)), which is largest at t - s = distance.
    """
    attention = model.model.layers[0].self_attn
    size = attention.head_dim
    half = size // 2
    theta = model.config.rope_parameters["rope_theta"]
    angle = -distance * theta ** (-torch.arange(half) * 2 / size)
    for matrix, rows in zip((attention.q_proj, attention.k_proj), rows_of(attention, head), strict=True):
        matrix.weight[rows] *= 0.3
        first, second = matrix.bias[rows].split(half)
        if matrix is attention.k_proj:
            first.fill_(strength)
        else:
            first.copy_(strength * torch.cos(angle))
            second.copy_(strength * torch.sin(angle))


def lay_induction(model: Any, heads: int, logit: float, gain: float) -> None:
    """Make the first heads of the second layer look for what followed the present words before.

    The first layer's heads look 1, 2, … tokens back. Head 0 here attends to tokens one behind an earlier reading of the
    present token, head 1 to those two behind one of the token before it, and so on: all to what came next, each by
    another word of the context. What the first layer's heads read is written in directions of their own, so that a
    token isn't taken for the one before it. Query and key use the slow half of the rotary pairs only, which hardly turn
    within a conversation.
    """
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    size = first.head_dim
    half = size // 2
    slow = [*range(half // 2, half), *range(half + half // 2, size)]
    # Of a token of unit root mean square each row sees about one; as many rows make a match.
    scale = math.sqrt(logit * math.sqrt(size) / len(slow))
    # Left alone, every head would see tokens in a basis of its own; all of these take the first one's.
    seen = first.v_proj.weight[:size] / gain
    known = seen
    for head in range(heads):
        queries, keys = rows_of(first, head)
        first.v_proj.weight[keys] = gain * seen
        written = torch.nn.init.orthogonal_(torch.empty_like(seen))
        first.o_proj.weight[:, queries] = gain * written.T
        for matrix, rows, basis in ((second.q_proj, queries, known), (second.k_proj, keys, written)):
            matrix.weight[rows] = 0.0
            matrix.weight[rows][slow] = scale * basis[slow]
        known = written


def from_nothing(config: InitialiseConfig) -> tuple[PreTrainedModel, Any]:
    """A new model and its tokenizer. Raises InputError where there is no such tokenizer."""
    keep_hub_offline_if_unreachable(str(config.tokenizer))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(config.tokenizer, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise InputError(
            f"tokenizer: {config.tokenizer} can't be loaded: {first_line(error)}; train it with data/tokenizer.py"
        ) from None
    model = new_model(config.architecture, config.start, tokenizer)
    agree_on_turn_end(model, tokenizer)
    return model, tokenizer


def run_stage(config: InitialiseConfig, run: Run) -> None:
    """Build or read, save, count."""
    tokenizer: Any
    if config.model is not None:
        model, tokenizer, _ = load_policy(config.model, None)
    else:
        model, tokenizer = from_nothing(config)
    parameters = sum(p.numel() for p in model.parameters())
    with atomic_dir(run.dir / MODEL_FOLDER, {"kind": "model", "parameters": parameters, "seed": config.seed}) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    loss_of_guessing = math.log(len(tokenizer))
    run.report(parameters=parameters, vocab_size=len(tokenizer), loss_of_guessing=round(loss_of_guessing, 4))
