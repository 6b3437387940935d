"""Building blocks that encoder, decoder and memory share: rotary positions, SDPA, self-attention, feed-forward layers.

Shapes: B rows, T tokens, D width, d head width, Hq query heads, G key/value heads. Attention always goes through
`torch.nn.functional.scaled_dot_product_attention`, which picks the flash kernel where the device has one.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GATE_SCALE = 10.0
"""A gate that starts at 0 is learnt in tens, or it would hardly open at the learning rates of weights."""


@lru_cache(maxsize=16)
def _rotary_table(
    length: int, head_dim: int, base: float, device: torch.device, dtype: torch.dtype, to_the_bit: bool
) -> Tensor:
    # A table made inside inference_mode could never be used in training afterwards, so it is made outside of it.
    with torch.inference_mode(False), torch.no_grad():
        angles = torch.float32 if to_the_bit else torch.float64
        frequency = 1 / base ** (torch.arange(0, head_dim, 2, dtype=angles) / head_dim)
        angle = torch.arange(length, dtype=angles)[:, None] * frequency
        cos, sin = angle.cos(), angle.sin()
        table = torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)])
        return table.to(device=device, dtype=dtype)


def rotary_table(
    length: int, head_dim: int, base: float, device: torch.device, dtype: torch.dtype,
    to_the_bit: bool = False,
) -> Tensor:  # fmt: skip
    """Cosines and signed sines of the rotary positions 0..length-1: [2, length, d]. to_the_bit: of angles in fp32, as
    transformers computes them.

    Held outside of the module, not as a buffer: nothing to save, to broadcast between processes or to lose when
    transformers builds a model on the meta device. Lengths are rounded up, so that few tables exist.
    """
    rounded = max(64, 1 << (length - 1).bit_length())
    return _rotary_table(rounded, head_dim, float(base), torch.device(device), dtype, to_the_bit)[:, :length]


def rotate(x: Tensor, table: Tensor, to_the_bit: bool = False) -> Tensor:
    """Apply rotary positions to x [..., T, heads, d] by table [2, T, d] (or [2, B, T, d] with positions per row).

    Channel i is paired with channel i + d/2. The partner is fetched by one roll, its sign sits in the table.
    to_the_bit: both products are rounded before they are added, as in transformers.
    """
    cos, sin = table[0].unsqueeze(-2), table[1].unsqueeze(-2)
    partner = x.roll(x.shape[-1] // 2, -1)
    return x * cos + partner * sin if to_the_bit else torch.addcmul(x * cos, partner, sin)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """SDPA for query [B, T, Hq, d], key and value [B, S, G, d]; returns [B, T, Hq * d].

    mask: bool (True = may be read) or additive, broadcastable to [B, 1, T, S]. Query heads in excess of the
    key/value heads share them group by group.
    """
    grouped = query.shape[2] != key.shape[2]
    # With gradients and without: an update has to find the probabilities that were recorded.
    if query.device.type == "cpu" and not causal and _computed_in(query) == torch.bfloat16:
        return attend_by_products(query, key, value, mask)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, is_causal=causal, enable_gqa=grouped
    )
    return out.transpose(1, 2).flatten(2)


def _computed_in(x: Tensor) -> torch.dtype:
    """The precision of attention on a CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """`attend` as two matrix products and a softmax. In bf16 a CPU's flash kernel takes three times as long backwards
    (torch 2.15, 42 tokens that read 170)."""
    groups, share = key.shape[2], query.shape[2] // key.shape[2]
    wide = query.unflatten(2, (groups, share)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # [B, G, share * T, d]
    scores = (wide @ key.permute(0, 2, 3, 1)).unflatten(2, (share, -1)) * query.shape[-1] ** -0.5
    if mask is not None:
        mask = mask[:, :, None]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1).to(value.dtype).flatten(2, 3)
    out = (weights @ value.transpose(1, 2)).unflatten(2, (share, -1))
    return out.permute(0, 3, 1, 2, 4).flatten(2)


def key_mask(attention_mask: Tensor | None) -> Tensor | None:
    """Mask over keys [B, 1, 1, S] from an attention mask [B, S]; None where there is nothing to hide.

    On the CPU the look at the mask is almost free and saves a masked kernel; elsewhere it would stall the device.
    """
    if attention_mask is None or (attention_mask.device.type == "cpu" and bool(attention_mask.all())):
        return None
    return attention_mask.bool()[:, None, None, :]


def joint_mask(shown: Tensor, rows: int, length: int) -> Tensor:
    """Mask [B, 1, T, S + T] where slots stand before the tokens in one softmax: every token sees the slots `shown`
    ([B, 1, 1, S] bool, or one that broadcasts) and the tokens up to itself."""
    causal = torch.ones(length, length, dtype=torch.bool, device=shown.device).tril()
    return torch.cat([shown.expand(rows, 1, length, -1), causal.expand(rows, 1, length, length)], dim=-1)


