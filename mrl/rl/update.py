"""One update of policy and critic from recorded dialogues, as a loss over a share of a minibatch.

Every term is a sum whose weights add up to 1 over the *global* minibatch, so slices and processes simply add.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.losses.memory_model import MemoryModel
from mrl.losses.output import LossOutput
from mrl.model import Sampling
from mrl.recipes.ppo import PPOConfig
from mrl.recipes.reinforcement import CriticConfig, UpdateConfig
from mrl.rl.algorithms import ALGORITHMS
from mrl.rl.algorithms.advantages import credited_turns, group_spread, normalize
from mrl.rl.algorithms.policy_loss import clip_fraction, kl_estimate, log_ratio, memory_drift, value_loss
from mrl.rl.critic import Critic, turn_values, value_turns
from mrl.rl.replay import Replayed, reference_loss, replay, said_references
from mrl.rl.trajectory import NO_TOKEN, ScoredRollout, TrainingBatch, extended


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The sections that a loss reads, as they are in the present stage."""

    ppo: PPOConfig
    update: UpdateConfig
    critic: CriticConfig
    sampling: Sampling


def credit(
    scored: ScoredRollout, values: Tensor, config: PPOConfig, reference_log_probs: Tensor | None = None
) -> TrainingBatch:
    """What is learnt from dialogues: advantages, returns and the turns that they count for, from values [B, K]."""
    credited = credited_turns(scored.turns, scored.rewarded, looks_ahead=config.looks_ahead)
    if config.even_groups == "drop":
        credited = credited & group_spread(scored.rewards, scored.turns & scored.rewarded, config.group_size)
    advantages, returns = ALGORITHMS[config.algorithm].advantages(
        scored.rewards, values, scored.turns, scored.rewarded, config
    )
    return extended(
        TrainingBatch, scored, values=values, advantages=advantages * credited, returns=returns, credited=credited,
        reference_log_probs=reference_log_probs,
    )  # fmt: skip


def calibrate_critic(critic: Critic, batch: TrainingBatch, config: PPOConfig, warmup_epochs: int) -> TrainingBatch:
    """Tell a fresh critic, which says 0 of everything, of its first round before the policy moves: one that reads
    openings learns it, any other is told its mean return. The round as it is valued then."""
    if not bool(batch.credited.any()):
        return batch
    values = critic.calibrate(batch, warmup_epochs)
    return credit(batch, values, config, batch.reference_log_probs)


def normalized(batch: TrainingBatch, config: PPOConfig) -> TrainingBatch:
    """A whole round with advantages of mean 0 and deviation 1, and those below 0 weighted, where the configuration
    wants that."""
    advantages = batch.advantages
    if config.normalize_advantages and config.needs_critic:
        advantages = normalize(advantages, batch.credited)
    if config.negative_coef != 1:
        advantages = torch.where(advantages < 0, config.negative_coef * advantages, advantages)
    return replace(batch, advantages=advantages)


def scored_turns(batch: TrainingBatch, ppo: PPOConfig, config: UpdateConfig) -> Tensor:
    """Turns [B, K] whose answers take part in the policy's loss."""
    keep = batch.credited & batch.sampled.any(-1)
    if config.min_abs_advantage > 0 and not ppo.kl_coef:
        keep = keep & (batch.advantages.abs() >= config.min_abs_advantage)
    return keep


def answer_copies(batch: TrainingBatch, scored: Tensor) -> Tensor:
    """How many of the `scored` [B, K] answers of its group an answer stands for, [B, K]: itself and its repeats, which
    say the same from the same memory and have the same advantage. 0 for repeats: what they teach is known already."""
    if batch.group == 1:
        return scored.long()
    ids = batch.answer_ids.masked_fill(~batch.answer_mask, NO_TOKEN).unflatten(0, (-1, batch.group))
    sampled, advantages, here = (x.unflatten(0, (-1, batch.group)) for x in (batch.sampled, batch.advantages, scored))
    same = (ids[:, :, None] == ids[:, None]).all(-1) & (sampled[:, :, None] == sampled[:, None]).all(-1)
    same &= (advantages[:, :, None] == advantages[:, None]) & here[:, :, None] & here[:, None]
    member = torch.arange(batch.group, device=same.device)
    earlier = (same & (member[:, None] > member)[..., None]).any(2)
    return (same.sum(2) * ~earlier).flatten(0, 1)


