"""What every loss returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class LossOutput:
    """loss: this share of the global mean, differentiable. metrics: sums for logging, added up over shares."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
