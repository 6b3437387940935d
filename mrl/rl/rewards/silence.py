"""Of which turns a reward can say anything, asked before answers are there: before a run, for a reward of nothing
teaches nothing, and before a rollout, for an answer that nothing is said of needn't be drawn many times."""

import torch
from torch import Tensor

from mrl.rl.rewards.combined import RewardConfig, score
from mrl.rl.rewards.strategies import strategy_table
from mrl.rl.rewards.words import Vocabulary
from mrl.rl.trajectory import EpisodeBatch, Rollout


def says_something(config: RewardConfig, vocabulary: Vocabulary, batch: EpisodeBatch) -> bool:
    """Whether any answer of the batch would be rewarded, were each the reference."""
    if any(config.weights.get(name) for name in config.models):
        return True  # a reward model speaks of every answer
    return bool(score(config, vocabulary, as_answered(batch)).rewarded.any())


def may_be_rewarded(config: RewardConfig, batch: EpisodeBatch) -> Tensor:
    """Turns [B, K] of which the reward might say something, whatever is answered: no turn outside is ever rewarded.
    Facts are silent where none are needed; of any other term it is only known once there are answers."""
    table = strategy_table(batch.strategies, (batch.size, batch.steps), batch.strategy, batch.turns)
    needs_facts = all(name == "facts" for name, weight in config.weights.items() if weight > 0)
    return (table.factor > 0) & (batch.asks if needs_facts else batch.turns)


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


__all__ = ["as_answered", "may_be_rewarded", "says_something"]
