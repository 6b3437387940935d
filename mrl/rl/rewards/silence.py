"""Whether a reward can say anything of given dialogues, asked before a run: a reward of nothing teaches nothing."""

import torch
from torch import Tensor

from mrl.rl.rewards.combined import RewardConfig, score
from mrl.rl.rewards.words import Vocabulary
from mrl.rl.trajectory import EpisodeBatch, Rollout


def says_something(config: RewardConfig, vocabulary: Vocabulary, batch: EpisodeBatch) -> bool:
    """Whether any answer of the batch would be rewarded, were each the reference."""
    if any(config.weights.get(name) for name in config.models):
        return True  # a reward model speaks of every answer
    return bool(score(config, vocabulary, as_answered(batch)).rewarded.any())


def as_answered(batch: EpisodeBatch) -> Rollout:
    """The rollout in which every answer, and so every write, is the reference."""
    lead = batch.turns.shape
    asked = torch.cat([batch.query_ids, batch.reference_ids], dim=-1)[:, :-1]
    asked_mask = torch.cat([batch.query_mask, batch.reference_mask], dim=-1)[:, :-1]
    width = max(batch.first_ids.shape[-1], asked.shape[-1])
    writes = torch.cat([_widened(batch.first_ids[:, None], width), _widened(asked, width)], dim=1)
    writes_mask = torch.cat([_widened(batch.first_mask[:, None], width), _widened(asked_mask, width)], dim=1)
    return Rollout(
        batch=batch,
        writes=writes,
        writes_mask=writes_mask & batch.turns[..., None],
        answer_ids=batch.reference_ids,
        answer_mask=batch.reference_mask,
        sampled=torch.zeros_like(batch.reference_mask),
        log_probs=torch.zeros(batch.reference_ids.shape, device=batch.turns.device),
        finished=torch.ones(lead, dtype=torch.bool, device=batch.turns.device),
        thought=torch.zeros(lead, dtype=torch.long, device=batch.turns.device),  # no reward reads it
        cut=torch.zeros(lead, dtype=torch.bool, device=batch.turns.device),
    )


def _widened(tokens: Tensor, width: int) -> Tensor:
    """[..., n] with zeros behind up to [..., width]."""
    return torch.nn.functional.pad(tokens, (0, width - tokens.shape[-1]))


__all__ = ["as_answered", "says_something"]
