"""Learning what to keep: the tokens of a turn that a later answer of the dialogue needs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.dialogues.collation import Episodes
from mrl.model.memory_state import Written


def needed_later(batch: Episodes) -> Tensor:
    """Tokens [B, K, T] bool of the turns that told a fact which stand in a later answer that needs it: of the turn
    `distance` before a question those whose ids are among the ids of the facts in its answer."""
    row, turn = (batch.asks & (batch.distance > 0)).nonzero(as_tuple=True)
    told = turn - batch.distance[row, turn]
    row, turn, told = (x[told >= 0] for x in (row, turn, told))
    wanted = batch.ids[row, turn].masked_fill(~batch.facts[row, turn], -1)
    found = (batch.ids[row, told][:, :, None] == wanted[:, None]).any(-1) & (batch.mask[row, told] > 0)
    return torch.zeros(batch.ids.shape, device=batch.ids.device).index_put_((row, told), found.float(), True) > 0


def written_tokens(batch: Episodes) -> Tensor:
    """Tokens [B, K - 1, T] bool of the turns that another one follows, so that they are written."""
    return (batch.mask[:, :-1] > 0) & (batch.mask[:, 1:, :1] > 0)


def keep_loss(batch: Episodes, written: Written) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy, summed over the tokens of all turns that are written, of whether they are needed later; and how
    many of those that are were kept."""
    present = written_tokens(batch).transpose(0, 1)
    needed = needed_later(batch)[:, :-1].transpose(0, 1)
    loss = F.binary_cross_entropy_with_logits(written.worth.float(), needed.float(), reduction="none")
    kept = {"needed_kept": (written.kept & needed).sum(), "needed_n": needed.sum()}
    return (loss * present).sum(), kept


__all__ = ["keep_loss", "needed_later", "written_tokens"]
