"""Layers of encoder and decoder, the masked-token head, and how all weights start.

Starting weights that already copy and compare (Trockman & Kolter 2023, "Mimetic initialization of self-attention").

In every attention the output undoes the value projection, so that what is read arrives in the reader's stream as the
word it was; and queries start as keys, so that tokens look first at what resembles them. A question that names somebody
then finds the facts with that name before anything is learnt, and training only sharpens it. With ordinary weights a
model of this kind learns which values were told within 100 steps, and whose they are not in 1,500 (mrl/RESULTS.md).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import (
    GatedFeedForward,
    GatedSlotAttention,
    MemoryCrossAttention,
    MixtureOfExperts,
    ResidualExit,
    RMSNorm,
    SelfAttention,
    SlotReader,
    attend,
    joint_mask,
)
from .configuration_reactive import ReactiveConfig
from .memory import CopyPath, LayerwiseAttention, LayerwiseNorm, ResidualGate, TokenWorth, token_codes
from .memory_state import SlotTokens

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
    elif isinstance(module, CopyPath):
        width = module.read_key.weight.shape[0]
        both = orthonormal(1, width, width, module.read_key.weight)[0]
        init.copy_(module.read_query.weight, both)
        init.copy_(module.read_key.weight, both)
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


class EncoderLayer(GradientCheckpointingLayer):
    """Bidirectional self-attention and a dense gated feed-forward layer, both after a norm."""

    def __init__(self, config: ReactiveConfig):
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.attention_norm = RMSNorm(width, eps)
        self.attention = SelfAttention(width, *config.token_heads, config.head_dim)
        self.forward_norm = RMSNorm(width, eps)
        self.feed_forward = GatedFeedForward(width, config.encoder_inner_size, config.dropout)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), table, mask)
        return x + self.feed_forward(self.forward_norm(x))


class DecoderLayer(GradientCheckpointingLayer):
    """Causal self-attention, reading the memory, feed-forward (dense or mixture), each after a norm. reads: whether
    there is a memory for it to read; where there is none it takes no memory either."""

    def __init__(self, config: ReactiveConfig, reads: bool = True):
        super().__init__()
        width, eps, head = config.hidden_size, config.rms_norm_eps, config.head_dim
        self.attention_norm = RMSNorm(width, eps, config.to_the_bit)
        self.attention = SelfAttention(width, *config.token_heads, head, config.attention_bias, config.to_the_bit)
        self.cross_attention: MemoryCrossAttention | None = None
        reads = reads and config.memory_slots > 0
        self.joint = reads and config.memory_read == "joint"
        if self.joint:
            groups = config.token_heads[1]
            self.slot_reader = SlotReader(width, groups, head, config.memory_slots, config.attention_bias)
        elif reads:
            self.cross_norm = RMSNorm(width, eps)
            self.memory_norm = RMSNorm(width, eps)
            heads = (width, *config.memory_heads, head)
            if config.memory_write == "surprise":
                self.cross_attention = GatedSlotAttention(*heads, config.memory_slots, config.attention_bias)
            else:
                self.cross_attention = MemoryCrossAttention(*heads)
        self.forward_norm = RMSNorm(width, eps, config.to_the_bit)
        if config.num_experts:
            self.feed_forward = MixtureOfExperts(
                width, config.intermediate_size, config.num_experts, config.num_experts_per_token, config.dropout
            )
        else:
            self.feed_forward = GatedFeedForward(width, config.intermediate_size, config.dropout)

    def project_memory(self, memory: Tensor | SlotTokens) -> tuple[Tensor, Tensor]:
        """This layer's memory [B, S, D], or the tokens [M, D] that it holds -> key, value [B, S, G, d]."""
        reader, norm = (self.slot_reader, self.attention_norm) if self.joint else (self._reader(), self.memory_norm)
        tokens = memory.tokens[None] if isinstance(memory, SlotTokens) else memory
        key, value = reader.project_memory(norm(tokens))
        if isinstance(memory, SlotTokens):  # every token once, however many slots it stands in
            key, value = (F.embedding(memory.index, x[0].flatten(1)).unflatten(-1, x.shape[2:]) for x in (key, value))
        return (key if reader.place is None else key + reader.place), value

    def _reader(self) -> MemoryCrossAttention:
        if self.cross_attention is None:
            raise ValueError("a model without memory (memory_slots 0) can't read one: give no memory state")
        return self.cross_attention

    def forward(
        self, x: Tensor, table: Tensor, memory: Tensor | SlotTokens | None, memory_mask: Tensor | None
    ) -> Tensor:
        if self.joint and memory is not None:
            x = x + self._joint_attention(x, table, memory, memory_mask)
        else:
            x = x + self.attention(self.attention_norm(x), table, causal=True)
        if memory is not None and not self.joint:
            key, value = self.project_memory(memory)
            x = x + self._reader()(self.cross_norm(x), key, value, table, memory_mask)
        return x + self.feed_forward(self.forward_norm(x))

    def _joint_attention(
        self, x: Tensor, table: Tensor, memory: Tensor | SlotTokens, memory_mask: Tensor | None
    ) -> Tensor:
        """Tokens x [B, T, D] and slots [B, S, D] in one softmax: each token sees all slots that may be read (mask
        [B, 1, 1, S]) and the tokens up to itself."""
        query, key, value = self.attention.project(self.attention_norm(x), table)
        slot_key, slot_value = self.project_memory(memory)
        shown = x.new_ones(1, 1, 1, slot_key.shape[1], dtype=torch.bool) if memory_mask is None else memory_mask
        mask = joint_mask(shown, *x.shape[:2])
        seen = attend(query, torch.cat([slot_key, key], 1), torch.cat([slot_value, value], 1), mask)
        return self.attention.out(seen)


