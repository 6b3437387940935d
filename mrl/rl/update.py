"""One update of policy and critic from recorded dialogues, as a loss over a share of a minibatch.

Every term is a sum whose weights add up to 1 over the *global* minibatch, so slices and processes simply add.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.losses.output import LossOutput
from mrl.model import Sampling
from mrl.rl.advantages import credited_turns, normalize
from mrl.rl.algorithms import ALGORITHMS, PPOConfig
from mrl.rl.critic import Critic, CriticConfig, judged_turns
from mrl.rl.policy_loss import clip_fraction, kl_estimate, log_ratio, memory_drift, value_loss
from mrl.rl.replay import Replayed, reference_loss, replay, said_references
from mrl.rl.trajectory import Trajectory


@dataclass(kw_only=True)
class ReplayConfig:
    """Section `replay`: how the gradient reaches memory."""

    bptt_steps: int | None = None
    """Memory writes that a gradient flows back through: 1 = the newest only (as elsewhere); null: the whole episode."""
    turns_at_once: int = 1024
    """Most turns of a slice: longer dialogues come in smaller slices, so peak memory doesn't grow."""
    save_memory: bool = False
    """Compute each write's activations twice instead of keeping them: for very long dialogues."""
    least_advantage: float = 0.0
    """Turns whose advantage is nearer to 0 than this (after normalisation) aren't scored: they would teach little and
    cost as much as the others."""
    supervised_coef: float = 0.0
    """Weight of the reference answers' cross-entropy, read from the same states (as PPO-ptx: Ouyang et al. 2022)."""
    supervised_scope: str = "asked"
    """asked: references of turns that need facts; all: those of other turns as well."""
    supervised_share: float = 1.0
    """With all: share of the other turns whose references are learnt, others in every round. Small talk is known
    soon, and costs as much as the rest."""

    def __post_init__(self) -> None:
        if self.bptt_steps is not None and self.bptt_steps < 1:
            raise ValueError(f"bptt_steps is {self.bptt_steps}; give 1 or more, or null for the whole episode")
        if self.turns_at_once < 1 or self.least_advantage < 0 or self.supervised_coef < 0:
            raise ValueError("turns_at_once must be at least 1; least_advantage and supervised_coef not below 0")
        if not 0 <= self.supervised_share <= 1:
            raise ValueError(f"supervised_share is {self.supervised_share}; a share lies in 0..1")
        if self.supervised_scope not in ("asked", "all"):
            raise ValueError(f"supervised_scope is {self.supervised_scope!r}; choose asked or all")


def prepare(trajectory: Trajectory, rewarded: Tensor, config: PPOConfig) -> Trajectory:
    """Add advantages, returns and which turns they count for, [B, K], to a whole buffer of trajectories, of all
    processes."""
    algorithm = ALGORITHMS[config.algorithm]
    counted = credited_turns(trajectory.turns, rewarded, looks_ahead=config.looks_ahead)
    values = torch.zeros_like(trajectory.rewards) if trajectory.values is None else trajectory.values
    advantages, returns = algorithm.advantages(trajectory.rewards, values, trajectory.turns, rewarded, config)
    if config.normalize_advantages and algorithm.needs_critic:
        advantages = normalize(advantages, counted)
    trajectory.values, trajectory.returns, trajectory.credited = values, returns, counted
    trajectory.advantages = advantages * counted
    trajectory.__post_init__()
    return trajectory


def introduce(critic: Critic, trajectory: Trajectory, config: PPOConfig) -> None:
    """Tell a new critic the mean return of the first round, and judge that round's turns by it."""
    mean = float(trajectory.returns[trajectory.credited].mean()) if bool(trajectory.credited.any()) else 0.0
    critic.expect(mean)
    trajectory.values = trajectory.values + mean * trajectory.credited
    prepare(trajectory, trajectory.rewarded, config)


