"""The rows of a batch in groups of like length, so that little of what is computed is padding.

A batch is as wide as its longest row, while a dialogue's turns differ by more than a factor of two: of 512 turns at
once two fifths and more are padding. On a CPU arithmetic is what takes time, and what lies between two layers of a
small group stays in its cache. On other devices one pass over everything is faster than several small ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 64
"""Of a group. Groups of 32 and of 128 take longer (mrl/RESULTS.md)."""


@dataclass(frozen=True, eq=False)
class LengthGroups:
    """Which rows are computed together; parts: their ids and masks without the padding that all of a group have; width:
    of the whole batch."""

    rows: Sequence[Tensor]
    parts: Sequence[tuple[Tensor, Tensor]]
    width: int

    @staticmethod
    def of(ids: Tensor, mask: Tensor | None) -> "LengthGroups | None":
        """Groups of the rows of a right-padded batch [B, T] by its mask (None: no padding); None where there is nothing
        to gain."""
        if ids.device.type != "cpu" or len(ids) <= ROWS:
            return None
        shown = torch.ones_like(ids) if mask is None else mask
        ends = ((shown != 0) * torch.arange(1, ids.shape[1] + 1)).amax(1).clamp(min=1)
        rows = ends.argsort(stable=True).tensor_split(-(-len(ids) // ROWS))
        widths = [int(ends[some[-1]]) for some in rows]
        parts = [(ids[some, :n], shown[some, :n]) for some, n in zip(rows, widths, strict=True)]
        return LengthGroups(rows, parts, ids.shape[1])

    def join(self, parts: Sequence[Tensor], rows: int = 0) -> Tensor:
        """What was computed of each group, [..., B, T, D] with the rows as dimension `rows` and the tokens after it, as
        the whole batch; zeros where it is padded wider than its group."""
        wide = [F.pad(part, (0, 0, 0, self.width - part.shape[rows + 1])) for part in parts]
        return torch.cat(wide, rows).index_select(rows, torch.cat(list(self.rows)).argsort())
