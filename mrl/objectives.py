"""Losses of the supervised stages as functions of a model and a batch.

Each returns the *sum* over what is scored, so that shares of a global batch (gradient accumulation, processes) add up
to exactly what one pass would give; the caller divides by global counts.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.batches import IGNORED, Episodes, Interactions, turn_draw


@dataclass
class Sums:
    """loss: this share of the global mean, differentiable. numbers: sums for logging, added up over shares."""

    loss: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)


@dataclass(kw_only=True)
class JointConfig:
    """Joint language modelling: the encoder fills masked tokens, the decoder reads its detached layer outputs."""

    scored: str = "all"
    """all: every token but the first (pre-training); answer: what follows [A] or [T] (interaction SFT)."""
    mask_share: float = 0.15
    """Share of tokens that the encoder sees as [MASK] and has to fill in."""
    decoder_weight: float = 1.0
    encoder_weight: float = 1.0
    noise: float = 0.0
    """Standard deviation of Gaussian noise added to what the decoder reads."""
    hidden_share: float = 0.0
    """Share of the encoder's outputs that the decoder can't read."""
    blank_share: float = 0.0
    """Share of rows whose decoder reads nothing at all, so that it also learns to work without a leak."""

    def __post_init__(self) -> None:
        """Shares are shares."""
        if self.scored not in ("all", "answer"):
            raise ValueError(f"scored is {self.scored!r}; choose all or answer")
        for name in ("mask_share", "hidden_share", "blank_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share lies in 0..1")


def hide_tokens(batch: Interactions, share: float, special: Tensor, seed: int) -> Interactions:
    """Choose the encoder's [MASK] positions for a *global* batch: `share` of the words, at least one a row that has
    any, never a frame token (`special` ids)."""
    words = (batch.mask > 0) & ~torch.isin(batch.ids, special)
    draw = torch.rand(batch.ids.shape, generator=torch.Generator().manual_seed(seed))
    draw = draw.masked_fill(~words, 2.0)
    hidden = draw < share
    hidden |= (draw == draw.min(1, keepdim=True).values) & words & ~hidden.any(1, keepdim=True)
    batch.hidden = hidden if share > 0 else torch.zeros_like(hidden)
    return batch


def joint_counts(batch: Interactions) -> dict[str, int]:
    """What a global batch is divided by."""
    return {
        "ar": max(1, int((batch.labels[:, 1:] != IGNORED).sum())),
        "mlm": max(1, int(batch.hidden.sum())),
        "rows": len(batch),
    }


def joint_loss(model, batch: Interactions, counts: dict[str, int], config: JointConfig, mask_token: int) -> Sums:
    """Masked-token loss of the encoder and next-token loss of the decoder, which reads the encoder's outputs of the
    same (partly masked) text, detached, as its memory: one slot a token."""
    seen = batch.ids.masked_fill(batch.hidden, mask_token)
    encoded = model.encode(seen, batch.mask)
    numbers: dict[str, Tensor] = {}
    loss = encoded.layers.new_zeros(())
    if config.encoder_weight and bool(batch.hidden.any()):
        logits, wanted = model.mlm_logits(encoded.hidden[batch.hidden]), batch.ids[batch.hidden]
        mlm = F.cross_entropy(logits.float(), wanted, reduction="sum")
        loss = loss + config.encoder_weight * mlm / counts["mlm"]
        numbers |= {"mlm_loss": mlm.detach(), "mlm_right": (logits.argmax(-1) == wanted).sum(), "mlm_n": _n(wanted)}
    memory, readable = corrupt(encoded.layers.detach(), batch, config, model.config.max_interaction_length)
    out = model.decode(batch.ids, batch.mask, memory, state_mask=readable, labels=batch.labels)
    n = out.targets.numel()
    ar = _answer_sum(out, n)
    loss = loss + config.decoder_weight * ar / counts["ar"]
    if out.aux_loss is not None:
        loss = loss + model.config.router_aux_loss_coef * out.aux_loss * len(batch) / counts["rows"]
    right = (out.logits.argmax(-1) == out.targets).sum()
    return Sums(loss, numbers | {"ar_loss": ar.detach(), "ar_right": right, "ar_n": _n(out.targets)})


def _n(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), device=x.device)


def _answer_sum(out, n: int) -> Tensor:
    """Cross-entropy summed over targets; 0 (still part of the graph) where a share has none."""
    if n == 0:
        return out.logits.float().sum()
    return F.cross_entropy(out.logits.float(), out.targets, reduction="sum")


def corrupt(layers: Tensor, batch: Interactions, config: JointConfig, longest: int) -> tuple[Tensor, Tensor]:
    """Noise and gaps for what the decoder reads, by each row's own seed: memory [L, B, T, D], readable [B, T]. They
    are drawn for `longest` tokens, so that a row's don't depend on how long its neighbours are."""
    readable = batch.mask.bool()
    if config.noise or config.hidden_share or config.blank_share:
        noise, keep, blank = _draws(batch, longest, layers.shape if config.noise else None)
        if config.noise:
            layers = layers + config.noise * noise.to(layers)
        kept = readable & (keep.to(readable.device) >= config.hidden_share)
        kept = torch.where(kept.any(1, keepdim=True), kept, readable)
        layers = layers * (blank.to(layers.device) >= config.blank_share)[None, :, None, None]
        readable = kept
    return layers, readable


def _draws(batch: Interactions, longest: int, shape: torch.Size | None) -> tuple[Tensor | None, Tensor, Tensor]:
    noise, keep, blank, tokens = [], [], [], batch.ids.shape[1]
    for seed in batch.noise.tolist():
        generator = torch.Generator().manual_seed(seed)
        blank.append(torch.rand((), generator=generator))
        keep.append(torch.rand(longest, generator=generator)[:tokens])
        if shape is not None:
            noise.append(torch.randn(shape[0], longest, shape[3], generator=generator)[:, :tokens])
    return (torch.stack(noise, 1) if noise else None), torch.stack(keep), torch.stack(blank)


def pool_to_slots(layers: Tensor, mask: Tensor, slots: int) -> Tensor:
    """Encoder outputs [L, B, T, D] brought to [L, B, S, D]: slot s is the mean of the real tokens from floor(s n / S)
    to ceil((s + 1) n / S), n being the row's length. With n = S that is the token itself; shorter turns repeat tokens,
    longer ones average neighbours (adaptive average pooling, row by row). Rows without a token give zeros."""
    n = mask.sum(1).view(-1, 1, 1)
    slot = torch.arange(slots, device=mask.device).view(1, -1, 1)
    token = torch.arange(layers.shape[2], device=mask.device)
    inside = (token >= slot * n // slots) & (token < ((slot + 1) * n + slots - 1) // slots) & (token < n)
    weight = inside.to(layers.dtype)
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=1)
    return weight @ layers


def target_weight(step: int, first: float, start: float, decay: float) -> float:
    """Share of the new interaction in the target of write `step`: 0.9, then 0.5, 0.45, 0.4 …, never below 0.05."""
    return first if step == 0 else max(0.05, start - decay * step)


@dataclass(kw_only=True)
class MemoryTargetConfig:
    """Self-supervised memory attention: after write i the state should be (1 - w_i) * before + w_i * interaction."""

    first_weight: float = 0.9
    weight: float = 0.5
    decay: float = 0.05
    """w_0 = first_weight; w_i = weight - decay * i."""
    jitter: float = 0.0
    """Largest random amount added to or taken from each w_i, drawn per row."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the encoder's outputs that memory attention reads."""
    mse_weight: float = 1.0
    """Weight of the mean squared distance beside 1 - cosine, which alone leaves the scale of the memory free."""
    bptt_steps: int | None = 1
    """Writes that a target's gradient flows back through; null: all."""


