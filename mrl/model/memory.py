"""What a write does to the short-term memory: the attention that rewrites all slots, or `keep_surprising`, which keeps
token states as they are; and the copy path from what was written to answers.

Slots [L, B, S, D] of `memory_state.MemoryState`: all layers of the memory attention read the OLD slots, so they run as
one batch of size L: a write costs the same few operators whatever the depth.

`CopyPath`, for a configuration with a `copy_window`. Slots hold meanings, and weights turn a meaning into a token that
they have learnt. A name that stands in no training row is a sequence of pieces in an order that nothing has learnt. So
each slot also keeps a window of `copy_window` tokens as they were read: of each token a code, a fixed vector that is
nearly orthogonal to all others (Kanerva 2009, "Hyperdimensional computing"), so that pieces that were seldom seen are
kept as well as others.

A write points each slot at a place of the interaction, whose token and the ones after it are its window; the slot takes
over as much of it as its gate opens. A reader points at slots and, within their windows, at a place that it chooses, or
at the one after the token that was just said (an induction head, Olsson et al. 2022). What it finds there raises the
logits of its token (as in a pointer network, Vinyals et al. 2015, but added to the vocabulary's own logits).

Symbols: B rows, T tokens, S slots, D width, K tokens of a window, V vocabulary, L layers of the network. Windows are
the last K layers of a memory state [L + K, B, S, D]: layer L + k holds the code of token k of each slot's window.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import rotate

CODES_SEED = 20
"""Of the codes: a token has the same one wherever a model is made."""
WORTH_SCALE = 4.0
"""Of `TokenWorth`'s weights, so that it knows what to keep before the readers have learnt to read something else."""
NATS = 4.0
"""Of surprise, which weigh as much as a token's worth of 1."""
SCALE = 10.0
"""Sharpness and gain are learnt in tens, or they would hardly move at the learning rates of weights."""


def occupied(slots: Tensor) -> Tensor:
    """[B, S] bool: slots [L, B, S, D] that hold something. An empty slot is all zeros, which no token's state is."""
    return slots[0].ne(0).any(-1)


class TokenWorth(nn.Module):
    """How likely a token is to be needed by a later answer, as log-odds from its normed state; 0 at the start. It is
    added to the token's surprise where the tokens to keep are chosen, and learns from dialogues in which it is known
    what was needed (`mrl.losses.keeping`)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, states: Tensor) -> Tensor:
        """States [..., D], which learn nothing from it -> log-odds [...]."""
        seen = F.layer_norm(states.detach(), states.shape[-1:])
        return WORTH_SCALE * (seen * self.weight).sum(-1) + SCALE * self.bias


def most_surprising(surprise: Tensor, mask: Tensor, share: float, room: int) -> Tensor:
    """Which tokens of interactions are kept [B, T] bool: `share` of a row's tokens, rounded up, at most `room`, those
    that were predicted worst. surprise [B, T] in nats; mask [B, T] of 0/1."""
    present = mask.bool()
    wanted = (present.sum(1) * share).ceil().long().clamp(max=room)
    rank = surprise.masked_fill(~present, float("-inf")).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return present & (rank < wanted[:, None])


def newest(filled: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """What S slots hold after a write, in the order of time: places [B, S] among the old slots and, behind them, the
    tokens; and which of these are filled [B, S]. filled [B, S]: slots that hold something; kept [B, T]: tokens that are
    written. Where the slots don't suffice, the oldest go."""
    every = torch.cat([filled, kept], dim=1)
    # A stable sort by "is filled" puts the empty ones first; the last S are then the newest, in order.
    places = every.to(torch.uint8).argsort(dim=1, stable=True)[:, -filled.shape[1] :]
    return places, every.gather(1, places)


def keep_surprising(slots: Tensor, states: Tensor, surprise: Tensor, mask: Tensor, share: float) -> Tensor:
    """Slots [L, B, S, D] after one interaction, of whose token states [L, B, T, D] the `most_surprising` are kept, in
    the order of the text behind what was kept before. A row without a token keeps its slots."""
    kept = most_surprising(surprise, mask, share, slots.shape[2])
    places, filled = newest(occupied(slots), kept)
    chosen = torch.cat([slots, states], 2).gather(
        2, places[None, :, :, None].expand(len(slots), -1, -1, slots.shape[3])
    )
    return chosen * filled[None, :, :, None]


