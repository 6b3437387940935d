"""Losses over pairs of answers by the names that TRL's DPOTrainer has for them.

Every loss is a value for each pair, from the summed log-probs of both answers under the policy and under the reference
(the frozen start), so that shares of a batch simply add up. Losses that compare pairs with one another (`aot`) can't be
cut into shares and aren't here.

Symbols: n pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.recipes.preference import PreferenceConfig


@dataclass(frozen=True, eq=False)
class PairLogProbs:
    """Of n pairs: log-probs of the chosen and the rejected answers under the policy and the reference, summed over
    their tokens [n], and their numbers of tokens [n]."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @property
    def up(self) -> Tensor:
        """Log-ratio of the chosen answers to the reference."""
        return self.chosen - self.reference_chosen

    @property
    def down(self) -> Tensor:
        """Log-ratio of the rejected answers to the reference."""
        return self.rejected - self.reference_rejected

    @property
    def margin(self) -> Tensor:
        return self.up - self.down

    @property
    def margin_per_token(self) -> Tensor:
        return self.up / self.chosen_tokens.clamp(min=1) - self.down / self.rejected_tokens.clamp(min=1)


def _exo_pair(p: PairLogProbs, config: PreferenceConfig) -> Tensor:
    """KL between the policy's choice of one answer and the smoothed label (Ji et al. 2024, arXiv:2402.00856)."""
    smoothing = torch.tensor(config.label_smoothing, device=p.chosen.device)
    right, wrong = F.logsigmoid(config.beta * p.margin), F.logsigmoid(-config.beta * p.margin)
    return right.exp() * (right - torch.log1p(-smoothing)) + wrong.exp() * (wrong - smoothing.log())


def _nca_pair(p: PairLogProbs, config: PreferenceConfig) -> Tensor:
    """Noise contrastive alignment (Chen et al. 2024, arXiv:2402.05369)."""
    up, down = config.beta * p.up, config.beta * p.down
    return -F.logsigmoid(up) - 0.5 * F.logsigmoid(-up) - 0.5 * F.logsigmoid(-down)


def _robust(p: PairLogProbs, config: PreferenceConfig) -> Tensor:
    """DPO without the bias of a known share of wrong labels (Chowdhury et al. 2024, arXiv:2403.00409)."""
    smoothing = config.label_smoothing
    right, wrong = F.logsigmoid(config.beta * p.margin), F.logsigmoid(-config.beta * p.margin)
    return (smoothing * wrong - (1 - smoothing) * right) / (1 - 2 * smoothing)


def _discopop(p: PairLogProbs, config: PreferenceConfig) -> Tensor:
    """Logistic and exponential loss, mixed by the margin (Lu et al. 2024, arXiv:2406.08414)."""
    logits = config.beta * p.margin
    mixed = torch.sigmoid(logits / config.discopop_tau)
    return -F.logsigmoid(logits) * (1 - mixed) + torch.exp(-logits) * mixed


def _apo_down(p: PairLogProbs, config: PreferenceConfig) -> Tensor:
    """For chosen answers that are worse than the model's own (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8)."""
    return torch.sigmoid(config.beta * p.up) + 1 - torch.sigmoid(config.beta * p.margin)


LOSSES: dict[str, Callable[[PairLogProbs, PreferenceConfig], Tensor]] = {
    "sigmoid": lambda p, c: -F.logsigmoid(c.beta * p.margin),
    "hinge": lambda p, c: torch.relu(1 - c.beta * p.margin),
    "ipo": lambda p, c: (p.margin_per_token - 1 / (2 * c.beta)) ** 2,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": lambda p, c: -F.logsigmoid(c.beta * p.up) - F.logsigmoid(-c.beta * p.down),
    "sppo_hard": lambda p, c: (p.up - 0.5 / c.beta) ** 2 + (p.down + 0.5 / c.beta) ** 2,
    "apo_zero": lambda p, c: 1 - torch.sigmoid(c.beta * p.up) + torch.sigmoid(c.beta * p.down),
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sigmoid_norm": lambda p, c: -F.logsigmoid(c.beta * p.margin_per_token),
}
"""(log-probs, config) -> loss [n]. `sft` isn't among them: it is a mean over tokens, not over pairs."""


def pair_loss(p: PairLogProbs, config: PreferenceConfig, pairs: float, chosen_tokens: float) -> Tensor:
    """Share of the weighted losses that these pairs have in a batch of `pairs` pairs, whose chosen answers have
    `chosen_tokens` tokens; shares add up to TRL's mean."""
    total = p.chosen.sum() * 0.0
    for name, weight in zip(config.loss_type, config.weights, strict=True):
        mean = -p.chosen.sum() / chosen_tokens if name == "sft" else LOSSES[name](p, config).sum() / pairs
        total = total + weight * mean
    return total


def pair_metrics(p: PairLogProbs, beta: float) -> dict[str, Tensor]:
    """TRL's figures, summed over the pairs, and their number `pairs_n`."""
    up, down = beta * p.up.detach(), beta * p.down.detach()
    return {
        "rewards/chosen": up.sum(),
        "rewards/rejected": down.sum(),
        "rewards/accuracies": (up > down).float().sum(),
        "rewards/margins": (up - down).sum(),
        "logps/chosen": p.chosen.detach().sum(),
        "logps/rejected": p.rejected.detach().sum(),
        "pairs_n": torch.tensor(float(len(up))),
    }


__all__ = ["PairLogProbs", "PreferenceConfig", "pair_loss", "pair_metrics"]