def memory_target_loss(model, batch: Episodes, counts: dict[str, int], config: MemoryTargetConfig) -> Sums:
    """1 - cosine (and squared distance) between each new state and the weighted mean of the state before it and the
    frozen encoder's outputs. Targets carry no gradient: keeping the old state is no optimum."""
    size, turns, _ = batch.ids.shape
    with torch.no_grad():
        layers = model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)).layers
        pooled = pool_to_slots(layers, batch.mask.flatten(0, 1), model.config.memory_slots)
        # Under autocast the encoder may give bf16; targets are compared in the precision of the state.
        layers, pooled = (x.float().unflatten(1, (size, turns)) for x in (layers, pooled))
        shifts, noise = _target_draws(batch, config, layers.shape, model.config.max_interaction_length)
        if noise is not None:
            layers = layers + config.noise * noise.to(layers)
    state = model.initial_state(seeds=batch.seeds.tolist(), device=batch.ids.device)
    cosine, distance, moved = (layers.new_zeros(()) for _ in range(3))
    for turn in range(turns):
        if config.bptt_steps and turn % config.bptt_steps == 0:
            state = state.detach()
        w = target_weight(turn, config.first_weight, config.weight, config.decay)
        w = (w + shifts[:, turn].to(layers)).clamp(0.02, 0.98)[None, :, None, None]
        target = torch.lerp(state.detach(), pooled[:, :, turn], w)
        written = (batch.mask[:, turn, 0] > 0).to(layers.dtype)
        new = model.update_memory(state, layers[:, :, turn], batch.mask[:, turn])
        cosine = cosine + ((1 - F.cosine_similarity(new, target, dim=-1)).mean((0, 2)) * written).sum()
        distance = distance + ((new - target).square().mean((0, 2, 3)) * written).sum()
        moved = moved + ((new - state).detach().square().mean((0, 2, 3)) * written).sum()
        state = new
    loss = (cosine + config.mse_weight * distance) / counts["writes"]
    numbers = {"cosine_gap": cosine.detach(), "squared_distance": distance.detach(), "moved": moved}
    return Sums(loss, numbers | {"writes_n": (batch.mask[:, :, 0] > 0).sum()})


