"""Documents of different lengths laid end to end: no padding, no attention between them, on any device.

TRL's batches stay what they are (padded, or packed with position ids). Before the model sees one, its real tokens are
laid into one row, longest document first, in groups of nearly equal length. Linear layers, norms and the loss run once
over that row; attention runs once per group, as a rectangle of documents under a plain causal mask, so no dense block
mask (quadratic in the row) is ever built and no token can see another document. The few padding tokens are those that
make a group a rectangle; they stand at the end of their document, where causality hides them.

The head computes log-probabilities only where a label counts and in pieces that fit the cache.
"""

import types
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from trl.trainer.utils import FusedCausalLMOutput

from post_training.operators import LONGEST_BY_PRODUCTS, causal_products, label_log_probs, root_mean_square_norm

ATTENTION = "ragged"
IGNORED = -100
_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Layout:
    """Where each token of a batch goes. `sources[i]` is the flat index in the batch of row token i (padding repeats
    the document's last token), `positions[i]` its place in its document, `groups` the (documents, length) rectangles,
    `order` the documents in row order, `targets` the row index of each real token in document order of the batch."""

    sources: torch.Tensor
    positions: torch.Tensor
    groups: tuple[tuple[int, int], ...]
    row_of: torch.Tensor


def plan_groups(lengths: tuple[int, ...], group_cost: int) -> tuple[tuple[int, int], ...]:
    """Cut descending `lengths` into (count, longest) rectangles so that padding + group_cost per group is least.

    Exact dynamic programme over the cut positions; lengths are first counted, so equal ones cost nothing extra.
    """
    distinct: list[list[int]] = []
    for length in lengths:
        if distinct and distinct[-1][0] == length:
            distinct[-1][1] += 1
        else:
            distinct.append([length, 1])
    n = len(distinct)
    best: list[float] = [0.0] + [float("inf")] * n
    cut = [0] * (n + 1)
    for end in range(1, n + 1):
        padding = count = tokens = 0
        for start in range(end - 1, -1, -1):
            length, times = distinct[start]
            count += times
            tokens += length * times
            padding = length * count - tokens
            cost = best[start] + padding + group_cost
            if cost < best[end]:
                best[end], cut[end] = cost, start
            if padding > best[end]:  # going further back only adds padding
                break
    groups = []
    end = n
    while end:
        start = cut[end]
        groups.append((sum(times for _, times in distinct[start:end]), distinct[start][0]))
        end = start
    return tuple(reversed(groups))


@lru_cache(maxsize=64)
def _layout(starts: tuple[int, ...], lengths: tuple[int, ...], size: int, group_cost: int) -> Layout:
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups = plan_groups(tuple(lengths[i] for i in order), group_cost)
    sources, positions = [], []
    row_of = torch.full((size,), -1, dtype=torch.long)
    offset, cursor = 0, 0
    for count, longest in groups:
        for document in order[cursor : cursor + count]:
            place = torch.arange(longest)
            source = starts[document] + place.clamp(max=lengths[document] - 1)
            sources.append(source)
            positions.append(place)
            row_of[starts[document] : starts[document] + lengths[document]] = offset + place[: lengths[document]]
            offset += longest
        cursor += count
    return Layout(torch.cat(sources), torch.cat(positions), groups, row_of)


