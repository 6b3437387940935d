"""Starting weights that already copy and compare (Trockman & Kolter 2023, "Mimetic initialization of self-attention").

In every attention the output undoes the value projection, so that what is read arrives in the reader's stream as the
word it was; and queries start as keys, so that tokens look first at what resembles them. A question that names somebody
then finds the facts with that name before anything is learnt, and training only sharpens it. With ordinary weights a
model of this kind learns which values were told within 100 steps, and whose they are not in 1,500 (mrl/RESULTS.md).
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .attention import MemoryCrossAttention, SelfAttention
from .memory import LayerwiseAttention

SELF_SHARPNESS = 0.3
"""Scale of a self-attention's queries and keys: nearly even attention, which mixes a sentence's words."""
CROSS_SHARPNESS = 1.5
"""Of the memory cross-attention's: what resembles the question stands out."""


def orthonormal(heads: int, head_dim: int, width: int, like: Tensor) -> Tensor:
    """Random projections of `width` numbers to heads [heads, head_dim, width] that keep lengths and angles as far as
    they have room for them."""
    flat = torch.empty(heads * head_dim, width, dtype=torch.float32, device=like.device)
    return nn.init.orthogonal_(flat).view(heads, head_dim, width)


def shared(heads: Tensor, query_heads: int) -> Tensor:
    """Key/value heads [G, d, D] as the query heads see them [Hq * d, D]: each one serves Hq / G of these."""
    return heads.repeat_interleave(query_heads // heads.shape[0], 0).flatten(0, 1)


def start_mimetic(module: nn.Module) -> None:
    """Give an attention such weights; other modules keep what they have."""
    if isinstance(module, SelfAttention):
        weight = module.qkv.weight
        key, value = (orthonormal(module.kv_heads, module.head_dim, weight.shape[1], weight) for _ in range(2))
        query = shared(key, module.query_heads)
        init.copy_(weight, torch.cat([SELF_SHARPNESS * query, SELF_SHARPNESS * key.flatten(0, 1), value.flatten(0, 1)]))
        init.copy_(module.out.weight, _undone(value, module.query_heads))
    elif isinstance(module, MemoryCrossAttention):
        weight = module.key_value.weight
        key, value = (orthonormal(module.kv_heads, module.head_dim, weight.shape[1], weight) for _ in range(2))
        init.copy_(module.query.weight, CROSS_SHARPNESS * shared(key, module.query_heads))
        init.copy_(weight, torch.cat([CROSS_SHARPNESS * key.flatten(0, 1), value.flatten(0, 1)]))
        init.copy_(module.out.weight, _undone(value, module.query_heads))
    elif isinstance(module, LayerwiseAttention):
        # Slots write what they read as it is, but don't look for what resembles them: they would all find the same.
        layers, width, _ = module.key_value.shape
        values = [orthonormal(module.kv_heads, module.head_dim, width, module.out) for _ in range(layers)]
        key = module.key_value.detach()[:, :, : module.kv_heads * module.head_dim]
        init.copy_(module.key_value, torch.cat([key, torch.stack([v.flatten(0, 1).T for v in values])], -1))
        init.copy_(module.out, torch.stack([_undone(v, module.query_heads).T for v in values]))


def _undone(value: Tensor, query_heads: int) -> Tensor:
    """The output matrix [D, Hq * d] that takes values back: a value head that serves several queries counts once."""
    return shared(value, query_heads).T * (value.shape[0] / query_heads)
