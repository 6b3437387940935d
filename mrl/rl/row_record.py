"""Records of tensors whose first dimension is the row: taking rows, joining, moving, laying down, all in one place."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.rl.episode_start import EpisodeStart


def per_row(ndim: int, *, fill: int = 0) -> Any:
    """A field [B, ...] of `ndim` dimensions; joined with rows of other widths it is filled up with `fill`."""
    return field(metadata={"ndim": ndim, "fill": fill})


def per_turn(ndim: int = 2, *, width: str | None = None, fill: int = 0, optional: bool = False) -> Any:
    """A field [B, K, ...] of `ndim` dimensions; `width` names the mask that says how much of its last one is used."""
    metadata = {"ndim": ndim, "fill": fill, "turns": True, "width": width}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowRecord:
    """A frozen record of B rows. Fields are tensors declared with `per_row` or `per_turn`, dicts of tensors [B, K],
    other records, anything with the same operations (`EpisodeStart`), or plain values that all rows share.

    Raises ValueError for tensors of another shape than declared.
    """

    def __post_init__(self) -> None:
        lead: tuple[int, ...] = ()
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, Tensor):
                continue
            size = 2 if item.metadata.get("turns") else 1
            lead = max(lead, tuple(value.shape[:size]), key=len)
            expect(value, lead=lead[:size], ndim=item.metadata["ndim"], name=item.name)

    def select(self, rows: Tensor | slice) -> Self:
        """The given rows, in their order."""
        return self._each(lambda value: value[rows], lambda part: part.select(rows))

    def to(self, device: torch.device | str) -> Self:
        """On another device."""
        return self._each(lambda value: value.to(device), lambda part: part.to(device))

    def _each(self, tensor: Any, part: Any) -> Self:
        changes: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changes[item.name] = tensor(value)
            elif isinstance(value, dict):
                changes[item.name] = {name: tensor(one) for name, one in value.items()}
            elif isinstance(value, RowRecord | EpisodeStart):
                changes[item.name] = part(value)
        return replace(self, **changes)

    @classmethod
    def join(cls, records: Sequence[Self]) -> Self:
        """Rows of several records one after another, padded to common widths. Raises ValueError where one has a tensor
        that another lacks."""
        first = records[0]
        if len(records) == 1:
            return first
        changes: dict[str, Any] = {}
        for item in fields(first):
            values = [getattr(record, item.name) for record in records]
            if any(isinstance(value, Tensor) for value in values):
                if not all(isinstance(value, Tensor) for value in values):
                    raise ValueError(f"{item.name} is missing in some of the records that are joined")
                changes[item.name] = _joined(values, item.metadata["fill"])
            elif isinstance(values[0], dict):
                changes[item.name] = {name: _joined([value[name] for value in values], 0) for name in values[0]}
            elif isinstance(values[0], RowRecord | EpisodeStart):
                changes[item.name] = type(values[0]).join(values)
        return replace(first, **changes)

    def trim(self) -> Self:
        """Without turns and columns that are empty in every row."""
        turns: Tensor = self.turns  # ty: ignore[missing-attribute] - records with turns have it
        steps = max(1, int(turns.any(0).sum()))
        widths: dict[str, int] = {}
        changes: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor) and item.metadata.get("turns"):
                value = value[:, :steps]
                if mask := item.metadata["width"]:
                    if mask not in widths:
                        widths[mask] = max(1, int(getattr(self, mask)[:, :steps].sum(-1).max()))
                    value = value[..., : widths[mask]]
                changes[item.name] = value
            elif isinstance(value, dict):
                changes[item.name] = {name: one[:, :steps] for name, one in value.items()}
            elif isinstance(value, RowRecord):
                changes[item.name] = value.trim()
        return replace(self, **changes)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain tensors, numbers and lists, for a checkpoint."""
        return {
            item.name: value.state_dict() if hasattr(value := getattr(self, item.name), "state_dict") else value
            for item in fields(self)
        }


def extended[R: RowRecord](cls: type[R], record: RowRecord, **more: Any) -> R:
    """A record of a class that adds fields, built whole from the one that it goes on from and what it adds."""
    return cls(**{item.name: getattr(record, item.name) for item in fields(record)} | more)


def expect(*tensors: Tensor, lead: tuple[int, ...], ndim: int, name: str = "tensor") -> None:
    """Raise ValueError unless every tensor has `ndim` dimensions of which the first are `lead`."""
    for tensor in tensors:
        if tensor.ndim != ndim or tuple(tensor.shape[: len(lead)]) != tuple(lead):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected {ndim} dimensions beginning {tuple(lead)}"
            )


def _joined(tensors: list[Tensor], fill: int) -> Tensor:
    """Rows one after another; other dimensions are filled up to the largest."""
    shape = [max(tensor.shape[d] for tensor in tensors) for d in range(1, tensors[0].ndim)]
    padded = []
    for tensor in tensors:
        missing = [(0, most - own) for most, own in zip(shape, tensor.shape[1:], strict=True)]
        padding = [n for pair in reversed(missing) for n in pair]
        padded.append(F.pad(tensor, padding, value=fill) if any(padding) else tensor)
    return torch.cat(padded)