def layout_of(inputs: dict[str, Any], group_cost: int) -> Layout:
    """The layout of a batch with `attention_mask` [batch, length] (padded on the right) or `position_ids` (packed)."""
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is not None:
        width = mask.shape[1]
        lengths = [int(n) for n in mask.sum(dim=1).tolist()]
        starts = [row * width for row in range(len(lengths))]
        return _layout(tuple(starts), tuple(lengths), mask.numel(), group_cost)
    if positions is not None:
        flat = positions.reshape(-1)
        starts = (flat == 0).nonzero().flatten().tolist()
        lengths = [b - a for a, b in zip(starts, [*starts[1:], flat.numel()], strict=True)]
        return _layout(tuple(starts), tuple(lengths), flat.numel(), group_cost)
    batch, width = inputs["input_ids"].shape
    return _layout(tuple(row * width for row in range(batch)), (width,) * batch, batch * width, group_cost)


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, heads, tokens, dim]
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    groups: tuple[tuple[int, int], ...] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document of each group; ordinary SDPA when no groups are given (generation)."""
    if groups is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    device = query.device.type
    if torch.is_autocast_enabled(device):  # rotation leaves queries and keys wider than values
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    by_products = device == "cpu" and query.dtype is torch.bfloat16 and dropout == 0 and query.requires_grad
    out = []
    sizes = [count * length for count, length in groups]
    parts = zip(groups, *(x[0].split(sizes, dim=1) for x in (query, key, value)), strict=True)
    for (count, length), q, k, v in parts:
        # [heads, count * length, dim] -> [count, heads, length, dim]
        q, k, v = (x.unflatten(1, (count, length)).transpose(0, 1) for x in (q, k, v))
        if by_products and length <= LONGEST_BY_PRODUCTS:
            attended = causal_products(q, k, v, scaling)
        else:
            attended = F.scaled_dot_product_attention(
                q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
            )
        out.append(attended.transpose(1, 2).flatten(0, 1))  # [count * length, heads, dim]
    return torch.cat(out)[None], None


AttentionInterface.register(ATTENTION, ragged_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def supports(model: PreTrainedModel) -> bool:
    """Whether the model is a plain decoder with swappable attention and a plain head."""
    config = model.config
    return (
        config.model_type in _FAMILIES
        and config._attn_implementation in ("sdpa", "eager", ATTENTION)
        and not getattr(config, "sliding_window", None)
        and not getattr(config, "final_logit_softcapping", None)
        and getattr(model.get_output_embeddings(), "bias", None) is None
    )


def lay_end_to_end(model: PreTrainedModel) -> bool:
    """Make `model(**batch, labels=…, fused_lm_head=True)`, TRL's training call, run without padding.

    Does nothing and returns False for models that it doesn't know. Call it after TRL patched the model. The result of
    any other call, generation included, is unchanged.
    """
    if getattr(model, "_ragged", False):
        return True
    if not supports(model):
        return False
    before = model.forward
    model.set_attn_implementation(ATTENTION)

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **inputs: Any) -> Any:
        if not fused_lm_head:
            if labels is not None:
                inputs["labels"] = labels
            return before(*args, **inputs)
        return _log_probs(self, labels, inputs)

    model.forward = types.MethodType(forward, model)
    if next(model.parameters()).device.type == "cpu":
        _quicken_norms(model)
    model._ragged = True  # ty: ignore[invalid-assignment]
    return True


def _quicken_norms(model: PreTrainedModel) -> None:
    """Use one operator for each RMSNorm of the model's own family (the same numbers, fewer passes over memory)."""

    def forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        return root_mean_square_norm(hidden_states, self.weight, self.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.forward = types.MethodType(forward, module)


def _log_probs(model: PreTrainedModel, labels: torch.Tensor, inputs: dict[str, Any]) -> FusedCausalLMOutput:
    ids = inputs["input_ids"]  # [batch, length]
    device = ids.device
    layout = layout_of(inputs, group_cost=24 if device.type == "cpu" else 512)
    sources, positions = layout.sources.to(device), layout.positions.to(device)
    embeddings = model.get_input_embeddings()
    if getattr(embeddings, "neftune_noise_alpha", None) and model.training:
        # NEFTune scales its noise by the batch's length: embed the batch as it came, then lay out.
        row = {"inputs_embeds": embeddings(ids).flatten(0, 1)[sources][None]}
    else:
        row = {"input_ids": ids.reshape(-1)[sources][None]}
    hidden = model.base_model(
        **row,
        position_ids=positions[None],
        attention_mask=torch.empty(0, 0, 0, 0, device=device),  # four dimensions: taken as it is, no mask is built
        use_cache=False,
        groups=layout.groups,
    ).last_hidden_state[0]  # [tokens, dim]
    mask = labels[:, 1:] != IGNORED  # [batch, length - 1]
    counted = mask.nonzero(as_tuple=True)
    at = layout.row_of.to(device).view(ids.shape)[:, :-1][counted]
    scored, hits = label_log_probs(hidden[at], model.get_output_embeddings().weight, labels[:, 1:][counted])
    log_probs = scored.new_zeros(mask.shape).index_put(counted, scored)
    is_top1 = torch.zeros_like(mask).index_put(counted, hits)
    nothing = torch.zeros_like(log_probs)
    return FusedCausalLMOutput(
        log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=is_top1, label_mask=mask
    )
