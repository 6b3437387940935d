"""A round: dialogues are chosen, played, rewarded and judged, and every process gets the whole of it.

Dialogues are shared out row by row; each row's randomness follows from its own seed. So the round of two processes is
that of one, and what is recorded afterwards is the same everywhere.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from mrl.dialogues.collation import distance_ranges
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.model import MemoryState
from mrl.rl.advantages import credited_turns
from mrl.rl.algorithms import PPOConfig
from mrl.rl.critic import Critic, CriticConfig, read_everything
from mrl.rl.curriculum import Curriculum, Draw
from mrl.rl.episode_dataset import Environment
from mrl.rl.memory_pool import StatePool
from mrl.rl.replay import log_probs_again
from mrl.rl.rewards import RewardConfig, Vocabulary, score
from mrl.rl.rollout import Played, RolloutConfig, play
from mrl.rl.trajectory import EpisodeBatch, Trajectory, join_trajectories
from mrl.rl.update import prepare


class Rounds:
    """Makes rounds; a part of the checkpoint (which dialogues come next, how many rounds there were)."""

    def __init__(
        self,
        environment: Environment,
        curriculum: Curriculum,
        pool: StatePool,
        words: Vocabulary,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.environment, self.curriculum, self.pool = environment, curriculum, pool
        self.words, self.seed, self.rank, self.world = words, seed, rank, world
        self.made = 0
        self.members: dict[int, np.ndarray] = {}
        self.orders: dict[int, BucketBatchSampler] = {}
        self.seconds: dict[str, float] = {}
        self.waiting: dict[str, Any] = {}

    def order(self, steps: int, episodes: int) -> BucketBatchSampler:
        """The walk through the dialogues of so many steps."""
        if steps not in self.orders:
            self.members[steps] = self.environment.members(steps)
            lengths = self.environment.data.longest(steps + 1)[self.members[steps]]
            self.orders[steps] = BucketBatchSampler(lengths, episodes, self.seed, salt=steps)
            if str(steps) in self.waiting:
                self.orders[steps].load_state_dict(self.waiting.pop(str(steps)))
        return self.orders[steps]

    def draw(self, episodes: int) -> tuple[EpisodeBatch, Draw]:
        """The global batch of the next round."""
        draw = self.curriculum.draw(episodes)
        index = self.order(draw.steps, episodes).next()
        dialogues = self.members[draw.steps][index]
        seeds = np.random.default_rng((self.seed, self.made, 17)).integers(0, 2**62, len(dialogues))
        self.made += 1
        strategies = self.curriculum.config.strategies
        return self.environment.batch(dialogues, draw.steps, seeds.tolist(), draw.strategy, strategies), draw

    def collect(
        self,
        model,
        critic: Critic | None,
        reference,
        *,
        rollout: RolloutConfig,
        rewards: RewardConfig,
        ppo: PPOConfig,
        critic_config: CriticConfig,
        exact_log_probs: bool,
    ) -> Trajectory:
        """One round of `rollout.episodes` dialogues, complete with advantages, on the CPU, the same in all processes.

        exact_log_probs: whether replays give the sampler's log-probs to rounding (fp32); else they are computed again.
        """
        batch, draw = self.draw(rollout.episodes)
        kinds = [StatePool.kind(batch.strategies[i], draw.steps) for i in batch.strategy.tolist()]
        config = model.config
        shape = (config.num_hidden_layers, config.memory_slots, config.hidden_size)
        batch = replace(batch, start=batch.start.carrying(*self.pool.start(draw, kinds, shape)))
        self.seconds = {"rollout": 0.0, "reward": 0.0, "judge": 0.0}
        parts, left = [], []
        own = torch.arange(self.rank, batch.rows, self.world)
        for rows in own.split(rollout.at_once):
            played = self._timed("rollout", lambda rows=rows: play(
                model, batch.select(rows), rollout, group=ppo.group_size, keep_states=critic is not None
            ), model.device)  # fmt: skip
            self._timed("reward", lambda played=played: self._reward(played.trajectory, rewards), model.device)
            self._timed("judge", lambda played=played: self._judge(
                played, model, critic, reference, rollout, critic_config, ppo, exact_log_probs
            ), model.device)  # fmt: skip
            parts.append(played.trajectory.to("cpu"))
            left.append(played.final.to("cpu"))
        trajectory = self._gather(parts, batch.rows)
        if self.pool.config.mode != "always":
            self.pool.put(kinds, self._gather_states(left, batch.rows))
        return prepare(trajectory, trajectory.rewarded, ppo)

    def _timed[Result](self, phase: str, work: Callable[[], Result], device: torch.device) -> Result:
        started = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds[phase] += time.perf_counter() - started
        return result

    def _reward(self, trajectory: Trajectory, config: RewardConfig) -> None:
        with torch.no_grad():
            found = score(config, self.words, trajectory)
        trajectory.rewards = found.rewards
        trajectory.terms = {**found.terms, "rewarded": found.rewarded.float(), "exact": found.exact}

    @staticmethod
    def _judge(played: Played, model, critic, reference, rollout, config, ppo, exact: bool) -> None:
        trajectory, sampling = played.trajectory, rollout.sampling()
        at_once = max(1, config.at_once(model.device) // (trajectory.batch.steps * trajectory.group))
        if critic is not None:
            # After the last reward of a dialogue there is nothing to expect: those turns keep the value 0.
            counted = credited_turns(trajectory.turns, trajectory.rewarded, looks_ahead=ppo.looks_ahead)
            trajectory.values = read_everything(critic, trajectory, played.history, config, counted)
        if not exact:
            trajectory.log_probs = log_probs_again(model, trajectory, sampling, at_once)
        if reference is not None and ppo.kl_coef:
            trajectory.reference_log_probs = log_probs_again(reference, trajectory, sampling, at_once)

    def _gather(self, parts: list[Trajectory], rows: int) -> Trajectory:
        own = join_trajectories(parts) if parts else None
        if self.world == 1:
            return own
        every = [part for part in gather_object([own]) if part is not None]
        whole = join_trajectories(every)
        return whole.rows(in_turn(rows, self.world))

    def _gather_states(self, parts: list[MemoryState], rows: int) -> MemoryState:
        if self.world == 1:
            return MemoryState.cat(parts)
        every = [part for own in gather_object([parts]) for part in own]
        return MemoryState.cat(every).rows(in_turn(rows, self.world))

    def state_dict(self) -> dict[str, Any]:
        orders = {str(steps): order.state_dict() for steps, order in self.orders.items()}
        return {"made": self.made, "orders": self.waiting | orders}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # An order is made when its steps come up; until then its position waits.
        self.made, self.waiting = state["made"], dict(state["orders"])
        self.orders, self.members = {}, {}


def in_turn(rows: int, world: int) -> Tensor:
    """Where each of `rows` rows, dealt out in turn to `world` processes, stands when these lay theirs end to end."""
    dealt = torch.cat([torch.arange(rank, rows, world) for rank in range(world)])
    return dealt.argsort()


def figures(trajectory: Trajectory) -> dict[str, float]:
    """Reward, recall, length and memory of a round, for the log."""
    turns, rewarded = trajectory.turns, trajectory.rewarded
    exact = trajectory.terms["exact"]
    asked = turns & ~exact.isnan()
    answered = trajectory.answer_mask.sum(-1)[turns].float()
    found = {
        "reward": float(trajectory.rewards[rewarded].mean()) if rewarded.any() else 0.0,
        "recall": float(exact[asked].mean()) if asked.any() else float("nan"),
        "answer_length": float(answered.mean()),
        "finished": float(trajectory.finished[turns].float().mean()),
    }
    return found | {f"reward_{d}": value for d, value in by_distance(trajectory.rewards, rewarded, trajectory).items()}


def by_distance(value: Tensor, counted: Tensor, trajectory: Trajectory) -> dict[str, float]:
    """Means of value [B, K] over counted turns by distance, in ranges that end with 1, 2, 4, 8 ..."""
    ranges = ((high, counted & inside) for high, inside in distance_ranges(trajectory.batch.distance))
    return {str(high): float(value[here].mean()) for high, here in ranges if here.any()}


__all__ = ["Rounds", "by_distance", "figures", "in_turn"]