class MaskedTokenHead(nn.Module):
    """Encoder's head for joint pre-training: dense, GELU, norm; the output weights are the shared embedding."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = RMSNorm(width, eps)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embedding)


class ReactivePreTrainedModel(PreTrainedModel):
    """Weight initialisation and the switches transformers asks for."""

    config_class = ReactiveConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = False
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012 - transformers reads a plain list
    _input_embed_layer = "embedding"
    config: ReactiveConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Variance-preserving starts; layers that end a residual branch are scaled by 1 / sqrt(2L)."""
        depth = (2 * self.config.num_hidden_layers) ** -0.5
        if isinstance(module, nn.Linear):
            scale = depth if isinstance(module, ResidualExit) else 1.0
            init.normal_(module.weight, std=scale * module.in_features**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, LayerwiseAttention):
            for weight in (module.query, module.key_value, module.out):
                init.normal_(weight, std=weight.shape[1] ** -0.5)
        elif isinstance(module, MixtureOfExperts):
            init.normal_(module.gate_up, std=module.gate_up.shape[1] ** -0.5)
            init.normal_(module.down, std=depth * module.down.shape[1] ** -0.5)
        elif isinstance(module, SlotReader):
            init.zeros_(module.place)
        elif isinstance(module, TokenWorth):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, GatedSlotAttention) and module.place is not None:
            init.zeros_(module.place)
            init.zeros_(module.gate)
        elif isinstance(initial := getattr(module, "initial_memory", None), nn.Parameter):
            init.normal_(initial, std=self.config.initial_state_std)
        elif isinstance(module, CopyPath):
            init.normal_(module.write_query, std=2.0)
            init.ones_(module.sharpness)
            init.ones_(module.gain)
            init.copy_(module.codes, token_codes(*module.codes.shape).to(module.codes))
        # What follows has its value from the constructor already, but would lose it on the meta device.
        elif isinstance(module, RMSNorm | LayerwiseNorm):
            init.ones_(module.weight)
        elif isinstance(module, ResidualGate) and module.kind == "linear":
            init.zeros_(module.weight)
            init.constant_(module.bias, module.start)
        elif isinstance(module, ResidualGate) and module.kind == "content":
            init.normal_(module.weight, std=self.config.gate_spread * module.weight.shape[-1] ** -0.5)
            init.constant_(module.bias, module.start)
        elif isinstance(module, ResidualGate) and module.kind != "off":
            init.constant_(module.weight, module.start)

    def initialize_weights(self) -> None:
        """All modules by `_init_weights`, then attentions once more as wholes: transformers passes over modules of
        custom code that own no weights themselves."""
        super().initialize_weights()
        if self.config.initial_weights == "mimetic":
            for module in self.modules():
                start_mimetic(module)
