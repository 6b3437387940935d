"""Moving tokens between paddings: any layout in, right-padded rows out."""

import torch
from torch import Tensor


def take_rows(input_ids: Tensor, member: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the positions `member` [B, T] (bool) of every row, in order, into right-padded rows.

    Returns ids [B, n], mask [B, n] (0/1) and the column each came from [B, n]; n = the largest count, at least 1.
    Places under padding hold whatever token stood in their column; the mask tells.
    """
    counts = member.sum(1)
    longest = max(1, int(counts.max()))
    columns = (~member).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    mask = torch.arange(longest, device=input_ids.device) < counts[:, None]
    return input_ids.gather(1, columns), mask.long(), columns


def join_rows(
    first: Tensor, first_mask: Tensor | None, second: Tensor, second_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Append row b of `second` [B, M] to row b of `first` [B, N], without the padding of either.

    Returns ids [B, n], mask [B, n] and the column of the joined [B, N + M] that each place came from.
    """
    masks = [
        torch.ones_like(ids) if mask is None else mask for ids, mask in ((first, first_mask), (second, second_mask))
    ]
    return take_rows(torch.cat([first, second], dim=1), torch.cat(masks, dim=1).bool())
