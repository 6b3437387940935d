"""One token at a time: self-attention keys and values are kept, those of the memory projected once per answer."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import rotate


@dataclass
class AnswerCache:
    """What an open answer needs. Rows are right-aligned: every row's next token goes to the same column.

    history [L, B, C, 2G, d]: keys and values of the tokens so far (C = capacity, grown by doubling); column: the
    next free column; lengths [B]: tokens of each row so far = position of the next one; hidden [B, 1, 1, C]:
    additive mask over columns before a row's first token, None where no row is padded; memory_keys and memory_values
    one [B, G, S, d] a layer; memory [L, B, S, D] the state they came from.
    """

    history: Tensor
    column: int
    lengths: Tensor
    hidden: Tensor | None
    memory_keys: list[Tensor]
    memory_values: list[Tensor]
    memory: Tensor | None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns in use (transformers' name)."""
        return self.column

    def reserve(self, columns: int) -> None:
        """Make room for `columns` columns in all."""
        capacity = self.history.shape[2]
        if columns > capacity:
            more = max(columns, 2 * capacity) - capacity
            self.history = F.pad(self.history, (0, 0, 0, 0, 0, more))
            if self.hidden is not None:
                self.hidden = F.pad(self.hidden, (0, more))

    def select(self, rows: Tensor) -> None:
        """Keep the given rows only, in their order; repeats allowed (beams, finished rows)."""
        self.history = self.history.index_select(1, rows)
        self.lengths = self.lengths.index_select(0, rows)
        if self.hidden is not None:
            self.hidden = self.hidden.index_select(0, rows)
        self.memory_keys = [x.index_select(0, rows) for x in self.memory_keys]
        self.memory_values = [x.index_select(0, rows) for x in self.memory_values]
        if self.memory is not None:
            self.memory = self.memory.index_select(1, rows)

    def reorder_cache(self, beam_idx: Tensor) -> "AnswerCache":
        """Beam search's name for `select`."""
        self.select(beam_idx)
        return self

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.select(torch.arange(self.lengths.shape[0], device=self.lengths.device).repeat_interleave(repeats))

    batch_select_indices = select


def prefill(model, input_ids: Tensor, attention_mask: Tensor, memory: Tensor | None, room: int = 64):
    """Run a right-padded prompt [B, T]; returns the normed hidden [B, T, D] and a cache ready for the next token."""
    body, config = model.model, model.config
    x = body.embed(input_ids)
    rows, length = input_ids.shape
    table = body.table(length, x)
    pairs, keys, values = [], [], []
    for index, layer in enumerate(body.decoder):
        query, key, value = layer.attention.project(layer.attention_norm(x), table)
        pairs.append(torch.cat([key, value], dim=2))
        x = x + layer.attention.out(_attend(query, key, value))
        if memory is not None:
            key, value = layer.project_memory(memory[index].expand(rows, -1, -1))
            x = x + layer.cross_attention(layer.cross_norm(x), key, value, table)
            keys.append(key.transpose(1, 2).contiguous())
            values.append(value.transpose(1, 2).contiguous())
        x = x + layer.feed_forward(layer.forward_norm(x))
    history = torch.stack(pairs)
    lengths = attention_mask.sum(1)
    hidden = None
    if not bool(attention_mask.all()):
        shift = torch.arange(length, device=x.device) - (length - lengths)[:, None]
        index = shift.clamp(min=0)[None, :, :, None, None].expand(config.num_hidden_layers, -1, -1, *history.shape[3:])
        history = history.gather(2, index)
        hidden = torch.zeros_like(shift, dtype=x.dtype).masked_fill(shift < 0, float("-inf"))[:, None, None]
    cache = AnswerCache(history, length, lengths, hidden, keys, values, memory)
    cache.reserve(length + room)
    return body.decoder_norm(x), cache


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    grouped = query.shape[2] != key.shape[2]
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    return out.transpose(1, 2).flatten(2)


def step(model, tokens: Tensor, cache: AnswerCache) -> Tensor:
    """Feed one token per row [B]; returns the logits [B, V] of the next and moves the cache on by one."""
    body = model.model
    cache.reserve(cache.column + 1)
    column, rows = cache.column, tokens.shape[0]
    x = body.embed(tokens)[:, None]
    table = body.table(cache.history.shape[2], x)[:, cache.lengths, None]
    mask = None if cache.hidden is None else cache.hidden[..., : column + 1]
    for index, layer in enumerate(body.decoder):
        query, key, value = layer.attention.project(layer.attention_norm(x), table)
        heads, groups = query.shape[2], key.shape[2]
        past = cache.history[index]
        past[:, column] = torch.cat([key, value], dim=2)[:, 0]
        past = past[:, : column + 1].transpose(1, 2)
        # One query sees every key, so the query heads of a group can stand as its tokens: no expanded keys.
        folded = query.view(rows, groups, heads // groups, -1)
        out = F.scaled_dot_product_attention(folded, past[:, :groups], past[:, groups:], mask)
        x = x + layer.attention.out(out.reshape(rows, 1, -1))
        if cache.memory_keys:
            cross = layer.cross_attention
            query = rotate(cross.query(layer.cross_norm(x)).unflatten(-1, (-1, cross.head_dim)), table)
            folded = query.view(rows, cross.kv_heads, -1, cross.head_dim)
            out = F.scaled_dot_product_attention(folded, cache.memory_keys[index], cache.memory_values[index])
            x = x + cross.out(out.reshape(rows, 1, -1))
        x = x + layer.feed_forward(layer.forward_norm(x))
    cache.column += 1
    cache.lengths = cache.lengths + 1
    return model.lm_head(body.decoder_norm(x))[:, 0]
