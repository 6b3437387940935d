"""Both answers of every pair, scored from the memory that the turns before them left.

Neither answer is in that memory: turn k reads the state after k writes, and what is written as turn k is the chosen
interaction, which only later turns find there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from torch import Tensor

from mrl.dialogues.sampler import in_order
from mrl.losses.answer_log_probs import token_log_probs
from mrl.losses.bptt import unroll
from mrl.losses.memory_model import MemoryModel
from mrl.losses.output import LossOutput
from mrl.losses.preference import PairLogProbs, PreferenceConfig, pair_loss, pair_metrics
from mrl.model import MemoryHistory
from mrl.preferences.pairs import PairBatch, PairData

AT_ONCE = 64
"""Dialogues of a batch in which nothing is learnt."""


def memory_before(model: MemoryModel, batch: PairBatch, bptt_steps: int | None = None) -> MemoryHistory:
    """The states that the turns read: turn k the one after k writes of chosen interactions."""
    state = model.initial_state(seeds=batch.seeds.tolist(), device=batch.ids.device)
    return unroll(model, state, batch.ids[:, :-1], batch.mask[:, :-1], bptt_steps)


def pair_log_probs(
    model: MemoryModel, batch: PairBatch, bptt_steps: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-probs of the chosen and the rejected answers [2, n], summed over tokens, of the n pairs in row-major order;
    their numbers of tokens [2, n]; router loss of a mixture of experts, or None."""
    history = memory_before(model, batch, bptt_steps)
    row, turn = batch.paired.nonzero(as_tuple=True)
    width = max(batch.ids.shape[2], batch.rejected.shape[2])

    def both(chosen: Tensor, rejected: Tensor) -> Tensor:
        wide = (F.pad(x[batch.paired], (0, width - x.shape[2])) for x in (chosen, rejected))
        return torch.cat(list(wide))

    ids = both(batch.ids, batch.rejected)
    scored = both(batch.scored, batch.rejected_scored)
    # One pass over both: the same states, twice.
    memory = history.after(turn.repeat(2), row.repeat(2))
    scores = token_log_probs(model, ids, both(batch.mask, batch.rejected_mask), scored, memory)
    sums = torch.zeros(len(ids), device=ids.device).index_add(0, scored.nonzero()[:, 0], scores.log_probs.float())
    return sums.view(2, -1), scored.sum(1).view(2, -1), scores.aux_loss


def preference_counts(batch: PairBatch) -> dict[str, float]:
    """What a global batch is divided by."""
    chosen = (batch.scored & batch.paired[..., None]).sum()
    return {"pairs": max(1, batch.pairs), "tokens": max(1, int(chosen)), "rows": len(batch)}


def preference_loss(
    model: MemoryModel, batch: PairBatch, counts: dict[str, float], config: PreferenceConfig
) -> LossOutput:
    """The loss of a share of a batch, with TRL's figures as sums; sums over tokens of both kinds of answers too."""
    sums, tokens, aux = pair_log_probs(model, batch, config.bptt_steps)
    reference = batch.reference[batch.paired].T
    pairs = PairLogProbs(*sums, *reference, *tokens)
    loss = pair_loss(pairs, config, counts["pairs"], counts["tokens"])
    metrics = pair_metrics(pairs, config.beta)
    metrics["pair_loss"] = loss.detach() * counts["pairs"]
    metrics["preferred"] = (sums[0] / tokens[0] > sums[1] / tokens[1]).float().sum()
    if aux is not None:
        loss = loss + model.config.router_aux_loss_coef * aux * len(batch) / counts["rows"]
    return LossOutput(loss, metrics)


def batches(data: PairData, limit: int | None = None) -> Iterator[np.ndarray]:
    """Dialogues by number (`limit`: so many, evenly spread), those of like length together."""
    count = len(data) if limit is None else min(limit, len(data))
    some = np.linspace(0, len(data) - 1, count).astype(np.int64)
    for index in in_order(data.chosen.turns[some] * 1000 + data.chosen.longest()[some], AT_ONCE):
        yield some[index]


def reference_log_probs(model: MemoryModel, data: PairData, device: torch.device, rank: int, world: int) -> np.ndarray:
    """Log-probs [turns, 2] of both answers of each turn of the data under the model as it is now, 0 where there is no
    pair. Every process computes its share and gets all of them."""
    found = np.zeros((len(data.other), 2), dtype=np.float32)
    with torch.no_grad():
        for number, dialogues in enumerate(batches(data)):
            if number % world == rank:
                batch = data.batch(dialogues)
                sums, _, _ = pair_log_probs(model, batch.to(device))
                found[data.turn_numbers(dialogues)[batch.paired.numpy()]] = sums.T.cpu().numpy()
    if world > 1:
        shares: Sequence[Any] = gather_object([found])
        found = np.sum(shares, axis=0)
    return found


__all__ = [
    "batches",
    "memory_before",
    "pair_log_probs",
    "preference_counts",
    "preference_loss",
    "reference_log_probs",
]
