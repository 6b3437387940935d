"""The memory at work in numbers: what a turn moved, what an answer read, and what reading everything again would cost.

Shapes: L layers, S slots.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mrl.model import MemoryState, ReactiveConfig, ReactiveForCausalLM
from mrl.model.attention import MemoryCrossAttention, joint_mask, rotate
from mrl.model.decoding import prefill, step
from mrl.model.layers import DecoderLayer


def slots_moved(before: MemoryState, after: MemoryState) -> Tensor:
    """How far a write moved each slot [L, S] of a state of one row: |after - before| / (|after| + |before|).

    0: left alone; 1: nothing of the old slot is in the new one's direction (it was turned round, or was zero).
    """
    old, new = before.slots[:, 0].float(), after.slots[:, 0].float()
    total = (new.norm(dim=-1) + old.norm(dim=-1)).clamp(min=1e-12)
    return ((new - old).norm(dim=-1) / total).cpu()


@torch.inference_mode()
def slots_read(
    model: ReactiveForCausalLM, interaction: Sequence[int], state: MemoryState, first: int, last: int
) -> Tensor:
    """Attention weights [R, S] on the slots, of the R layers that read the memory, averaged over heads and over the
    positions `first` to `last` (exclusive) of an interaction. Each layer's sum to 1; where slots stand beside the
    tokens in one softmax, to the share that they have of it. Slots that hold nothing have 0.

    The interaction is read once more as a whole: a decoding step keeps no weights, and gives the same numbers.
    """
    weights: list[Tensor] = []

    def keep(query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        key = key[0].repeat_interleave(query.shape[2] // key.shape[2], 1)
        scores = torch.einsum("thd,shd->hts", query[0], key).float() * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[0], float("-inf"))
        weight = scores.softmax(-1).nan_to_num()[:, first:last, : state.shape[2]]  # nothing to read: no weight at all
        weights.append(weight.mean((0, 1)).cpu())

    def apart(module: MemoryCrossAttention, inputs: tuple[Tensor, ...]) -> None:
        x, key, _, table, mask = inputs
        keep(rotate(module.query(x).unflatten(-1, (-1, module.head_dim)), table), key, mask)

    def jointly(layer: DecoderLayer, inputs: tuple[Tensor, ...]) -> None:
        x, table, memory, mask = inputs
        query, key, _ = layer.attention.project(layer.attention_norm(x), table)
        slots, _ = layer.project_memory(memory)
        shown = x.new_ones(1, 1, 1, slots.shape[1], dtype=torch.bool) if mask is None else mask
        keep(query, torch.cat([slots, key], 1), joint_mask(shown, *x.shape[:2]))

    handles = []
    for module in model.modules():
        if isinstance(module, MemoryCrossAttention):
            handles.append(module.register_forward_pre_hook(apart))
        elif isinstance(module, DecoderLayer) and module.joint:
            handles.append(module.register_forward_pre_hook(jointly))
    try:
        model.model.hidden(torch.tensor([list(interaction)], device=model.device), state)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(weights)


def cache_bytes(config: ReactiveConfig, tokens: int, element_size: int = 4) -> int:
    """Keys and values that a decoder of this size keeps of so many tokens of history, computed from its sizes."""
    _, kv_heads = config.token_heads
    return 2 * config.num_hidden_layers * kv_heads * config.head_dim * element_size * tokens


@torch.inference_mode()
def full_history_ms(model: ReactiveForCausalLM, tokens: Sequence[int]) -> float:
    """Milliseconds in which this model's decoder, without its memory, reads so many tokens and says its first: the
    last of them is the marker that every reply begins with, fed on its own as there."""
    *before, marker = tokens
    ids = torch.tensor([before], device=model.device)
    started = time.perf_counter()
    _, cache = prefill(model, ids, torch.ones_like(ids), None, 1, last_only=True)
    int(step(model, torch.tensor([marker], device=ids.device), cache).argmax())
    return 1e3 * (time.perf_counter() - started)
