"""AdamW over the parts of a reactive model, and how its learning rate goes through a run."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn

from mrl.model import ReactiveForCausalLM, ReactiveForSequenceClassification
from mrl.recipes.optimizer import OptimizerConfig
from mrl.training.gradients import add_up, add_up_shares, spread


class Optimizer:
    """AdamW with a rate per part. Every parameter sits in exactly one group; a frozen one gets no gradient at all, so
    that its backward pass costs nothing and neither momentum nor decay touches it."""

    def __init__(
        self,
        model: ReactiveForCausalLM | ReactiveForSequenceClassification,
        config: OptimizerConfig,
        beside: Mapping[str, Iterable[nn.Parameter]] = {},
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """beside: parameters of other modules that learn in the same step, by the name of their part. rank, world: this
        process among those that share the work where `config.shard` is set."""
        self.rank, self.world = (rank, world) if config.shard else (0, 1)
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
        self.parameters = [p for kind in groups.values() for group in kind for p in group["params"]]
        self.owner = dealt_out([p.numel() for p in self.parameters], self.world)
        self.inner: list[torch.optim.Optimizer] = []
        self.whole: list[list[list[nn.Parameter]]] = []
        """Of each inner optimizer and each of its groups: the parameters of all processes."""
        owner = dict(zip(map(id, self.parameters), self.owner, strict=True))
        for kind, members in groups.items():
            if not members:
                continue
            self.whole.append([group["params"] for group in members])
            own = [{**g, "params": [p for p in g["params"] if owner[id(p)] == self.rank]} for g in members]
            if kind == "adamw":
                rate = config.learning_rate
                self.inner.append(torch.optim.AdamW(own, lr=rate, betas=config.betas, fused=True))
            else:
                self.inner.append(torch.optim.Muon(own, lr=config.learning_rate, adjust_lr_fn="match_rms_adamw"))

    def groups(self) -> Iterator[tuple[dict[str, Any], list[nn.Parameter]]]:
        """Each group of each inner optimizer, and the parameters of all processes that belong to it."""
        for inner, whole in zip(self.inner, self.whole, strict=True):
            yield from zip(inner.param_groups, whole, strict=True)

    def prepare(self, step: int, progress: float, max_steps: int) -> float:
        """Set rates and frozen parts for a step; returns the learning rate of parts without a factor."""
        rate = self.config.learning_rate * self.config.factor(step, progress, max_steps)
        for group, everyones in self.groups():
            part = group["part"]
            group["lr"] = rate * self.config.lr_multipliers.get(part, 1.0)
            trained = self.config.trained(part, step) and (self.learning is None or part in self.learning)
            for parameter in everyones:
                parameter.requires_grad_(trained)
                parameter.grad = None
        return rate

    def sum_gradients(self) -> None:
        """Add up the gradients of all processes; where the state is shared out, each gets those of its parameters."""
        if self.world == 1:
            add_up([p for p in self.parameters if p.requires_grad])
        else:
            add_up_shares(self._shares(), self.rank)

    def clip(self) -> torch.Tensor:
        """Bring the norm of the model's gradient down to `max_grad_norm`; returns the norm it had. Modules beside the
        model are clipped each by itself: what a critic gets wrong shouldn't slow the policy."""
        own = [p for part, parameters in self.parts.items() if part not in self.beside for p in parameters]
        for part in self.beside:
            self._clip(self.parts[part])
        return self._clip(own)

    def _clip(self, parameters: list[nn.Parameter]) -> Tensor:
        norm = self._norm(parameters)
        nn.utils.clip_grads_with_norm_(parameters, self.config.max_grad_norm, norm)
        return norm

    def _norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """Norm of the gradient over all of them, whichever process has it."""
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.world > 1:
            squares = norm.to(parameters[0].device).square()
            distributed.all_reduce(squares)
            norm = squares.sqrt()
        return norm

    def norms(self) -> dict[str, float]:
        """Norm of each part's gradient as the step used it (after clipping); parts that didn't learn have none."""
        learning = {part: ps for part, ps in self.parts.items() if any(p.requires_grad for p in ps)}
        return {part: float(self._norm(parameters)) for part, parameters in learning.items()}

    def step(self) -> None:
        """Update the parameters; all processes have the same ones afterwards."""
        for inner in self.inner:
            inner.step()
        if self.world > 1:
            spread(self._shares(), self.rank)

    def _shares(self) -> list[list[nn.Parameter]]:
        """What learns now, by the process that updates it."""
        shares: list[list[nn.Parameter]] = [[] for _ in range(self.world)]
        for parameter, owner in zip(self.parameters, self.owner, strict=True):
            if parameter.requires_grad:
                shares[owner].append(parameter)
        return shares

    def state_dict(self) -> dict[str, Any]:
        """The state of all parameters, however many processes share it; they all have to ask for it."""
        if self.world == 1:
            return {"inner": [inner.state_dict() for inner in self.inner]}
        found = []
        for inner, whole, own in zip(self.inner, self.whole, self._places(), strict=True):
            local, numbers = inner.state_dict(), iter(range(sum(map(len, whole))))
            mine = {own[i]: {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state.items()}
                    for i, state in local["state"].items()}  # fmt: skip
            state = dict(sorted(item for part in gather_object([mine]) for item in part.items()))
            groups = [
                {**group, "params": [next(numbers) for _ in members]}
                for group, members in zip(local["param_groups"], whole, strict=True)
            ]
            found.append({"state": state, "param_groups": groups})
        return {"inner": found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the state belongs to other parameters."""
        if len(state["inner"]) != len(self.inner):
            raise ValueError(f"the checkpoint's optimizer isn't of kind {self.config.kind}")
        for inner, saved, own in zip(self.inner, state["inner"], self._places(), strict=True):
            if self.world > 1:
                local = inner.state_dict()["param_groups"]
                groups = [{**g, "params": own_["params"]} for g, own_ in zip(saved["param_groups"], local, strict=True)]
                mine = {i: saved["state"][place] for i, place in enumerate(own) if place in saved["state"]}
                saved = {"state": mine, "param_groups": groups}
            inner.load_state_dict(saved)

    def _places(self) -> list[list[int]]:
        """Of each inner optimizer: where its parameters stand among those of all processes."""
        found = []
        for inner, whole in zip(self.inner, self.whole, strict=True):
            place = {id(p): i for i, p in enumerate(p for group in whole for p in group)}
            found.append([place[id(p)] for group in inner.param_groups for p in group["params"]])
        return found


def dealt_out(sizes: list[int], world: int) -> list[int]:
    """Which process owns each of the parameters: the largest first, to whoever has least."""
    owner, load = [0] * len(sizes), [0] * world
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owner[i] = min(range(world), key=load.__getitem__)
        load[owner[i]] += sizes[i]
    return owner


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon can take it: a plain matrix that isn't a vector in disguise."""
    return parameter.ndim == 2 and min(parameter.shape) > 1


def _decays(parameter: nn.Parameter) -> bool:
    """Matrices decay. LayerwiseNorm's scales and gates are [L, 1, ...] and count as vectors."""
    return parameter.ndim > 1 and min(parameter.shape[-2:]) > 1
