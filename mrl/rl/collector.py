"""A round: which dialogues are played next, which of them are this process's, and how all get the whole of it.

Dialogues are shared out row by row; each row's randomness follows from its own seed. So the round of two processes is
that of one, and what is recorded afterwards is the same everywhere.
"""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from mrl.dialogues.collation import distance_ranges
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryState
from mrl.rl.algorithms.advantages import group_spread
from mrl.rl.curriculum import Curriculum, Draw
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.memory_pool import MemoryPool
from mrl.rl.trajectory import EpisodeBatch, Rollout, TrainingBatch

logger = logging.getLogger(__name__)


class EpisodeSampler:
    """Chooses the dialogues of each round; a part of the checkpoint (which come next, how many rounds there were).
    datasets: the dialogues of each stage, by its turns."""

    def __init__(
        self, datasets: Mapping[int, EpisodeDataset], curriculum: Curriculum, pool: MemoryPool, seed: int
    ) -> None:
        self.datasets, self.curriculum, self.pool, self.seed = datasets, curriculum, pool, seed
        self.rounds = 0
        self.members: dict[str, np.ndarray] = {}
        self.samplers: dict[str, BucketBatchSampler] = {}
        self.waiting: dict[str, Any] = {}
        self.left: dict[str, list[int]] = {}
        """Dialogues that a walk has come to and no round has had, where strategies have rows of their own."""

    def next(self, episodes: int, model: MemoryModel) -> EpisodeBatch:
        """The global batch of the next round, of at most `episodes` dialogues; `model` says how large a memory is."""
        draw = self.curriculum.draw(episodes)
        dialogues = self._dialogues(draw, episodes)
        seeds = np.random.default_rng((self.seed, self.rounds, 17)).integers(0, 2**62, len(dialogues))
        self.rounds += 1
        dataset = self.datasets[draw.turns]
        batch = dataset.batch(dialogues, draw.turns, seeds.tolist(), draw.strategy, draw.strategies)
        config = model.config
        shape = (config.state_layers, config.memory_slots, config.hidden_size)
        return replace(batch, start=batch.start.carrying(*self.pool.start(draw, batch, shape)))

    def _dialogues(self, draw: Draw, episodes: int) -> np.ndarray:
        """A dialogue for each row of a round, of those that the row's strategy names."""
        named = [tuple(strategy.rows) for strategy in draw.strategies]
        if len(set(named)) == 1:
            return self._walk(draw.turns, named[0], episodes)
        chosen = np.empty(episodes, dtype=np.int64)
        for rows in sorted(set(named)):
            places = [place for place, strategy in enumerate(draw.strategy) if named[strategy] == rows]
            left = self.left.setdefault(f"{draw.turns} turns, {', '.join(rows)}", [])
            while len(left) < len(places):
                left += self._walk(draw.turns, rows, episodes).tolist()
            chosen[places], left[: len(places)] = left[: len(places)], []
        return chosen

    def _walk(self, turns: int, rows: tuple[str, ...], episodes: int) -> np.ndarray:
        """The next dialogues of so many turns. Rounds of another size walk through them by themselves."""
        name = ", ".join([f"{turns} turns", f"{episodes} episodes", *rows])
        if name not in self.samplers:
            dataset = self.datasets[turns]
            self.members[name] = members = dataset.members(turns, rows)
            if len(members) < episodes:
                logger.warning(
                    "%s: only %d dialogues of %d turns, so a round has these instead of rollout.episodes %d",
                    dataset.where, len(members), turns, episodes,
                )  # fmt: skip
            lengths = dataset.data.longest(turns + 1)[members]
            self.samplers[name] = BucketBatchSampler(lengths, episodes, self.seed, salt=turns)
            if name in self.waiting:
                self.samplers[name].load_state_dict(self.waiting.pop(name))
        return self.members[name][self.samplers[name].next()]

    def state_dict(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "samplers": self.waiting | {name: sampler.state_dict() for name, sampler in self.samplers.items()},
            "left": {name: list(left) for name, left in self.left.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # A sampler is made when its dialogues come up; until then its position waits.
        self.rounds, self.waiting = state["rounds"], dict(state["samplers"])
        self.samplers, self.members = {}, {}
        self.left = {name: list(left) for name, left in state["left"].items()}


def shares(batch: EpisodeBatch, at_once: int, rank: int, world: int) -> list[EpisodeBatch]:
    """This process's dialogues of a global batch, in pieces of at most `at_once`."""
    own = list(range(rank, batch.size, world))
    return [batch.select(torch.tensor(own[at : at + at_once])) for at in range(0, len(own), at_once)]


def gather(pieces: Sequence[TrainingBatch], dialogues: int, world: int) -> TrainingBatch:
    """The whole round of so many dialogues, in its order, from the pieces of all processes."""
    if world == 1:
        return TrainingBatch.join(pieces)
    own = TrainingBatch.join(pieces) if pieces else None
    every = [part for part in gather_object([own]) if part is not None]
    return TrainingBatch.join(every).rows(_in_turn(dialogues, world))


def gather_states(pieces: Sequence[MemoryState], dialogues: int, world: int) -> MemoryState:
    """The memories that all dialogues of a round left, in its order."""
    if world == 1:
        return MemoryState.cat(pieces)
    every = [piece for own in gather_object([list(pieces)]) for piece in own]
    return MemoryState.cat(every).rows(_in_turn(dialogues, world))


def _in_turn(rows: int, world: int) -> Tensor:
    """Where each of `rows` rows, dealt out in turn to `world` processes, stands when these lay theirs end to end."""
    dealt = [row for rank in range(world) for row in range(rank, rows, world)]
    return torch.tensor(dealt).argsort()


class PhaseTimer:
    """Seconds spent in the phases of a round, by name. `with timer("reward"): ...` adds to `seconds["reward_s"]`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        name = f"{phase}_s"
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def round_metrics(batch: TrainingBatch) -> dict[str, float]:
    """Reward, recall, length, memory and critic of a round, for the log."""
    answered, rewarded, exact = batch.answered, batch.rewarded, batch.exact
    asked = answered & ~exact.isnan()
    metrics = {
        "reward": mean_over(batch.rewards, rewarded),
        "answer_length": mean_over((batch.answer_mask.sum(-1) - batch.thought).float(), answered),
        "finished": mean_over(batch.finished.float(), answered),
        "episode_turns": float(batch.batch.steps),
        "episodes": float(len(batch)),
    }
    metrics |= spread_metrics(batch)
    metrics |= thought_metrics(batch)
    if asked.any():
        metrics["recall"] = mean_over(exact, asked)
    if len(batch.terms) > 1:
        said = {name: answered & ~term.isnan() for name, term in batch.terms.items()}
        metrics |= {f"term_{name}": mean_over(batch.terms[name], here) for name, here in said.items() if here.any()}
    return metrics | {f"reward_{high}": value for high, value in by_distance(batch.rewards, rewarded, batch).items()}


def spread_metrics(batch: TrainingBatch) -> dict[str, float]:
    """Of the rewarded questions, and of the dialogues that have one, the share with a group whose answers didn't all
    earn the same: what comparing them learns from. Nothing where there are no groups."""
    rewarded = batch.turns & batch.rewarded
    if batch.group == 1:
        return {}
    telling = group_spread(batch.rewards, rewarded, batch.group)
    asked = rewarded.unflatten(0, (-1, batch.group)).any(1)
    told = telling.unflatten(0, (-1, batch.group)).any(1)
    return {
        "groups_with_spread": mean_over(told.float(), asked),
        "dialogues_with_spread": mean_over(told.any(1).float(), asked.any(1)),
    }


def thought_metrics(rollout: Rollout) -> dict[str, float]:
    """Share of the answers that thought first, tokens of a thought, share of the thoughts that were cut; nothing where
    none was thought and none of the answers was free to."""
    answered = rollout.answered
    thought = answered & (rollout.thought > 0)
    if not (thought.any() or rollout.sampled[..., 0].any()):
        return {}
    return {
        "thinks": mean_over(thought.float(), answered),
        "thought_length": mean_over(rollout.thought.float(), thought),
        "thoughts_cut": mean_over(rollout.cut.float(), thought),
    }


def mean_over(value: Tensor, here: Tensor) -> float:
    """Mean of value where `here`, of one shape; 0 where that is nowhere."""
    return float(value[here].mean()) if bool(here.any()) else 0.0


def by_distance(value: Tensor, counted: Tensor, rollout: Rollout) -> dict[str, float]:
    """Means of value [B, K] over counted turns by distance, in ranges that end with 1, 2, 4, 8 ..."""
    ranges = ((high, counted & inside) for high, inside in distance_ranges(rollout.batch.distance))
    return {str(high): float(value[here].mean()) for high, here in ranges if here.any()}


__all__ = [
    "EpisodeSampler",
    "PhaseTimer",
    "by_distance",
    "gather",
    "gather_states",
    "round_metrics",
    "shares",
    "thought_metrics",
]