class LayerwiseNorm(nn.Module):
    """RMS norm with one scale per layer for x [L, B, S, D] (layers = 1 shares the scale)."""

    def __init__(self, layers: int, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(layers, 1, 1, width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.eps) * self.weight


class LayerwiseAttention(nn.Module):
    """Attention of all layers at once: weights [L, in, out], inputs [L, B, S, D]."""

    def __init__(self, layers: int, width: int, query_heads: int, kv_heads: int, head_dim: int):
        super().__init__()
        self.query_heads, self.kv_heads, self.head_dim = query_heads, kv_heads, head_dim
        self.query = nn.Parameter(torch.empty(layers, width, query_heads * head_dim))
        self.key_value = nn.Parameter(torch.empty(layers, width, 2 * kv_heads * head_dim))
        self.out = nn.Parameter(torch.empty(layers, query_heads * head_dim, width))

    @staticmethod
    def _product(x: Tensor, weight: Tensor) -> Tensor:
        return torch.bmm(x.flatten(1, 2), weight).unflatten(1, x.shape[1:3])

    def project(self, source: Tensor, table: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """source [L, B, T, D] -> key, value [L, B, T, G, d]; keys get rotary positions where a table is given."""
        heads = self._product(source, self.key_value).unflatten(-1, (-1, self.head_dim))
        key, value = heads.split([self.kv_heads, self.kv_heads], dim=3)
        return (key if table is None else rotate(key, table)), value

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [L, B, S, D] reads key and value [L, B, T, G, d]; mask [B, 1, 1, T] True where readable."""
        query = self._product(x, self.query).unflatten(-1, (-1, self.head_dim))
        if mask is not None:
            mask = mask.expand(x.shape[0], *mask.shape).flatten(0, 1)
        out = F.scaled_dot_product_attention(
            query.flatten(0, 1).transpose(1, 2),
            key.flatten(0, 1).transpose(1, 2),
            value.flatten(0, 1).transpose(1, 2),
            mask,
            enable_gqa=self.query_heads != self.kv_heads,
        )
        return self._product(out.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]), self.out)


class ResidualGate(nn.Module):
    """How much of the new value replaces the old one, for all layers at once.

    off: old + new. Otherwise with g = activation(z): sigmoid mixes g * new + (1 - g) * old; tanh keeps the scale of a
    sum, (1 + g) * new + (1 - g) * old. z is a weight w (static), w * s (elementwise) or W s + b (linear), where s
    [L, B, S] is the status of each slot: the mean of new + old over the width. `scope` slot gives each slot its own
    weight, layer one per layer.

    content, which is ours: z = w . norm(new) + b with a w of width D for each slot that starts random, so that from the
    first step on each slot opens for some interactions and not for others, alike ones finding the same slots (locality
    sensitive hashing); facts of two people then don't have to share all of their slots.
    """

    def __init__(self, kind: str, activation: str, scope: str, layers: int, slots: int, start: float, width: int = 0):
        super().__init__()
        self.kind, self.activation, self.start = kind, activation, start
        outputs = slots if scope == "slot" else 1
        if kind in ("static", "elementwise"):
            self.weight = nn.Parameter(torch.full((layers, 1, outputs), start))
        elif kind == "linear":
            self.weight = nn.Parameter(torch.zeros(layers, slots, outputs))
            self.bias = nn.Parameter(torch.full((layers, 1, outputs), start))
        elif kind == "content":
            self.weight = nn.Parameter(torch.empty(layers, slots, width))
            self.bias = nn.Parameter(torch.full((layers, 1, outputs), start))

    def opening(self, old: Tensor, new: Tensor) -> Tensor:
        """z of each slot, [L, B, S, 1]; of no meaning for `off`."""
        if self.kind == "static":
            z = self.weight
        elif self.kind == "content":
            z = (F.rms_norm(new, new.shape[-1:]) * self.weight[:, None]).sum(-1) + self.bias
        else:
            status = (old + new).mean(-1)
            z = self.weight * status if self.kind == "elementwise" else torch.baddbmm(self.bias, status, self.weight)
        return z.unsqueeze(-1)

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        if self.kind == "off":
            return old + new
        z = self.opening(old, new)
        if self.activation == "sigmoid":
            return old + torch.sigmoid(z) * (new - old)
        return old + new + torch.tanh(z) * (new - old)


class MemoryAttention(nn.Module):
    """Rewrites the state from the encoder's view of one interaction; `config.memory_variant` chooses what comes first.

    simple: nothing. self: slots of a layer attend to each other. interlayer: slots attend to the mean state over
    layers (over each of `memory_groups` contiguous groups of layers). self-interlayer: that mean, mixed by a gate
    with the layer's own normed state. Then, in all variants, slots read the encoded tokens (rotary positions on the
    keys) and a residual gate decides what to keep.
    """

    def __init__(self, config):
        super().__init__()
        layers, width, slots, eps = (
            config.num_hidden_layers,
            config.hidden_size,
            config.memory_slots,
            config.rms_norm_eps,
        )
        heads = (layers, width, config.memory_query_heads, config.memory_key_value_heads, config.head_dim)
        gate = (config.gate, config.gate_activation, config.gate_scope, layers, slots, config.gate_init, width)
        self.layers = layers
        self.variant, self.groups, self.rope_base = config.memory_variant, config.memory_groups, config.rope_base
        self.state_norm = LayerwiseNorm(layers, width, eps)
        self.encoded_norm = LayerwiseNorm(layers, width, eps)
        self.read = LayerwiseAttention(*heads)
        self.gate = ResidualGate(*gate)
        if self.variant != "simple":
            self.mixing_norm = LayerwiseNorm(layers, width, eps)
            self.mixing = LayerwiseAttention(*heads)
            self.mixing_gate = ResidualGate(*gate)
        if self.variant in ("interlayer", "self-interlayer"):
            self.mean_norm = LayerwiseNorm(1, width, eps)
        if self.variant == "self-interlayer":
            self.source_gate = ResidualGate(*gate)

    def project(self, encoded: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded tokens [L, B, T, D] -> key, value [L, B, T, G, d]. Needs no state: do it for all turns at once."""
        return self.read.project(self.encoded_norm(encoded), table)

    def _mix(self, state: Tensor) -> Tensor:
        normed = self.mixing_norm(state)
        if self.variant == "self":
            source = normed
        else:
            group = state.unflatten(0, (self.groups, -1))
            mean = group.mean(1, keepdim=True).expand_as(group).flatten(0, 1)
            source = self.mean_norm(mean)
            if self.variant == "self-interlayer":
                source = self.source_gate(normed, source)
        return self.mixing_gate(state, self.mixing(normed, *self.mixing.project(source)))

    def forward(
        self, state: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, copied: Tensor | None = None
    ) -> Tensor:
        """state [L, B, S, D], key and value from `project`, mask [B, 1, 1, T] -> new state [L, B, S, D].

        With `copied` [K, B, S, D] the state has K more layers, of windows (`CopyPath`): a slot takes over as much of
        its new window as its last layer's gate opens.
        """
        kept, state = state[self.layers :], state[: self.layers]
        if self.variant != "simple":
            state = self._mix(state)
        new = self.read(self.state_norm(state), key, value, mask)
        updated = self.gate(state, new)
        if copied is not None:
            kept = kept + torch.sigmoid(self.gate.opening(state, new)[-1]) * (copied - kept)
        return torch.cat([updated, kept]) if len(kept) else updated


def token_codes(vocabulary: int, width: int) -> Tensor:
    """Random signs for each token, of length 1: [V, D]."""
    signs = torch.randint(0, 2, (vocabulary, width), generator=torch.Generator().manual_seed(CODES_SEED))
    return (2 * signs - 1) * width**-0.5


@dataclass(frozen=True, eq=False)
class Windows:
    """What answers are copied from: keys [B, S, D] that tell the slots apart, their windows' codes [B, S, K * D]."""

    keys: Tensor
    codes: Tensor

    def rows(self, index: Tensor) -> "Windows":
        """The given rows, in their order."""
        return Windows(self.keys.index_select(0, index), self.codes.index_select(0, index))


class CopyPath(nn.Module):
    """How windows are written and read."""

    codes: Tensor

    def __init__(self, config):
        super().__init__()
        width, self.window = config.hidden_size, config.copy_window
        self.register_buffer("codes", token_codes(config.vocab_size, width))
        self.write_query = nn.Parameter(torch.empty(config.memory_slots, width))
        self.write_key = nn.Linear(width, width, bias=False)
        self.read_query = nn.Linear(width, width, bias=False)
        self.read_key = nn.Linear(width, width, bias=False)
        self.place = nn.Linear(width, self.window + 1)
        self.sharpness = nn.Parameter(torch.ones(1))
        self.gain = nn.Parameter(torch.ones(1))

    def write(self, encoded: Tensor, input_ids: Tensor, mask: Tensor | None) -> Tensor:
        """The window of each slot for interactions [B, T], from encoder outputs [B, T, D] and a mask [B, 1, 1, T] that
        is True where something may be pointed at: [K, B, S, D]."""
        key = self.write_key(F.rms_norm(encoded, encoded.shape[-1:]))
        score = (self.write_query @ key.transpose(1, 2)) * key.shape[-1] ** -0.5
        codes = F.embedding(input_ids, self.codes)
        if mask is not None:
            score = score.masked_fill(~mask[:, 0], float("-inf"))
            codes = codes * mask[:, 0, 0, :, None]
        share, length = score.softmax(-1), input_ids.shape[1]
        codes = F.pad(codes, (0, 0, 0, self.window - 1))
        return torch.stack([share @ codes[:, k : k + length] for k in range(self.window)])

    def open(self, slots: Tensor) -> Windows:
        """Windows of a memory state's slots [L + K, B, S, D]."""
        last = slots[-self.window - 1]
        kept = slots[-self.window :].permute(1, 2, 0, 3).flatten(2)
        return Windows(self.read_key(F.rms_norm(last, last.shape[-1:])), kept)

    def forward(self, hidden: Tensor, tokens: Tensor, windows: Windows) -> Tensor:
        """What is added to the logits [B, T, V] that follow `tokens` [B, T], from normed decoder outputs [B, T, D]."""
        score = (self.read_query(hidden) @ windows.keys.transpose(1, 2)) * hidden.shape[-1] ** -0.5
        found = (score.softmax(-1) @ windows.codes).unflatten(2, (self.window, -1))
        said = F.embedding(tokens, self.codes)[:, :, None]
        follows = F.pad((found[:, :, :-1] * said).sum(-1), (1, 0))
        chosen, gate = self.place(hidden).split([self.window, 1], dim=-1)
        share = (chosen + SCALE * self.sharpness * follows).softmax(-1)
        copied = (share[..., None] * found).sum(2) * (SCALE * self.gain * gate.sigmoid())
        return F.linear(copied, self.codes)
