"""One token at a time: self-attention keys and values are kept, those of the memory projected once per answer.

An eager operator costs about as much as the arithmetic of a small model, so the step is written with few of them:
weights are packed once (transposed to the layout that the matrix product likes, norm scales folded in, the
rotated partner of every query and key channel computed by the same product), results go to buffers that stay.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import GatedSlotAttention, MixtureOfExperts, attend, joint_mask, open_rows, rotary_table
from .memory import Windows
from .memory_state import MemoryState

PRODUCTS_FROM = 32
"""Rows from which two batched products are faster than the CPU's attention kernel."""


@dataclass
class AnswerCache:
    """What an open answer needs. Rows are right-aligned: every row's next token goes to the same column. Slots that
    are read jointly with the tokens stand in the first S columns.

    history [L, 2, B, G, C, d]: keys and values of the tokens so far (C = capacity, grown by doubling), those of a head
    side by side, or a step would spend most of its time on fetching them; column: the next free column; lengths [B]:
    position of each row's next token (left alone where no row is padded, for then it is `column`); hidden
    [B, 1, 1, C]: additive mask over columns before a row's first token, None where no row is padded; memory_keys and
    memory_values [B, G, S, d] by layer, of those that read the memory through an attention of its own; memory_mask
    [B, 1, 1, S] True where they may (None: everywhere); memory the state they came from; windows what may be copied
    from it.

    Where only some layers read slots jointly, the others are `passing`: they leave the first `slots` columns out, and
    `tokens` [B, 1, 1, C - slots] is their additive mask, None where no row is padded.
    """

    history: Tensor
    column: int
    lengths: Tensor
    hidden: Tensor | None
    memory_keys: dict[int, Tensor]
    memory_values: dict[int, Tensor]
    memory: MemoryState | None
    windows: Windows | None = None
    memory_mask: Tensor | None = None
    slots: int = 0
    passing: frozenset[int] = frozenset()
    tokens: Tensor | None = None
    weights: "PackedDecoder | None" = field(default=None, repr=False)
    scratch: "Scratch | None" = field(default=None, repr=False)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns in use (transformers' name)."""
        return self.column

    def reserve(self, columns: int) -> None:
        """Make room for `columns` columns in all."""
        capacity = self.history.shape[4]
        if columns > capacity:
            more = max(columns, 2 * capacity) - capacity
            self.history = F.pad(self.history, (0, 0, 0, more))
            if self.hidden is not None:
                self.hidden = F.pad(self.hidden, (0, more))
            if self.tokens is not None:
                self.tokens = F.pad(self.tokens, (0, more))

    def select(self, rows: Tensor) -> None:
        """Keep the given rows only, in their order; repeats allowed (beams, finished rows)."""
        before = self.lengths.shape[0]
        self.history = self.history.index_select(2, rows)
        self.lengths = self.lengths.index_select(0, rows)
        self.hidden, self.tokens, self.memory_mask = (
            None if mask is None else mask.index_select(0, rows)
            for mask in (self.hidden, self.tokens, self.memory_mask)
        )
        self.memory_keys = {layer: x.index_select(0, rows) for layer, x in self.memory_keys.items()}
        self.memory_values = {layer: x.index_select(0, rows) for layer, x in self.memory_values.items()}
        if self.memory is not None:
            self.memory = self.memory.expand(before).rows(rows)
        if self.windows is not None:
            self.windows = self.windows.rows(rows)
        self.scratch = None

    def reorder_cache(self, beam_idx: Tensor) -> "AnswerCache":
        """Beam search's name for `select`."""
        self.select(beam_idx)
        return self

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times in a row."""
        self.select(torch.arange(self.lengths.shape[0], device=self.lengths.device).repeat_interleave(repeats))

    batch_select_indices = select


def prefill(
    model,
    input_ids: Tensor,
    attention_mask: Tensor,
    memory: MemoryState | None,
    room: int = 64,
    last_only: bool = False,
) -> tuple[Tensor, AnswerCache]:
    """Run a right-padded prompt [B, T]; returns the normed hidden [B, T, D] and a cache with `room` for more tokens.

    With last_only the hidden is [B, 1, D], of each row's last token: the last layer then computes keys and values
    for the others and nothing else.
    """
    body = model.model
    x = body.embed(input_ids)
    rows, length = input_ids.shape
    memory = None if memory is None else model.fit_state(memory, rows)
    table, lengths = body.table(length, x), attention_mask.sum(1)
    ragged = not bool(attention_mask.all())
    joint = memory is not None and model.config.memory_read == "joint"
    readable = None if memory is None else body.readable(memory)
    pairs, slots, keys, values, memory_mask = [], {}, {}, {}, None
    for index, layer in enumerate(body.decoder):
        query, key, value = layer.attention.project(layer.attention_norm(x), table)
        pairs.append(torch.stack([key.transpose(1, 2), value.transpose(1, 2)]))
        reads = memory is not None and index in body.places
        shown = readable if joint and reads else None
        if joint and reads:
            slot = layer.project_memory(memory.layer(body.places[index]))
            slots[index] = torch.stack([part.transpose(1, 2) for part in slot])
            key, value = torch.cat([slot[0], key], dim=1), torch.cat([slot[1], value], dim=1)
        if last_only and index + 1 == len(body.decoder):
            place = (torch.arange(rows, device=x.device), lengths - 1)
            x, query, table = x[place][:, None], query[place][:, None], table[:, lengths - 1, None]
            present = attention_mask.bool()[:, None, None]
            mask = present if ragged else None
            if shown is not None:
                mask = torch.cat([shown[:, None, None], present], dim=-1)
            seen = attend(query, key, value, mask)
        elif shown is not None:
            seen = attend(query, key, value, joint_mask(shown[:, None, None], rows, length))
        else:
            seen = attend(query, key, value, causal=True)
        x = x + layer.attention.out(seen)
        if reads and not joint:
            key, value = layer.project_memory(memory.layer(body.places[index]))
            if readable is not None:
                value, memory_mask = open_rows(value, readable[:, None, None])
            x = x + layer.cross_attention(layer.cross_norm(x), key, value, table, memory_mask)
            keys[index] = key.transpose(1, 2).contiguous()
            values[index] = value.transpose(1, 2).contiguous()
        x = x + layer.feed_forward(layer.forward_norm(x))
    history = torch.stack(pairs)
    history, hidden = _right_aligned(history, lengths) if ragged else (history, None)
    cache = AnswerCache(
        history, length, lengths, hidden, keys, values, memory, body.windows(memory), memory_mask=memory_mask
    )
    if joint and readable is not None:
        _put_in_front(cache, slots, readable)
    cache.reserve(cache.column + room)
    return body.decoder_norm(x), cache


def _right_aligned(history: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [L, 2, B, G, T, d] of right-padded rows with the padding in front, and the additive mask over it
    [B, 1, 1, T]; lengths [B]."""
    columns = history.shape[4]
    source = torch.arange(columns, device=history.device) - (columns - lengths)[:, None]
    index = source.clamp(min=0)[:, None, :, None].expand_as(history)
    hidden = torch.zeros_like(source, dtype=history.dtype).masked_fill(source < 0, float("-inf"))
    return history.gather(4, index), hidden[:, None, None]


def _put_in_front(cache: AnswerCache, slots: dict[int, Tensor], readable: Tensor) -> None:
    """Keys and values of slots, [2, B, G, S, d] by layer, as the first columns of a cache of tokens alone; readable
    [B, S]."""
    layers, _, rows, _, length, _ = cache.history.shape
    like = next(iter(slots.values()))
    front = torch.stack([slots.get(layer, torch.zeros_like(like)) for layer in range(layers)])
    cache.history = torch.cat([front, cache.history], dim=4)
    cache.slots, cache.passing = readable.shape[1], frozenset(range(layers)) - slots.keys()
    cache.tokens = cache.hidden if cache.passing else None
    tokens = like.new_zeros(rows, 1, 1, length) if cache.hidden is None else cache.hidden
    closed = like.new_zeros(readable.shape).masked_fill(~readable, float("-inf"))[:, None, None]
    cache.hidden, cache.column = torch.cat([closed, tokens], dim=-1), cache.slots + length


def _swap(weight: Tensor, head_dim: int) -> Tensor:
    # Output channels of a projection [out, in] or bias [out], moved: each head's channel i holds its rotary partner.
    return weight.unflatten(0, (-1, head_dim)).roll(head_dim // 2, 1).flatten(0, 1)


class PackedDecoder:
    """The decoder's weights in the layout of the step: [in, out], contiguous, norm scales folded in.

    marks and norms: by what `of` knows that the weights are still those that were packed.
    """

    marks: list[tuple[int, int]]
    norms: Tensor

    def __init__(self, model):
        body, config = model.model, model.config
        self.eps, self.width, self.head_dim = config.rms_norm_eps, config.hidden_size, config.head_dim
        self.groups, self.query_width = config.num_key_value_heads, config.num_query_heads * self.head_dim
        self.memory_groups, self.memory_width = config.memory_key_value_heads, config.memory_query_heads * self.head_dim
        self.turning = self.query_width + self.groups * self.head_dim
        self.rope, self.to_the_bit = config.rope, config.to_the_bit
        self.embedding, self.scale = body.embedding.weight, body.embedding_scale
        weight = body.embedding.weight
        # On the CPU in full precision the norm is three cheap operators instead of PyTorch's seven.
        self.split_norm = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
        self.floor = torch.tensor((self.eps * self.width) ** 0.5, dtype=weight.dtype, device=weight.device)
        self.unit = self.width**0.5 if self.split_norm else 1.0
        self.layers = [self._layer(layer) for layer in body.decoder]
        self.head = self._fold(model.lm_head.weight, body.decoder_norm)

    @staticmethod
    def of(model) -> "PackedDecoder":
        """The model's packed weights, made again if a parameter was replaced, updated in place or differs in norm.

        Versions catch what optimizers and state dicts do; the norms catch writes through `.data`.
        """
        weights = [*model.model.decoder.parameters(), *model.model.decoder_norm.parameters(), model.lm_head.weight]
        weights.append(model.model.embedding.weight)
        with torch.no_grad():
            norms = torch.stack(torch._foreach_norm([weight.detach() for weight in weights]))
        marks = [(weight.data_ptr(), -1 if weight.is_inference() else weight._version) for weight in weights]
        packed = getattr(model, "_packed_decoder", None)
        if packed is None or packed.marks != marks or not torch.equal(packed.norms, norms):
            packed = PackedDecoder(model)
            packed.marks, packed.norms = marks, norms
            model._packed_decoder = packed
        return packed

    def _fold(self, weight: Tensor, norm) -> Tensor:
        return (weight * (norm.weight * self.unit)).t().contiguous()

    def _layer(self, layer) -> tuple:
        qkv, qkv_bias = (
            x if x is None else torch.cat([x, _swap(x[: self.turning], self.head_dim)])
            for x in (layer.attention.qkv.weight, layer.attention.qkv.bias)
        )
        qkv = self._fold(qkv, layer.attention_norm)
        read = read_out = gate_up = down = experts = None
        if (cross := layer.cross_attention) is not None:
            weight, bias = (
                x if x is None else torch.cat([x, _swap(x, self.head_dim)])
                for x in (cross.query.weight, cross.query.bias)
            )
            read = (self._fold(weight, layer.cross_norm), bias)
            gate = cross.opening if isinstance(cross, GatedSlotAttention) else 1.0
            read_out = (cross.out.weight * gate).t().contiguous()
        if isinstance(layer.feed_forward, MixtureOfExperts):
            experts = (layer.forward_norm, layer.feed_forward)
        else:
            gate_up = self._fold(layer.feed_forward.gate_up.weight, layer.forward_norm)
            down = layer.feed_forward.down.weight.t().contiguous()
        out = (layer.attention.out.weight.t().contiguous(), layer.attention.out.bias)
        return (qkv, qkv_bias), out, read, read_out, gate_up, down, experts

    def norm(self, x: Tensor, length: Tensor, out: Tensor) -> Tensor:
        """Root-mean-square norm of x [B, D] without its scale (and without sqrt(D) where the norm is split)."""
        if not self.split_norm:
            return F.rms_norm(x, (self.width,), None, self.eps)
        torch.linalg.vector_norm(x, dim=-1, keepdim=True, out=length)
        torch.hypot(length, self.floor, out=length)
        return torch.div(x, length, out=out)


class Scratch:
    """Buffers and fixed views of one batch size; every step overwrites them."""

    def __init__(self, packed: PackedDecoder, rows: int, capacity: int):
        weight, dim, turning = packed.embedding, packed.head_dim, packed.turning
        new = weight.new_empty
        self.length, self.normed = new(rows, 1), new(rows, packed.width)
        qkv = new(rows, 2 * turning + packed.groups * dim)
        self.qkv, self.turned = qkv, qkv[:, :turning]
        self.swapped = qkv[:, -turning:]
        # One query sees every key, so the query heads that share a key can stand as its tokens: nothing is expanded.
        self.query = qkv[:, : packed.query_width].unflatten(1, (packed.groups, -1, dim))
        self.fresh = qkv[:, packed.query_width : -turning].unflatten(1, (2, packed.groups, dim)).transpose(0, 1)
        self.read = new(rows, 2 * packed.memory_width)
        self.read_turned, self.read_swapped = self.read.chunk(2, dim=1)
        self.read_query = self.read_turned.unflatten(1, (packed.memory_groups, -1, dim))
        inner = packed.layers[0][4].shape[1] if packed.layers[0][4] is not None else 0
        self.gate_up = new(rows, inner)
        self.gate, self.up = self.gate_up.chunk(2, dim=1)
        # Rotary tables [C, heads * d], tiled over heads: a plain product of rows.
        table = rotary_table(capacity, *packed.rope, weight.device, weight.dtype, packed.to_the_bit)
        heads = max(turning, packed.memory_width) // dim
        self.cos, self.sin = table[0].repeat(1, heads), table[1].repeat(1, heads)
        self.capacity = capacity


def read_once(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one token a row: query [B, G, Hq / G, d], keys and values [B, G, C, d], mask [B, 1, 1, C] bool or
    additive (None: all are seen) -> [B, G, Hq / G, d]. On a CPU, many rows in two batched products: its kernel for
    long queries takes up to twice as long for those of one token."""
    rows, groups, count, dim = keys.shape
    if keys.device.type != "cpu" or rows < PRODUCTS_FROM or (mask is not None and mask.dtype == torch.bool):
        return F.scaled_dot_product_attention(query, keys, values, mask)
    asked, turned, scale = query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2), dim**-0.5
    if mask is None:
        scores = torch.bmm(asked, turned).mul_(scale)
    else:
        shown = mask.expand(rows, groups, 1, count).reshape(rows * groups, 1, count)
        scores = torch.baddbmm(shown, asked, turned, alpha=scale)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).unflatten(0, (rows, groups))


def step(model, tokens: Tensor, cache: AnswerCache) -> Tensor:
    """Feed one token per row [B]; returns the logits [B, V] of the next and moves the cache on by one. No gradients."""
    with torch.no_grad():
        return _step(model, tokens, cache)


def _step(model, tokens: Tensor, cache: AnswerCache) -> Tensor:
    cache.reserve(cache.column + 1)
    packed = cache.weights = cache.weights or PackedDecoder.of(model)
    _, _, rows, _, capacity, _ = cache.history.shape
    if cache.scratch is None or cache.scratch.capacity < capacity:
        cache.scratch = Scratch(packed, rows, capacity)
    s, column = cache.scratch, cache.column
    ragged = cache.hidden is not None
    cos, sin = (x.index_select(0, cache.lengths) if ragged else x[column] for x in (s.cos, s.sin))
    turns = (cos[..., : packed.turning], sin[..., : packed.turning])
    read_turns = (cos[..., : packed.memory_width], sin[..., : packed.memory_width])
    columns = column + 1
    # Of a layer: the columns that it sees and its mask over them.
    every = (slice(columns), cache.hidden[..., :columns] if ragged else None)
    own = columns - cache.slots
    behind = (slice(cache.slots, columns), None if cache.tokens is None else cache.tokens[..., :own])
    x = F.embedding(tokens, packed.embedding).mul_(packed.scale)
    for index, (qkv, out, read, read_out, gate_up, down, experts) in enumerate(packed.layers):
        torch.mm(packed.norm(x, s.length, s.normed), qkv[0], out=s.qkv)
        if qkv[1] is not None:
            s.qkv.add_(qkv[1])
        s.turned.mul_(turns[0]).addcmul_(s.swapped, turns[1])
        past = cache.history[index]
        past.select(3, column).copy_(s.fresh)
        seen_columns, mask = behind if index in cache.passing else every
        keys, values = past[..., seen_columns, :].unbind()
        x.addmm_(read_once(s.query, keys, values, mask).reshape(rows, -1), out[0])
        if out[1] is not None:
            x.add_(out[1])
        if index in cache.memory_keys:
            torch.mm(packed.norm(x, s.length, s.normed), read[0], out=s.read)
            if read[1] is not None:
                s.read.add_(read[1])
            s.read_turned.mul_(read_turns[0]).addcmul_(s.read_swapped, read_turns[1])
            seen = read_once(s.read_query, cache.memory_keys[index], cache.memory_values[index], cache.memory_mask)
            x.addmm_(seen.reshape(rows, -1), read_out)
        if experts is None:
            torch.mm(packed.norm(x, s.length, s.normed), gate_up, out=s.gate_up)
            F.silu(s.gate, inplace=True).mul_(s.up)
            x.addmm_(s.gate, down)
        else:
            x.add_(experts[1](experts[0](x)))
    cache.column += 1
    if ragged:
        cache.lengths = cache.lengths + 1
    logits = torch.mm(packed.norm(x, s.length, s.normed), packed.head)
    if cache.windows is None:
        return logits
    return logits + model.model.copying(model.model.decoder_norm(x)[:, None], tokens[:, None], cache.windows)[:, 0]