def scored_turns(trajectory: Trajectory, ppo: PPOConfig, config: ReplayConfig) -> Tensor:
    """Turns [B, K] whose answers take part in the policy's loss."""
    keep = trajectory.credited & trajectory.sampled.any(-1)
    if config.least_advantage > 0 and not ppo.kl_coef:
        keep = keep & (trajectory.advantages.abs() >= config.least_advantage)
    return keep


def asked_turns(trajectory: Trajectory, config: ReplayConfig) -> Tensor:
    """Turns [B, K] whose references are learnt."""
    needed = trajectory.turns & (trajectory.batch.fact_ids >= 0).flatten(2).any(-1)
    if config.supervised_scope == "asked":
        return needed
    if config.supervised_share == 1:
        return trajectory.turns
    # By the seed of a dialogue, which is another each time that it is played: all slices and processes agree.
    draw = turn_uniforms(trajectory.batch.seeds, needed.shape[1], Purpose.LEARNT_REFERENCES).to(needed.device)
    return needed | trajectory.turns & (draw < config.supervised_share)


def minibatch_counts(trajectory: Trajectory, config: ReplayConfig, judging: CriticConfig) -> dict[str, float]:
    """What a global minibatch is divided by."""
    # Tokens that are left out count as well: leaving them out only spares the work, their part would be near 0.
    sampled = trajectory.sampled & trajectory.credited[..., None]
    asked = asked_turns(trajectory, config)[:: trajectory.group]
    references = trajectory.batch.reference_mask[:: trajectory.group].sum(-1) - 1
    return {
        "groups": len(trajectory),
        "tokens": max(1, int(sampled.sum())),
        "answers": max(1, int(sampled.any(-1).sum())),
        "judged": max(1, int(judged_turns(trajectory, judging).sum())),
        "leader_turns": max(1, int(trajectory.turns[:: trajectory.group].sum())),
        "reference_tokens": max(1, int(references[asked].clamp(min=0).sum())),
    }


def policy_loss(
    model: Any,
    critic: Critic | None,
    trajectory: Trajectory,
    counts: dict[str, float],
    ppo: PPOConfig,
    config: ReplayConfig,
    sampling: Sampling,
    judging: CriticConfig,
) -> LossOutput:
    """All terms of an update on a share of a minibatch; metrics are sums for the log."""
    algorithm = ALGORITHMS[ppo.algorithm]
    wanted = scored_turns(trajectory, ppo, config)
    again = replay(
        model, trajectory, sampling, wanted=wanted, bptt_steps=config.bptt_steps, save_memory=config.save_memory
    )
    row, turn, _ = again.scored.nonzero(as_tuple=True)
    old, gain = trajectory.log_probs[again.scored], trajectory.advantages[row, turn]
    weight = _weights(again.scored, counts, ppo.loss_scope)
    each = algorithm.policy_loss(again.log_probs, old, gain, ppo)
    new = again.log_probs.detach()
    metrics = {
        "policy_loss": (each * weight).sum().detach(),
        "entropy": again.entropy.detach().sum(),
        "approx_kl": kl_estimate(old, new).sum(),
        "clipfrac": clip_fraction(new, old, ppo.clip_range, ppo.clip_high).sum(),
        "ratio": log_ratio(new, old).exp().sum(),
        "scored_n": torch.tensor(float(len(row))),
    }
    loss = (each * weight).sum() - ppo.entropy_coef * (again.entropy * weight).sum()
    if ppo.kl_coef and trajectory.reference_log_probs is not None:
        away = kl_estimate(again.log_probs, trajectory.reference_log_probs[again.scored])
        loss = loss + ppo.kl_coef * (away * weight).sum()
        metrics["reference_kl"] = away.detach().sum()
    drift = (memory_drift(again.history.slots) * trajectory.turns[:: trajectory.group]).sum()
    metrics["drift"] = drift.detach()
    if ppo.drift_price:
        loss = loss + ppo.drift_price * drift / counts["leader_turns"]
    if critic is not None:
        judged = judged_turns(trajectory, judging)
        values = critic.values(trajectory, again.history, judged)
        error = value_loss(values, trajectory.values, trajectory.returns, ppo.value_clip)
        error = (error * judged).sum() / counts["judged"]
        loss = loss + judging.loss_coef * error
        metrics["value_loss"] = error.detach()
    if config.supervised_coef:
        supervised, tokens = _supervised(model, trajectory, again, wanted, config, sampling)
        loss = loss + config.supervised_coef * supervised / counts["reference_tokens"]
        metrics |= {"supervised": supervised.detach(), "reference_n": torch.tensor(float(tokens))}
    if again.aux_loss is not None:
        share = len(trajectory) / counts["groups"]
        loss = loss + model.config.router_aux_loss_coef * again.aux_loss * share
    return LossOutput(loss, metrics)