def sft_turns(batch: TrainingBatch, config: UpdateConfig) -> Tensor:
    """Turns [B, K] whose references are learnt."""
    episodes = batch.batch
    if config.sft_turns == "asked":
        return episodes.asks
    if config.sft_other_fraction == 1:
        return batch.turns
    # By the seed of a dialogue, which is another each time that it is played: all slices and processes agree.
    draw = turn_uniforms(episodes.seeds, batch.turns.shape[1], Purpose.LEARNT_REFERENCES).to(batch.turns.device)
    return episodes.asks | batch.turns & (draw < config.sft_other_fraction)


def minibatch_counts(batch: TrainingBatch, recipe: Recipe) -> dict[str, float]:
    """What a global minibatch is divided by."""
    # Tokens that are left out count as well: leaving them out only spares the work, their part would be near 0.
    sampled = batch.sampled & batch.credited[..., None]
    learnt = sft_turns(batch, recipe.update)[batch.leaders]
    references = batch.batch.reference_mask[batch.leaders].sum(-1) - 1
    return {
        "groups": len(batch),
        "tokens": max(1, int(sampled.sum())),
        "answers": max(1, int(sampled.any(-1).sum())),
        "value_turns": max(1, int(value_turns(batch, recipe.critic).sum())),
        "leader_turns": max(1, int(batch.turns[batch.leaders].sum())),
        "reference_tokens": max(1, int(references[learnt].clamp(min=0).sum())),
    }


def update_loss(
    model: MemoryModel,
    critic: Critic | None,
    batch: TrainingBatch,
    counts: dict[str, float],
    recipe: Recipe,
) -> LossOutput:
    """All terms of an update on a share of a minibatch; its metrics are sums for the log."""
    ppo, config = recipe.ppo, recipe.update
    copies = answer_copies(batch, scored_turns(batch, ppo, config))
    wanted = copies > 0
    again = replay(
        model, batch, recipe.sampling, wanted=wanted, bptt_steps=config.bptt_steps, save_memory=config.save_memory
    )
    loss, metrics = _policy_terms(batch, again, copies, counts, ppo)
    drift = (memory_drift(again.history.slots) * batch.turns[batch.leaders]).sum()
    metrics["drift"] = drift.detach()
    if ppo.drift_price:
        loss = loss + ppo.drift_price * drift / counts["leader_turns"]
    if critic is not None:
        learnt = value_turns(batch, recipe.critic)
        values = turn_values(critic, batch, again.history, learnt)
        error = value_loss(values, batch.values, batch.returns, ppo.value_clip)
        error = (error * learnt).sum() / counts["value_turns"]
        loss = loss + recipe.critic.loss_coef * error
        metrics["value_loss"] = error.detach()
    if config.sft_coef:
        cross_entropy, tokens = _sft_term(model, batch, again, wanted, recipe)
        loss = loss + config.sft_coef * cross_entropy / counts["reference_tokens"]
        metrics |= {"sft": cross_entropy.detach(), "sft_n": torch.tensor(float(tokens))}
    if again.aux_loss is not None:
        loss = loss + model.config.router_aux_loss_coef * again.aux_loss * len(batch) / counts["groups"]
    return LossOutput(loss, metrics)


def _policy_terms(
    batch: TrainingBatch, again: Replayed, copies: Tensor, counts: dict[str, float], ppo: PPOConfig
) -> tuple[Tensor, dict[str, Any]]:
    """Policy loss, entropy and distance from the start, with their figures; an answer counts `copies` [B, K] times."""
    row, turn, _ = again.scored.nonzero(as_tuple=True)
    times = copies[row, turn].float()
    old, new, advantages = batch.log_probs[again.scored], again.log_probs, batch.advantages[row, turn]
    weight = _token_weights(again.scored, counts, ppo.loss_scope) * times
    each = ALGORITHMS[ppo.algorithm].policy_loss(new, old, advantages, ppo)
    loss = (each * weight).sum()
    if ppo.entropy_coef:
        loss = loss - ppo.entropy_coef * (again.entropy * weight).sum()
    moved = new.detach()
    metrics = {
        "policy_loss": (each * weight).sum().detach(),
        "entropy": (again.entropy.detach() * times).sum(),
        "approx_kl": (kl_estimate(old, moved) * times).sum(),
        "clipfrac": (clip_fraction(moved, old, ppo.clip_range, ppo.clip_high) * times).sum(),
        "ratio": (log_ratio(moved, old).exp() * times).sum(),
        "scored_n": times.sum(),
    }
    if ppo.kl_coef and batch.reference_log_probs is not None:
        away = kl_estimate(new, batch.reference_log_probs[again.scored])
        loss = loss + ppo.kl_coef * (away * weight).sum()
        metrics["reference_kl"] = (away.detach() * times).sum()
    return loss, metrics


