"""Losses of the supervised stages as functions of a model and a batch.

Each returns the *sum* over what is scored, so that shares of a global batch (gradient accumulation, processes) add up
to exactly what one pass would give; the caller divides by global counts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrl.dialogues.collation import IGNORED, Episodes
from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.losses.answer_log_probs import TokenScores, token_log_probs
from mrl.losses.bptt import unroll
from mrl.losses.keeping import keep_loss, written_tokens
from mrl.losses.memory_model import MemoryModel
from mrl.losses.output import LossOutput
from mrl.model import MemoryHistory, MemoryState
from mrl.recipes.supervised import MemoryAwareConfig


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
    return {
        "weight": max(1e-6, float(answer_weights(batch, config)[..., 1:].sum())),
        "rows": len(batch),
        "written": max(1, int(written_tokens(batch).sum())),
    }


def memory_aware_loss(
    model: MemoryModel, batch: Episodes, counts: dict[str, float], config: MemoryAwareConfig
) -> LossOutput:
    """Cross-entropy of all answers of all turns, decoded in one batch from the memory that the turns before left (or,
    open book, from the encoder's tokens of these turns)."""
    weight = answer_weights(batch, config)
    memory = OpenBook.of(model, batch) if config.open_book else memory_states(model, batch, config.bptt_steps)
    loss, turns, aux = decode_turns(model, batch, memory, weight)
    total = loss / counts["weight"]
    if aux is not None:
        total = total + model.config.router_aux_loss_coef * aux * len(batch) / counts["rows"]
    metrics = turns.sums(batch)
    if isinstance(memory, MemoryHistory) and memory.written is not None:
        keeping, kept = keep_loss(batch, memory.written)
        total, metrics = total + keeping / counts["written"], metrics | kept
    return LossOutput(total, metrics)


def memory_states(model: MemoryModel, batch: Episodes, bptt_steps: int | None = None) -> MemoryHistory:
    """The states that the turns read: turn k the one after k writes. The last turn is read by nobody, so it isn't
    written."""
    state = model.initial_state(seeds=batch.seeds.tolist(), device=batch.ids.device)
    return unroll(model, state, batch.ids[:, :-1], batch.mask[:, :-1], bptt_steps)


@dataclass
class TurnScores:
    """Of every decoded turn, flat over [B, K]: loss sum, scored tokens, right ones, and whether each needed fact (all
    of the answer where the row names no facts) was predicted token by token, after a thought that was too: greedy
    decoding would say it."""

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


@dataclass(frozen=True, eq=False)
class OpenBook:
    """What stands in for a memory while nothing may be lost: the encoder's tokens of all turns, pages [L, B, K, T, D],
    mask [B, K, T]."""

    pages: Tensor
    mask: Tensor

    @staticmethod
    def of(model: MemoryModel, batch: Episodes) -> "OpenBook":
        """All turns of a batch, encoded."""
        encoded = model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)).layers
        return OpenBook(encoded.unflatten(1, batch.ids.shape[:2]), batch.mask)

    def after(self, writes: Tensor, rows: Tensor) -> MemoryState:
        """For turns of dialogues `rows` [n] the tokens of the `writes` [n] turns before them, [L, n, K * T, D]."""
        earlier = torch.arange(self.mask.shape[1], device=rows.device) < writes[:, None]
        readable = (self.mask[rows] > 0) & earlier[:, :, None]
        # A first turn has nothing to read; it sees its own beginning, the frame's token.
        readable[:, 0, 0] |= writes == 0
        return MemoryState(self.pages.flatten(2, 3)[:, rows], readable.flatten(1))


def decode_turns(
    model: MemoryModel, batch: Episodes, memory: MemoryHistory | OpenBook, weight: Tensor
) -> tuple[Tensor, TurnScores, Tensor | None]:
    """Decode all turns with a positive weight [B, K, T] in one batch, each from the memory that the turns before it
    left: weighted loss sum, scores per turn, router loss."""
    chosen = (weight > 0).any(-1)
    row, turn = chosen.nonzero(as_tuple=True)
    ids, mask, labels, facts, thoughts = (
        x[chosen] for x in (batch.ids, batch.mask, batch.labels, batch.facts, batch.thoughts)
    )
    longest = int(mask.sum(1).max()) if len(ids) else 1
    ids, mask, scored, facts = ids[:, :longest], mask[:, :longest], (labels != IGNORED)[:, :longest], facts[:, :longest]
    scored[:, 0] = False
    # The states of these turns only are laid out in rows: those that nobody answers cost nothing.
    scores = token_log_probs(model, ids, mask, scored, memory.after(turn, row))
    shares = weight[chosen][:, :longest][scored]
    needed = torch.where(facts[:, 1:].any(1, keepdim=True), facts | thoughts[:, :longest], scored)[scored]
    return -(scores.log_probs * shares).sum(), _per_turn(chosen.flatten(), scored, scores, needed), scores.aux_loss


def _per_turn(chosen: Tensor, scored: Tensor, scores: TokenScores, needed: Tensor) -> TurnScores:
    turn = chosen.nonzero().squeeze(1)[scored.nonzero()[:, 0]]

    def add(values: Tensor) -> Tensor:
        return torch.zeros(chosen.shape[0], device=chosen.device).index_add_(0, turn, values.float())

    loss, missed = -scores.log_probs.detach(), add(needed & ~scores.right)
    return TurnScores(add(loss), add(torch.ones_like(loss)), add(scores.right), (missed == 0) & chosen)