def _supervised(
    model: Any, trajectory: Trajectory, again: Replayed, wanted: Tensor, config: ReplayConfig, sampling: Sampling
) -> tuple[Tensor, int]:
    """Cross-entropy, summed, of the references that are learnt, and its number of tokens. Most answers are the
    reference: what scoring them gave isn't computed twice."""
    asked = asked_turns(trajectory, config)
    known = torch.zeros_like(asked)
    if sampling == Sampling():
        known = asked & wanted & said_references(trajectory)
        known[torch.arange(len(known), device=known.device) % trajectory.group != 0] = False
    row, turn, _ = again.scored.nonzero(as_tuple=True)
    shared = known[row, turn]
    rest, tokens = reference_loss(model, trajectory, again.history, asked & ~known)
    return rest - again.log_probs[shared].sum(), tokens + int(shared.sum())


def _weights(scored: Tensor, counts: dict[str, float], scope: str) -> Tensor:
    """Weight of each scored token, in row-major order."""
    if scope == "token":
        return torch.full((int(scored.sum()),), 1.0 / counts["tokens"], device=scored.device)
    share = 1.0 / (scored.sum(-1, keepdim=True).clamp(min=1) * counts["answers"])
    return share.expand(scored.shape)[scored]


def most_telling(trajectory: Trajectory, share: float) -> Tensor:
    """The groups [n] of a trajectory, n = `share` of them and at least one, whose advantages are the largest."""
    groups = len(trajectory)
    if share == 1:
        return torch.arange(groups)
    counted = trajectory.credited.float()
    size = (trajectory.advantages.abs() * counted).sum(1) / counted.sum(1).clamp(min=1)
    order = size.unflatten(0, (groups, -1)).mean(1).argsort(descending=True, stable=True)
    return order[: max(1, round(share * groups))]


class Buffer:
    """The recorded dialogues of one round and what is left to do with them; a part of the checkpoint."""

    def __init__(self) -> None:
        self.trajectory: Trajectory | None = None
        self.order: list[list[int]] = []

    def fill(self, trajectory: Trajectory, config: PPOConfig, seed: int) -> None:
        """Take in a round; the minibatches of the part that is used come in an order that `seed` decides,
        `update_epochs` times."""
        self.trajectory = trajectory
        generator = torch.Generator().manual_seed(seed)
        chosen = most_telling(trajectory, config.keep_fraction)
        size = max(1, config.minibatch_episodes // config.group_size)
        self.order = []
        for _ in range(config.update_epochs):
            shuffled = chosen[torch.randperm(len(chosen), generator=generator)].tolist()
            self.order += [shuffled[at : at + size] for at in range(0, len(shuffled), size)]

    def __bool__(self) -> bool:
        return bool(self.order)

    def next(self) -> Trajectory:
        """The next minibatch of the global buffer, on the CPU."""
        return self.trajectory.rows(torch.tensor(self.order.pop(0)))

    def drop(self) -> int:
        """Leave out what remains of the round (the policy has moved far enough); returns how many minibatches."""
        left, self.order = len(self.order), []
        return left

    def state_dict(self) -> dict[str, Any]:
        # Of a finished round nothing is needed any more.
        kept = self.trajectory.state_dict() if self.order else None
        return {"trajectory": kept, "order": self.order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order = [list(part) for part in state["order"]]
        self.trajectory = None if state["trajectory"] is None else Trajectory.from_state(state["trajectory"])