def _sft_term(
    model: MemoryModel, batch: TrainingBatch, again: Replayed, wanted: Tensor, recipe: Recipe
) -> tuple[Tensor, int]:
    """Cross-entropy, summed, of the references that are learnt, and its number of tokens. Most answers are the
    reference: what scoring them gave isn't computed twice."""
    learnt = sft_turns(batch, recipe.update)
    known = torch.zeros_like(learnt)
    if recipe.sampling == Sampling():
        known = learnt & wanted & said_references(batch)
        known[torch.arange(len(known), device=known.device) % batch.group != 0] = False
    row, turn, place = again.scored.nonzero(as_tuple=True)
    shared = known[row, turn] & (place > 0)
    rest, tokens = reference_loss(model, batch, again.history, learnt & ~known)
    return rest - again.log_probs[shared].sum(), tokens + int(shared.sum())


def _token_weights(scored: Tensor, counts: dict[str, float], scope: str) -> Tensor:
    """Weight of each scored token, in row-major order."""
    if scope == "token":
        return torch.full((int(scored.sum()),), 1.0 / counts["tokens"], device=scored.device)
    share = 1.0 / (scored.sum(-1, keepdim=True).clamp(min=1) * counts["answers"])
    return share.expand(scored.shape)[scored]


def select_by_advantage(batch: TrainingBatch, fraction: float) -> Tensor:
    """The groups [n] of a batch, n = `fraction` of them and at least one, whose advantages are the largest."""
    groups = len(batch)
    if fraction == 1:
        return torch.arange(groups)
    counted = batch.credited.float()
    size = (batch.advantages.abs() * counted).sum(1) / counted.sum(1).clamp(min=1)
    order = size.unflatten(0, (groups, -1)).mean(1).argsort(descending=True, stable=True)
    return order[: max(1, round(fraction * groups))]


class MinibatchBuffer:
    """The dialogues of one round and what is left to do with them; a part of the checkpoint."""

    def __init__(self) -> None:
        self.batch: TrainingBatch | None = None
        self.order: list[list[int]] = []

    def fill(self, batch: TrainingBatch, config: PPOConfig, rng: torch.Generator) -> None:
        """Take in a round; the minibatches of the part that is kept come in an order that `rng` decides,
        `update_epochs` times."""
        self.batch = batch
        chosen = select_by_advantage(batch, config.keep_fraction)
        if config.even_groups == "drop":
            telling = batch.credited.any(1)[batch.leaders].to(chosen.device)
            chosen = chosen[telling[chosen]] if bool(telling.any()) else chosen[:1]  # a round ends with an update
        size = max(1, config.minibatch_episodes // config.group_size)
        self.order = []
        for _ in range(config.update_epochs):
            shuffled = chosen[torch.randperm(len(chosen), generator=rng)].tolist()
            self.order += [shuffled[at : at + size] for at in range(0, len(shuffled), size)]

    def __bool__(self) -> bool:
        return bool(self.order)

    def next(self) -> TrainingBatch:
        """The next minibatch of the global round, on the CPU. Raises ValueError where none is left."""
        if self.batch is None or not self.order:
            raise ValueError("the buffer is empty: collect a round first")
        return self.batch.rows(torch.tensor(self.order.pop(0)))

    def drop(self) -> int:
        """Leave out what remains of the round (the policy has moved far enough); returns how many minibatches."""
        left, self.order = len(self.order), []
        return left

    def state_dict(self) -> dict[str, Any]:
        # Of a finished round nothing is needed any more.
        kept = self.batch.state_dict() if self.batch is not None and self.order else None
        return {"batch": kept, "order": self.order}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order = [list(part) for part in state["order"]]
        self.batch = None if state["batch"] is None else TrainingBatch.from_state(state["batch"])
