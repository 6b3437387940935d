"""The loss of a reward model over pairs: Bradley and Terry's, with the options of TRL's RewardTrainer."""

import torch
import torch.nn.functional as F

from mrl.losses.output import LossOutput
from mrl.preferences.pairs import PairBatch
from mrl.preferences.reward_model import Judged, RewardModel


def reward_counts(batch: PairBatch) -> dict[str, float]:
    """What a global batch is divided by."""
    return {"pairs": max(1, batch.pairs)}


def reward_loss(model: RewardModel, batch: PairBatch, counts: dict[str, float], center: float) -> LossOutput:
    """-log sigmoid of how far the chosen answer scores above the rejected one, a mean over pairs; TRL's figures as
    sums. Both are read with what was said before their turn, in which neither is. center: weight of the squared sum of
    a pair's scores."""
    row, turn = batch.paired.nonzero(as_tuple=True)
    width = max(batch.ids.shape[2], batch.rejected.shape[2])
    ids, mask = (
        torch.cat([F.pad(x[batch.paired], (0, width - x.shape[2])) for x in both])
        for both in ((batch.ids, batch.rejected), (batch.mask, batch.rejected_mask))
    )
    judged = Judged(ids, mask, row.repeat(2), turn.repeat(2))
    # The last interaction is before nobody.
    writes, written = (x[:, : max(1, x.shape[1] - 1)] for x in (batch.ids, batch.mask))
    chosen, rejected = model.scores(writes, written, batch.seeds, judged).view(2, -1)
    each = -F.logsigmoid(chosen - rejected)
    if center:
        each = each + center * (chosen + rejected).square()
    return LossOutput(
        each.sum() / counts["pairs"],
        {
            "accuracy": (chosen > rejected).float().sum(),
            "margin": (chosen - rejected).detach().sum(),
            "mean_reward": (chosen + rejected).detach().sum() / 2,
            "reward_loss": each.detach().sum(),
            "pairs_n": torch.tensor(float(len(row))),
        },
    )


__all__ = ["reward_counts", "reward_loss"]