def _target_draws(
    batch: Episodes, config: MemoryTargetConfig, shape: torch.Size, longest: int
) -> tuple[Tensor, Tensor | None]:
    """Per row and turn, by the row's seed: changes of the weights [B, K] and noise like the encoder's outputs
    [L, B, K, T, D]."""
    layers, rows, turns, tokens, width = shape
    shifts = torch.zeros(rows, turns)
    noise = torch.zeros(shape) if config.noise else None
    if config.jitter or config.noise:
        for row, seed in enumerate(batch.seeds.tolist()):
            for turn in range(turns):
                generator = torch.Generator().manual_seed((seed + turn) ^ 1)
                shifts[row, turn] = config.jitter * (2 * torch.rand((), generator=generator) - 1)
                if noise is not None:
                    noise[:, row, turn] = torch.randn(layers, longest, width, generator=generator)[:, :tokens]
    return shifts, noise


def write_counts(batch: Episodes) -> dict[str, int]:
    """Writes of a global batch."""
    return {"writes": max(1, int((batch.mask[:, :, 0] > 0).sum()))}


@dataclass(kw_only=True)
class MemoryAwareConfig:
    """Supervised memory-aware training: every answer is decoded from the memory of the turns before it."""

    bptt_steps: int | None = None
    """Memory writes between two cuts of the gradient: 1 = only the last write before an answer learns from it; null:
    the whole episode."""
    other_turns: float = 1.0
    """Weight of the answers that need no memory, beside those that do."""
    other_share: float = 1.0
    """Share of those answers that is decoded at all; they are easy, and cost as much as the others."""
    fact_weight: float = 1.0
    """Weight of tokens that hold a needed fact, beside an answer's other tokens."""
    open_book: bool = False
    """The decoder reads the encoder's tokens of all earlier turns instead of the memory: what it needs to find there is
    learnt sooner while nothing is lost in between."""
    distance_power: float = 0.0
    """Answers about facts that were said d turns ago weigh d to this power: far ones are rarer, and harder."""

    def __post_init__(self) -> None:
        """A cut after no write would leave nothing to learn."""
        if self.bptt_steps is not None and self.bptt_steps < 1:
            raise ValueError(f"bptt_steps is {self.bptt_steps}; give 1 or more, or null for the whole episode")


def unroll(model, state: Tensor, ids: Tensor, mask: Tensor, bptt_steps: int | None) -> Tensor:
    """States before and after each of K writes [K + 1, L, B, S, D]. The gradient is cut after every `bptt_steps`
    writes, so it flows back through at most that many."""
    turns = ids.shape[1]
    if turns == 0:
        return state.expand(-1, ids.shape[0], -1, -1)[None]
    if bptt_steps is None or bptt_steps >= turns:
        return model.unroll(state, ids, mask)
    parts = []
    for at in range(0, turns, bptt_steps):
        states = model.unroll(state, ids[:, at : at + bptt_steps], mask[:, at : at + bptt_steps])
        parts.append(states if at == 0 else states[1:])
        state = states[-1].detach()
    return torch.cat(parts)


def answer_weights(batch: Episodes, config: MemoryAwareConfig) -> Tensor:
    """Weight of each token's loss [B, K, T]; 0 where nothing is scored."""
    weight = (batch.labels != IGNORED).float()
    others = weight * config.other_turns
    if config.other_share < 1:
        others = others * (turn_draw(batch.seeds, batch.asks.shape[1]) < config.other_share)[..., None]
    if config.distance_power:
        weight = weight * batch.distance.clamp(min=1)[..., None] ** config.distance_power
    weight = torch.where(batch.asks[..., None], weight, others)
    return torch.where(batch.facts, weight * config.fact_weight, weight)


def memory_aware_counts(batch: Episodes, config: MemoryAwareConfig) -> dict[str, float]:
    """What a global batch is divided by."""
    return {"weight": max(1e-6, float(answer_weights(batch, config)[..., 1:].sum())), "rows": len(batch)}