class _FewPassNorm(torch.autograd.Function):
    """`F.rms_norm` on a CPU in full precision, where PyTorch composes it of a dozen operators (2.15): half of the time,
    and one activation less is kept."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        width = x.shape[-1]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.hypot(length, length.new_tensor((eps * width) ** 0.5)).reciprocal_().mul_(width**0.5)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        # With n = x * scale: dw = sum(g * n), dx = scale * (g * w - n * mean(g * w * n)).
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        product = grad * normed
        along = (product @ weight).div_(x.shape[-1]).unsqueeze(-1)
        back = torch.addcmul(grad * weight, normed, along, value=-1).mul_(scale)
        return back, product.flatten(0, -2).sum(0), None


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale over the last dimension. to_the_bit: of PyTorch's operators on every
    device, so that the result is that of the model whose weights these are."""

    def __init__(self, width: int, eps: float, to_the_bit: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps, self.to_the_bit = eps, to_the_bit

    def forward(self, x: Tensor) -> Tensor:
        full = x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.float64)
        if x.device.type == "cpu" and full and not self.to_the_bit and not torch.is_autocast_enabled("cpu"):
            return _FewPassNorm.apply(x, self.weight, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class ResidualExit(nn.Linear):
    """The layer that ends a residual branch: it starts smaller the deeper the model is."""

    def __init__(self, inner: int, width: int, bias: bool = False):
        super().__init__(inner, width, bias=bias)


class SelfAttention(nn.Module):
    """Attention over tokens with rotary positions on queries and keys; one fused projection for q, k and v. to_the_bit:
    queries and keys are turned as transformers turns them (`rotate`)."""

    def __init__(
        self, width: int, query_heads: int, kv_heads: int, head_dim: int, bias: bool = False, to_the_bit: bool = False
    ):
        super().__init__()
        self.query_heads, self.kv_heads, self.head_dim = query_heads, kv_heads, head_dim
        self.to_the_bit = to_the_bit
        self.qkv = nn.Linear(width, (query_heads + 2 * kv_heads) * head_dim, bias=bias)
        self.out = ResidualExit(query_heads * head_dim, width, bias)

    def project(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D] -> rotated query [B, T, Hq, d], rotated key and value [B, T, G, d]."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        turning, value = heads.split([self.query_heads + self.kv_heads, self.kv_heads], dim=2)
        query, key = rotate(turning, table, self.to_the_bit).split([self.query_heads, self.kv_heads], dim=2)
        return query, key, value

    def forward(self, x: Tensor, table: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        return self.out(attend(*self.project(x, table), mask, causal))


def key_and_value(projected: Tensor, kv_heads: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """A joined projection [B, S, 2 * G * d] as key and value [B, S, G, d]."""
    key, value = projected.unflatten(-1, (-1, head_dim)).split([kv_heads, kv_heads], dim=2)
    return key, value


class SlotReader(nn.Module):
    """Keys and values of slots that stand beside the tokens in their softmax, all at position 0. They start as the
    layer's own projections of tokens, and learn what slots need; `place` [S, G, d] is added to the keys, for what a
    slot's place tells: the last slots are the newest."""

    def __init__(self, width: int, kv_heads: int, head_dim: int, slots: int, bias: bool):
        super().__init__()
        self.kv_heads, self.head_dim = kv_heads, head_dim
        self.key_value = nn.Linear(width, 2 * kv_heads * head_dim, bias=bias)
        self.place = nn.Parameter(torch.zeros(slots, kv_heads, head_dim))

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Normed slots [B, S, D] -> key, to which `place` is still to be added, and value [B, S, G, d]."""
        return key_and_value(self.key_value(memory), self.kv_heads, self.head_dim)


class MemoryCrossAttention(nn.Module):
    """Tokens read the memory: rotary positions on the queries only, for slots have no order; never causal."""

    place: nn.Parameter | None
    """[S, G, d] added to the keys, where slots have an order after all."""

    def __init__(self, width: int, query_heads: int, kv_heads: int, head_dim: int, bias: bool = False):
        super().__init__()
        self.query_heads, self.kv_heads, self.head_dim = query_heads, kv_heads, head_dim
        self.query = nn.Linear(width, query_heads * head_dim, bias=bias)
        self.key_value = nn.Linear(width, 2 * kv_heads * head_dim, bias=bias)
        self.out = ResidualExit(query_heads * head_dim, width)
        self.register_parameter("place", None)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Normed memory [B, S, D] -> key and value [B, S, G, d]; once per answer."""
        return key_and_value(self.key_value(memory), self.kv_heads, self.head_dim)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, table: Tensor, mask: Tensor | None = None) -> Tensor:
        query = rotate(self.query(x).unflatten(-1, (-1, self.head_dim)), table)
        return self.out(attend(query, key, value, mask))


def open_rows(value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Values [B, S, G, d] and mask [B, 1, 1, S] for a softmax, which needs something to read: rows whose mask shows
    nothing see all slots, and zeros in each."""
    some = mask.any(-1, keepdim=True)
    return value * some.to(value.dtype), mask | ~some


class GatedSlotAttention(MemoryCrossAttention):
    """Reads slots that are token states, beside the self-attention of which it starts as a copy. It adds nothing until
    its gate, which starts at 0, has learnt to open, and never anything where no slot is filled: its output has no bias,
    for the self-attention has added that one. `place` says what a slot's place tells: the last slots are the newest."""

    def __init__(self, width: int, query_heads: int, kv_heads: int, head_dim: int, slots: int, bias: bool):
        super().__init__(width, query_heads, kv_heads, head_dim, bias)
        self.place = nn.Parameter(torch.zeros(slots, kv_heads, head_dim))
        self.gate = nn.Parameter(torch.zeros(1))

    @property
    def opening(self) -> Tensor:
        """What is read is multiplied by this, [1]."""
        return GATE_SCALE * self.gate

    def forward(self, x: Tensor, key: Tensor, value: Tensor, table: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            value, mask = open_rows(value, mask)
        return self.opening * super().forward(x, key, value, table, mask)


class GatedFeedForward(nn.Module):
    """SwiGLU: gate and value in one projection, silu(gate) * value, then back to the width."""

    def __init__(self, width: int, inner: int, dropout: float = 0.0):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = ResidualExit(inner, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        inner = F.silu(gate) * up
        if self.dropout and self.training:
            inner = F.dropout(inner, self.dropout)
        return self.down(inner)


class MixtureOfExperts(nn.Module):
    """Top-k mixture of gated experts. After a forward pass the balance of the router is read with `balance()`.

    Small inputs (a decoding step) run through all experts in three batched products, without a host
    synchronisation; large ones are sorted by expert, so each token pays for its own k experts only.
    """

    DENSE_LIMIT = 64

    def __init__(self, width: int, inner: int, experts: int, per_token: int, dropout: float = 0.0):
        super().__init__()
        self.experts, self.per_token, self.dropout = experts, per_token, dropout
        self.router = nn.Linear(width, experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(experts, width, 2 * inner))
        self.down = nn.Parameter(torch.empty(experts, inner, width))
        self._routing: tuple[Tensor, Tensor] | None = None

    def _expert(self, x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = (x @ gate_up).chunk(2, dim=-1)
        inner = F.silu(gate) * up
        if self.dropout and self.training:
            inner = F.dropout(inner, self.dropout)
        return inner @ down

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        probability = torch.softmax(self.router(tokens).float(), dim=-1)
        weight, chosen = probability.topk(self.per_token, dim=-1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        if torch.is_grad_enabled():
            self._routing = (probability, chosen)
        if tokens.shape[0] <= self.DENSE_LIMIT:
            mixed = self._dense(tokens, weight, chosen)
        else:
            mixed = self._sorted(tokens, weight, chosen)
        return mixed.view_as(x)

    def _dense(self, tokens: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        every = self._expert(tokens.expand(self.experts, -1, -1), self.gate_up, self.down)
        share = torch.zeros(tokens.shape[0], self.experts, dtype=tokens.dtype, device=tokens.device)
        share = share.scatter(1, chosen, weight)
        return torch.einsum("end,ne->nd", every, share)

    def _sorted(self, tokens: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        order = chosen.flatten().argsort(stable=True)
        row = order // self.per_token
        counts = torch.bincount(chosen.flatten(), minlength=self.experts).tolist()
        parts = tokens[row].split(counts)
        done = [self._expert(part, self.gate_up[e], self.down[e]) for e, part in enumerate(parts) if part.shape[0]]
        return torch.zeros_like(tokens).index_add(0, row, torch.cat(done) * weight.flatten()[order, None])

    def balance(self, attention_mask: Tensor | None = None) -> Tensor:
        """Load-balancing loss of the last pass: experts * sum_e share_e * mean probability_e; 1 when perfectly even.

        Padding tokens (attention_mask [B, T] of 0) count neither in the share nor in the mean. Raises RuntimeError
        before the first pass with gradients.
        """
        if self._routing is None:
            raise RuntimeError("balance() needs a forward pass with gradients enabled before it")
        probability, chosen = self._routing
        if attention_mask is None:
            kept = torch.ones(probability.shape[0], 1, device=probability.device)
        else:
            kept = attention_mask.reshape(-1, 1).to(probability.dtype)
        total = kept.sum().clamp(min=1)
        picks = torch.zeros_like(probability).scatter(1, chosen, 1.0)
        share = (picks * kept).sum(0) / (total * self.per_token)
        return self.experts * (share * (probability * kept).sum(0) / total).sum()
