"""AdamW over the parts of a reactive model, and how its learning rate goes through a run."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from mrl.model import ReactiveForCausalLM

MODEL_PARTS = ("embedding", "encoder", "memory_attention", "memory_cross_attention", "decoder")
PARTS = (*MODEL_PARTS, "critic")


@dataclass(kw_only=True)
class OptimiserConfig:
    """Section `optimiser`."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: the matrices of attention and feed-forward layers by torch.optim.Muon (Jordan et al. 2024), brought to the
    step size of AdamW, which takes everything else."""
    learning_rate: float = 2e-3
    """Peak rate."""
    rates: dict[str, float] = field(default_factory=dict)
    """Factors on it by part (embedding, encoder, memory_attention, memory_cross_attention, decoder and, where there is
    one, critic); 0 freezes."""
    unfreeze: dict[str, int] = field(default_factory=dict)
    """Step from which a part is trained; parts not named: from the first. Gradual unfreezing."""
    weight_decay: float = 0.01
    """Of matrices; norms, gates' biases and vectors have none."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    max_grad_norm: float = 1.0
    warmup_steps: float = 50
    """Steps of linear rise; below 1 a share of max_steps."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay_share: float = 1.0
    """Share of the run, at its end, in which the rate falls; before that it stays at the peak."""
    final_share: float = 0.05
    """What is left of the peak at the end."""

    def __post_init__(self) -> None:
        """Refuse parts that don't exist and numbers out of range."""
        for section, names in (("rates", self.rates), ("unfreeze", self.unfreeze)):
            unknown = [name for name in names if name not in PARTS]
            if unknown:
                raise ValueError(f"{section} names {unknown[0]}; the parts are {', '.join(PARTS)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; give two numbers in [0, 1)")
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError("learning_rate and max_grad_norm must be above 0")
        if not (0 < self.decay_share <= 1 and 0 <= self.final_share <= 1):
            raise ValueError("decay_share lies in (0, 1], final_share in [0, 1]")

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
        return self.rates.get(part, 1.0) > 0 and step >= self.unfreeze.get(part, 0)


class Optimiser:
    """AdamW with a rate per part. Every parameter sits in exactly one group; a frozen one gets no gradient at all, so
    that its backward pass costs nothing and neither momentum nor decay touches it."""

    def __init__(
        self, model: ReactiveForCausalLM, config: OptimiserConfig, beside: Mapping[str, Iterable[nn.Parameter]] = {}
    ) -> None:
        """beside: parameters of other modules that learn in the same step, by the name of their part."""
        self.config, self.parts = config, model.parts() | {name: list(more) for name, more in beside.items()}
        self.learning: set[str] | None = None
        """Parts that learn now, where something else than the configuration decides that (a curriculum)."""
        self.beside = set(beside)
        groups: dict[str, list[dict[str, Any]]] = {"adamw": [], "muon": []}
        for part, parameters in self.parts.items():
            sorts: dict[tuple[str, bool], list[nn.Parameter]] = {}
            for p in parameters:
                if p.requires_grad:
                    kind = "muon" if config.kind == "muon" and part != "embedding" and _is_matrix(p) else "adamw"
                    sorts.setdefault((kind, _decays(p)), []).append(p)
            for (kind, decays), chosen in sorted(sorts.items(), key=lambda item: not item[0][1]):
                decay = config.weight_decay if decays else 0.0
                groups[kind].append({"params": chosen, "weight_decay": decay, "part": part})
        rate = config.learning_rate
        self.inner: list[torch.optim.Optimizer] = []
        if groups["adamw"]:
            self.inner.append(torch.optim.AdamW(groups["adamw"], lr=rate, betas=tuple(config.betas), fused=True))
        if groups["muon"]:
            self.inner.append(torch.optim.Muon(groups["muon"], lr=rate, adjust_lr_fn="match_rms_adamw"))
        self.groups = [group for inner in self.inner for group in inner.param_groups]
        self.parameters = [p for group in self.groups for p in group["params"]]

    def prepare(self, step: int, progress: float, max_steps: int) -> float:
        """Set rates and frozen parts for a step; returns the learning rate of parts without a factor."""
        rate = self.config.learning_rate * self.config.factor(step, progress, max_steps)
        for group in self.groups:
            part = group["part"]
            group["lr"] = rate * self.config.rates.get(part, 1.0)
            trained = self.config.trained(part, step) and (self.learning is None or part in self.learning)
            for parameter in group["params"]:
                parameter.requires_grad_(trained)
                parameter.grad = None
        return rate

    def clip(self) -> torch.Tensor:
        """Bring the norm of the model's gradient down to `max_grad_norm`; returns the norm it had. Modules beside the
        model are clipped each by itself: what a critic gets wrong shouldn't slow the policy."""
        own = [p for part, parameters in self.parts.items() if part not in self.beside for p in parameters]
        for part in self.beside:
            nn.utils.clip_grad_norm_(self.parts[part], self.config.max_grad_norm)
        return nn.utils.clip_grad_norm_(own, self.config.max_grad_norm)

    def norms(self) -> dict[str, float]:
        """Norm of each part's gradient as the step used it (after clipping)."""
        found = {}
        for part, parameters in self.parts.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if gradients:
                found[part] = float(nn.utils.get_total_norm(gradients))
        return found

    def step(self) -> None:
        for inner in self.inner:
            inner.step()

    def state_dict(self) -> dict[str, Any]:
        return {"inner": [inner.state_dict() for inner in self.inner]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state belongs to other parameters."""
        if len(state["inner"]) != len(self.inner):
            raise ValueError(f"the checkpoint's optimiser isn't of kind {self.config.kind}")
        for inner, saved in zip(self.inner, state["inner"], strict=True):
            inner.load_state_dict(saved)
        self.groups = [group for inner in self.inner for group in inner.param_groups]


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon can take it: a plain matrix that isn't a vector in disguise."""
    return parameter.ndim == 2 and min(parameter.shape) > 1


def _decays(parameter: nn.Parameter) -> bool:
    """Matrices decay. LayerwiseNorm's scales and gates are [L, 1, ...] and count as vectors."""
    return parameter.ndim > 1 and min(parameter.shape[-2:]) > 1
