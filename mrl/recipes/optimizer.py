"""Section `optimizer`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pipeline.errors import SettingError
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, Share, ShareBelowOne
from pipeline.resumable import RESUMABLE, WHOLE_RUN

MODEL_PARTS = ("embedding", "encoder", "memory_attention", "memory_cross_attention", "decoder")
PARTS = (*MODEL_PARTS, "critic", "score")


@dataclass(kw_only=True, frozen=True)
class OptimizerConfig:
    """Section `optimizer`."""

    RENAMED: ClassVar[Mapping[str, str]] = {"rates": "lr_multipliers"}

    kind: Literal["adamw", "muon"] = field(default="adamw", metadata=WHOLE_RUN)
    """muon: the matrices of attention and feed-forward layers by torch.optim.Muon (Jordan et al. 2024), brought to the
    step size of AdamW, which takes everything else."""
    learning_rate: PositiveFloat = 2e-3
    """Peak rate."""
    lr_multipliers: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Factors on it by part (embedding, encoder, memory_attention, memory_cross_attention, decoder and, where there is
    one, critic); 0 freezes."""
    unfreeze: dict[str, NonNegativeInt] = field(default_factory=dict)
    """Step from which a part is trained; parts not named: from the first. Gradual unfreezing."""
    weight_decay: NonNegativeFloat = field(default=0.01, metadata=WHOLE_RUN)
    """Of matrices; norms, gates' biases and vectors have none."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = field(default=(0.9, 0.98), metadata=WHOLE_RUN)
    max_grad_norm: PositiveFloat = 1.0
    shard: bool = field(default=False, metadata={**RESUMABLE, **WHOLE_RUN})
    """Every process gets the gradients of its share of the parameters only, keeps their moments and updates them (ZeRO
    stage 2: Rajbhandari et al. 2020, arXiv:1910.02054); the weights themselves stay whole in each."""
    warmup_steps: NonNegativeFloat = 50
    """Steps of linear rise; below 1 a share of max_steps."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay_share: Share = 1.0
    """Share of the run, at its end, in which the rate falls; before that it stays at the peak. Above 0."""
    final_share: Share = 0.05
    """What is left of the peak at the end."""

    def __post_init__(self) -> None:
        """Refuse parts that don't exist."""
        for section, names in (("lr_multipliers", self.lr_multipliers), ("unfreeze", self.unfreeze)):
            unknown = [name for name in names if name not in PARTS]
            if unknown:
                raise SettingError(
                    f"{section}.{unknown[0]}", f"{section} names {unknown[0]}; the parts are {', '.join(PARTS)}"
                )
        if self.decay_share == 0:
            raise SettingError("decay_share", "decay_share is 0; for a rate that never falls use schedule: constant")

    def factor(self, step: int, progress: float, max_steps: int) -> float:
        """Share of the peak rate for step number `step` (from 0), `progress` in 0..1 of the run being done."""
        warmup = self.warmup_steps if self.warmup_steps >= 1 else self.warmup_steps * max_steps
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if self.schedule == "constant":
            return rise
        late = min(1.0, max(0.0, (progress - 1 + self.decay_share) / self.decay_share))
        left = 1 - late if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * late))
        return rise * (self.final_share + (1 - self.final_share) * left)

    def trained(self, part: str, step: int) -> bool:
        """Whether a part learns at this step."""
        return self.lr_multipliers.get(part, 1.0) > 0 and step >= self.unfreeze.get(part, 0)
