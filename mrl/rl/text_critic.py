"""Critics that read texts: the saved data and the query, with an encoder of their own that starts as the actor's copy.

They have been kept to compare with (`critic.kind`: text_memory, frozen_memory, classic; mrl/rl/critic.py says which is
which).
"""

import torch
from torch import Tensor

from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, ReactiveForSequenceClassification, Sampling, join_rows
from mrl.rl.rewards import saved_data
from mrl.rl.trajectory import Rollout, TrainingBatch


class TextCritic(ReactiveForSequenceClassification):
    """A scorer of saved data and query, with or without the memory that the actor answers from."""

    def turn_values(self, rollout: Rollout, history: MemoryHistory | None, turns: Tensor) -> Tensor:
        """Values [B, K] of the given turns [B, K], 0 elsewhere; history: of the leaders, one row a group. Raises
        ValueError where the memory is to be read and `history` is None."""
        batch, saved = rollout.batch, saved_data(rollout.batch)
        several = saved.sum(-1) > 1
        values = torch.zeros(turns.shape, device=turns.device)
        for chosen in (turns & ~several, turns & several):  # apart: one interaction isn't padded to the length of all
            if bool(chosen.any()):
                row, turn = place = chosen.nonzero(as_tuple=True)
                text = rollout.writes[row].flatten(1), (rollout.writes_mask[row] & saved[place][..., None]).flatten(1)
                ids, mask, _ = join_rows(*text, batch.query_ids[place], batch.query_mask[place])
                memory = None
                if self.config.classifier_reads_memory:
                    if history is None:
                        raise ValueError("a critic that reads the memory needs the states of the rollout")
                    memory = history.detach().after(turn + 1, row // rollout.group)
                values = values.index_put(place, self(ids, mask, memory).logits.squeeze(-1).float())
        return values

    def reads(self, sampling: Sampling) -> None:
        """A rollout needn't keep anything for such a critic."""

    def opened[R: Rollout](
        self, model: MemoryModel, rollout: R, history: MemoryHistory, wanted: Tensor, sampling: Sampling, groups: int
    ) -> R:
        """The rollout as it is: what such a critic reads is there already."""
        return rollout

    def calibrate(self, batch: TrainingBatch, warmup_epochs: int) -> Tensor:
        """Tell a fresh critic, which says 0 of everything, the mean return of its first round; values [B, K] as they
        are then. One that is told it learns at once what lies above and below it; left to find the mean by itself it is
        still there when a short run ends (mrl/RESULTS.md)."""
        mean = float(batch.returns[batch.credited].mean())
        self.set_bias(mean)
        return batch.values + mean * batch.credited

    def set_bias(self, value: float) -> None:
        """Let a fresh critic say `value` of everything."""
        with torch.no_grad():
            self.score.out.bias.fill_(value)
