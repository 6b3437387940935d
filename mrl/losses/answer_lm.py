"""Losses of the supervised stages as functions of a model and a batch.

Each returns the *sum* over what is scored, so that shares of a global batch (gradient accumulation, processes) add up
to exactly what one pass would give; the caller divides by global counts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.dialogues.collation import IGNORED, Episodes
from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.losses.bptt import unroll
from mrl.losses.output import LossOutput
from pipeline.ranges import NonNegativeFloat, PositiveInt, Share


@dataclass(kw_only=True, frozen=True)
class MemoryAwareConfig:
    """Supervised memory-aware training: every answer is decoded from the memory of the turns before it."""

    bptt_steps: PositiveInt | None = None
    """Memory writes between two cuts of the gradient: 1 = only the last write before an answer learns from it; null:
    the whole episode."""
    other_turns: NonNegativeFloat = 1.0
    """Weight of the answers that need no memory, beside those that do."""
    other_share: Share = 1.0
    """Share of those answers that is decoded at all; they are easy, and cost as much as the others."""
    fact_weight: NonNegativeFloat = 1.0
    """Weight of tokens that hold a needed fact, beside an answer's other tokens."""
    open_book: bool = False
    """The decoder reads the encoder's tokens of all earlier turns instead of the memory: what it needs to find there is
    learnt sooner while nothing is lost in between."""
    distance_power: NonNegativeFloat = 0.0
    """Answers about facts that were said d turns ago weigh d to this power: far ones are rarer, and harder."""


def answer_weights(batch: Episodes, config: MemoryAwareConfig) -> Tensor:
    """Weight of each token's loss [B, K, T]; 0 where nothing is scored."""
    weight = (batch.labels != IGNORED).float()
    others = weight * config.other_turns
    if config.other_share < 1:
        others = (
            others
            * (turn_uniforms(batch.seeds, batch.asks.shape[1], Purpose.DECODED_TURNS) < config.other_share)[..., None]
        )
    if config.distance_power:
        weight = weight * batch.distance.clamp(min=1)[..., None] ** config.distance_power
    weight = torch.where(batch.asks[..., None], weight, others)
    return torch.where(batch.facts, weight * config.fact_weight, weight)


def memory_aware_counts(batch: Episodes, config: MemoryAwareConfig) -> dict[str, float]:
    """What a global batch is divided by."""
    return {"weight": max(1e-6, float(answer_weights(batch, config)[..., 1:].sum())), "rows": len(batch)}


def memory_aware_loss(model, batch: Episodes, counts: dict[str, float], config: MemoryAwareConfig) -> LossOutput:
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
    return LossOutput(total, turns.sums(batch))


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
