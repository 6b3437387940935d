"""Self-supervised memory attention: each write against a weighted mean of what was and what came."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.dialogues.collation import Episodes
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.losses.bptt import one_by_one, truncated
from mrl.losses.memory_model import MemoryModel
from mrl.losses.output import LossOutput
from mrl.model import MemoryHistory, MemoryState
from mrl.recipes.supervised import MemoryTargetConfig


def pool_to_slots(layers: Tensor, mask: Tensor, slots: int) -> Tensor:
    """Encoder outputs [L, B, T, D] brought to [L, B, S, D]: slot s is the mean of the real tokens from floor(s n / S)
    to ceil((s + 1) n / S), n being the row's length. With n = S that is the token itself; shorter turns repeat tokens,
    longer ones average neighbours (adaptive average pooling, row by row). Rows without a token give zeros."""
    n = mask.sum(1).view(-1, 1, 1)
    slot = torch.arange(slots, device=mask.device).view(1, -1, 1)
    token = torch.arange(layers.shape[2], device=mask.device)
    inside = (token >= slot * n // slots) & (token < ((slot + 1) * n + slots - 1) // slots) & (token < n)
    weight = inside.to(layers.dtype)
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=1)
    return weight @ layers


def target_weight(step: int, first: float, start: float, decay: float) -> float:
    """Share of the new interaction in the target of write `step`: 0.9, then 0.5, 0.45, 0.4 …, never below 0.05."""
    return first if step == 0 else max(0.05, start - decay * step)


def memory_target_loss(
    model: MemoryModel, batch: Episodes, counts: dict[str, int], config: MemoryTargetConfig
) -> LossOutput:
    """1 - cosine (and squared distance) between each new state and the weighted mean of the state before it and the
    frozen encoder's outputs. Targets carry no gradient: keeping the old state is no optimum."""
    size, turns, _ = batch.ids.shape
    with torch.no_grad():
        layers = model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)).layers
        pooled = pool_to_slots(layers, batch.mask.flatten(0, 1), model.config.memory_slots)
        # Under autocast the encoder may give bf16; targets are compared in the precision of the state.
        layers, pooled = (x.float().unflatten(1, (size, turns)) for x in (layers, pooled))
        shifts, noise = _target_draws(batch, config, layers.shape, model.config.max_interaction_length)
        if noise is not None:
            layers = layers + config.noise * noise.to(layers)

    def write(state: MemoryState, turn: int) -> MemoryState:
        return model.update_memory(state, layers[:, :, turn], batch.mask[:, turn])

    def piece(state: MemoryState, part: range) -> MemoryHistory:
        return one_by_one(write, state, part)

    # The first state has no target: it isn't learnt here.
    start = model.initial_state(seeds=batch.seeds.tolist(), device=batch.ids.device).detach()
    # Windows of tokens, which a model may keep beside its slots' contents, have no target.
    slots = truncated(piece, start, turns, config.bptt_steps).slots[:, : layers.shape[0]]
    before, new = slots[:-1], slots[1:]
    weights = [target_weight(turn, config.first_weight, config.weight, config.decay) for turn in range(turns)]
    w = (layers.new_tensor(weights)[:, None] + shifts.T.to(layers)).clamp(0.02, 0.98)
    target = torch.lerp(before.detach(), pooled.permute(2, 0, 1, 3, 4), w[:, None, :, None, None])
    written = (batch.mask[:, :, 0] > 0).to(layers.dtype).T

    def total(each: Tensor) -> Tensor:
        """Mean over layers and slots of each [K, L, B, S], summed over the writes there are."""
        return (each.mean((1, 3)) * written).sum()

    cosine = total(1 - F.cosine_similarity(new, target, dim=-1))
    distance = total((new - target).square().mean(-1))
    moved = total((new - before).detach().square().mean(-1))
    loss = (cosine + config.mse_weight * distance) / counts["writes"]
    metrics = {"cosine_gap": cosine.detach(), "squared_distance": distance.detach(), "moved": moved}
    return LossOutput(loss, metrics | {"writes_n": (batch.mask[:, :, 0] > 0).sum()})


def _target_draws(
    batch: Episodes, config: MemoryTargetConfig, shape: torch.Size, longest: int
) -> tuple[Tensor, Tensor | None]:
    """Per row and turn, by the row's seed: changes of the weights [B, K] and noise like the encoder's outputs
    [L, B, K, T, D]."""
    layers, rows, turns, tokens, width = shape
    shifts = torch.zeros(rows, turns)
    noise = torch.zeros(shape) if config.noise else None
    if config.jitter or config.noise:
        for row, seed in enumerate(batch.seeds.tolist()):
            for turn in range(turns):
                generator = torch.Generator().manual_seed(derive_seed(seed, Purpose.MEMORY_TARGETS, turn))
                shifts[row, turn] = config.jitter * (2 * torch.rand((), generator=generator) - 1)
                if noise is not None:
                    noise[:, row, turn] = torch.randn(layers, longest, width, generator=generator)[:, :tokens]
    return shifts, noise


def write_counts(batch: Episodes) -> dict[str, int]:
    """Writes of a global batch."""
    return {"writes": max(1, int((batch.mask[:, :, 0] > 0).sum()))}
