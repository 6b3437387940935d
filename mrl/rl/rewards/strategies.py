"""What each dialogue's strategy rewards, and which interaction is the saved data of each of its turns."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mrl.rl.trajectory import EpisodeBatch, Strategy


@dataclass(frozen=True)
class StrategyTable:
    """By turn [B, K]: factor on the reward (0 = none), index of the saved write, whether the last turn is compared
    with everything, price of leaning on the old topic."""

    factor: Tensor
    saved: Tensor
    everything: Tensor
    penalty: Tensor


def strategy_table(
    strategies: Sequence[Strategy], lead: tuple[int, int], choice: Tensor, turns: Tensor
) -> StrategyTable:
    """What each dialogue's strategy makes of each of its turns; choice [B], turns [B, K]."""
    rows, steps = lead
    place = torch.arange(steps, device=turns.device).expand(rows, steps)
    last = turns & (place == turns.sum(1, keepdim=True) - 1)
    factor, penalty = torch.zeros(lead, device=turns.device), torch.zeros(lead, device=turns.device)
    saved, everything = place.clone(), torch.zeros(lead, dtype=torch.bool, device=turns.device)
    for index, strategy in enumerate(strategies):
        mine = (choice == index)[:, None] & turns
        if strategy.kind == "single":
            factor = torch.where(mine & (place == 0), 1.0, factor)
        elif strategy.kind == "cumulative":
            factor = torch.where(mine, 1.0, factor)
            factor = torch.where(mine & last, strategy.final_weight, factor)
            saved = torch.where(mine, (place - strategy.saved_offset + 1).clamp(min=0), saved)
            everything = everything | (mine & last & (place > 0))
        else:
            counted = mine if strategy.dense else mine & last
            factor = torch.where(counted, 1.0, factor)
            saved = torch.where(mine & last, 0, saved)
            penalty = torch.where(mine & ~last, strategy.topic_change_penalty, penalty)
    return StrategyTable(factor, saved, everything, penalty)


def saved_data(batch: EpisodeBatch) -> Tensor:
    """Which interactions [B, K, K] each turn's answer is compared with: the write before that turn, one some turns
    earlier (cumulative, `saved_offset`), the first (long_term, at the last turn) or all up to that turn (cumulative, at
    the last turn)."""
    table = strategy_table(batch.strategies, (batch.size, batch.steps), batch.strategy, batch.turns)
    place = torch.arange(batch.steps, device=batch.turns.device)
    written = place <= place[:, None]
    return torch.where(table.everything[..., None], written, place == table.saved[..., None])
