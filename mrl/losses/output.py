"""What every loss returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Sums:
    """loss: this share of the global mean, differentiable. numbers: sums for logging, added up over shares."""

    loss: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)