def memory_aware_loss(model, batch: Episodes, counts: dict[str, float], config: MemoryAwareConfig) -> Sums:
    """Cross-entropy of all answers of all turns, decoded in one batch from the memory that the turns before left (or,
    open book, from the encoder's tokens of these turns)."""
    weight = answer_weights(batch, config)
    if config.open_book:
        loss, turns, aux = decode_turns(model, batch, None, weight, book=open_book(model, batch))
    else:
        loss, turns, aux = decode_turns(model, batch, memory_states(model, batch, config.bptt_steps), weight)
    total = loss / counts["weight"]
    if aux is not None:
        total = total + model.config.router_aux_loss_coef * aux * len(batch) / counts["rows"]
    return Sums(total, turns.sums(batch))


def memory_states(model, batch: Episodes, bptt_steps: int | None = None) -> Tensor:
    """The state that each turn reads: [K, L, B, S, D]. The last turn's own write is never read, so it isn't made."""
    state = model.initial_state(seeds=batch.seeds.tolist(), device=batch.ids.device)
    return unroll(model, state, batch.ids[:, :-1], batch.mask[:, :-1], bptt_steps)


@dataclass
class TurnScores:
    """Of every decoded turn, flat over [B, K]: loss sum, scored tokens, right ones, and whether each needed fact (all
    of the answer where the row names no facts) was predicted token by token: greedy decoding would say it."""

    loss: Tensor
    tokens: Tensor
    right: Tensor
    recalled: Tensor

    def sums(self, batch: Episodes) -> dict[str, Tensor]:
        asked = batch.asks.flatten()
        return {
            "answer_loss": self.loss.sum().detach(),
            "answer_right": self.right.sum(),
            "answer_n": self.tokens.sum(),
            "recalled": (self.recalled & asked).sum(),
            "asked_n": asked.sum(),
        }


def open_book(model, batch: Episodes) -> Tensor:
    """The encoder's tokens of all turns, [L, B, K, T, D]."""
    encoded = model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)).layers
    return encoded.unflatten(1, batch.ids.shape[:2])


def _pages(batch: Episodes, book: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the chosen turns (rows, flat over [B, K]) the tokens of its dialogue [L, n, K * T, D], and which of
    them are of earlier turns [n, K * T]."""
    size, turns, _ = batch.ids.shape
    dialogue = torch.arange(size, device=rows.device).repeat_interleave(turns)[rows]
    turn = torch.arange(turns, device=rows.device).repeat(size)[rows]
    earlier = torch.arange(turns, device=rows.device) < turn[:, None]
    readable = (batch.mask[dialogue] > 0) & earlier[:, :, None]
    # A first turn has nothing to read; it sees its own beginning, the frame's token.
    readable[:, 0, 0] |= turn == 0
    return book.flatten(2, 3)[:, dialogue], readable.flatten(1)


def decode_turns(
    model, batch: Episodes, states: Tensor | None, weight: Tensor, book: Tensor | None = None
) -> tuple[Tensor, TurnScores, Tensor | None]:
    """Decode all turns with a positive weight in one batch, from memory states [K, L, B, S, D] or from a `book` [L, B,
    K, T, D]: weighted loss sum, scores per turn, router loss."""
    rows = (weight > 0).any(-1).flatten()
    ids, mask, labels = (x.flatten(0, 1)[rows] for x in (batch.ids, batch.mask, batch.labels))
    if book is not None:
        memory, readable = _pages(batch, book, rows)
    else:
        # The state is picked before it is laid out in rows, so that turns nobody answers cost nothing.
        memory, readable = states.permute(2, 0, 1, 3, 4).flatten(0, 1)[rows].transpose(0, 1), None
    longest = int(mask.sum(1).max()) if len(ids) else 1
    out = model.decode(ids[:, :longest], mask[:, :longest], memory, state_mask=readable, labels=labels[:, :longest])
    each = F.cross_entropy(out.logits.float(), out.targets, reduction="none")
    scored = labels[:, 1:longest] != IGNORED
    shares = weight.flatten(0, 1)[rows][:, 1:longest][scored]
    facts = batch.facts.flatten(0, 1)[rows][:, 1:longest]
    needed = torch.where(facts.any(1, keepdim=True), facts, scored)[scored]
    turn = rows.nonzero().squeeze(1)[scored.nonzero()[:, 0]]
    hit = out.logits.argmax(-1) == out.targets
    return (each * shares).sum(), _per_turn(rows, turn, each.detach(), hit, needed), out.aux_loss


def _per_turn(rows: Tensor, turn: Tensor, loss: Tensor, hit: Tensor, needed: Tensor) -> TurnScores:
    def add(values: Tensor) -> Tensor:
        return torch.zeros(rows.shape[0], device=rows.device).index_add_(0, turn, values.float())

    missed = add(needed & ~hit)
    return TurnScores(add(loss), add(torch.ones_like(loss)), add(hit), (missed == 0) & rows)
