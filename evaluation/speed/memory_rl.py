"""Episodes per second of memory reinforcement learning: playing, rewarding, and one update over all of it.

    uv run evaluation/speed/memory_rl.py [--episodes 64 --steps 4 --batch 16 --tokens 64 --update-epochs 1]
                                        [--width 128 --layers 4 --slots 32]

prints one JSON line. The work: every episode has `steps` answered turns, every answer runs to `tokens` tokens (no end
token), every turn is written to memory; then rewards, critic values and advantages, and `update-epochs` passes of PPO
with the gradient through all memory writes. `batch` is the size of an update's minibatch in episodes; rollouts play all
episodes at once. Words are random: nothing is skipped. Figures are medians over `--repeats` rounds after a warm-up;
peak_mb is the whole process. `gflop` are the multiplications and additions of one round's matrix products, forward and
backward; `floor_s` is what they alone would take at the rate of long matrix products in fp32, measured at the end.
"""

import argparse
import json
import statistics
import time
from typing import cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evaluation.speed.matmul_rate import matmul_rate
from evaluation.speed.random_models import reactive_model
from mrl.dialogues.collation import share
from mrl.model import ReactiveForCausalLM
from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import Rounds
from mrl.rl.critic import Critic, CriticConfig
from mrl.rl.curriculum import Curriculum, CurriculumConfig, Draw
from mrl.rl.episode_dataset import Environment
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.memory_pool import StatePool
from mrl.rl.rewards import RewardConfig, Vocabulary
from mrl.rl.rollout import RolloutConfig
from mrl.rl.trajectory import NO_TOKEN, EpisodeBatch, Strategy
from mrl.rl.update import Buffer, ReplayConfig, minibatch_counts, policy_loss
from mrl.training.optimizer import Optimizer, OptimizerConfig
from pipeline.run import peak_memory_mb

FRAME = 8


class RandomRounds(Rounds):
    """Rounds over no dialogues: random words, answers of fixed length, facts that are hardly ever said."""

    def __init__(self, arguments: argparse.Namespace, vocabulary: Vocabulary) -> None:
        curriculum = Curriculum(CurriculumConfig(steps=[arguments.steps]), 0)
        pool = StatePool(curriculum.config.resets, 0)
        super().__init__(cast(Environment, None), curriculum, pool, vocabulary, 0)
        self.arguments = arguments

    def draw(self, episodes: int) -> tuple[EpisodeBatch, Draw]:
        """A round of `episodes` dialogues, the same one each time."""
        sizes = self.arguments
        rng = torch.Generator().manual_seed(0)

        def words(*shape: int, first: int = 2) -> Tensor:
            ids = torch.randint(FRAME, sizes.vocab, shape, generator=rng)
            ids[..., 0] = first
            return ids

        turns = (episodes, sizes.steps)
        query, reference = words(*turns, sizes.prompt), words(*turns, sizes.tokens, first=6)
        first = words(episodes, sizes.prompt + sizes.tokens)
        mask = [torch.ones(x.shape, dtype=torch.bool) for x in (first, query, reference)]
        facts = torch.full((*turns, 1, 2, 3), NO_TOKEN)
        facts[..., 0] = torch.randint(FRAME, sizes.vocab, (*turns, 1, 2), generator=rng)
        distance, asks = torch.ones(turns, dtype=torch.long), torch.ones(turns, dtype=torch.bool)
        rows = torch.arange(episodes)
        batch = EpisodeBatch(
            first, mask[0], query, mask[1], reference, mask[2], facts, distance, asks, EpisodeStart.fresh(rows),
            rows * 0, (Strategy(),),
        )  # fmt: skip
        return batch, self.curriculum.draw(episodes)


def build(arguments: argparse.Namespace) -> tuple[ReactiveForCausalLM, Critic, Rounds]:
    """A model of the asked size, its critic and a maker of rounds."""
    model = reactive_model(arguments, arguments.prompt + arguments.tokens, eos_token_id=None).eval()
    critic = Critic(model, arguments.critic).eval()
    special = torch.arange(arguments.vocab) < FRAME
    vocabulary = Vocabulary.build(special, ~special & False, ~special, model.get_input_embeddings().weight, 6)
    return model, critic, RandomRounds(arguments, vocabulary)


def one_round(
    arguments: argparse.Namespace, model: ReactiveForCausalLM, critic: Critic, rounds: Rounds, optimizer: Optimizer
) -> dict[str, float]:
    """Play, reward, update; seconds of each phase."""
    rollout = RolloutConfig(episodes=arguments.episodes, max_new_tokens=arguments.tokens)
    ppo = PPOConfig(minibatch_episodes=arguments.batch, update_epochs=arguments.update_epochs, target_kl=None)
    replay, critic_config = ReplayConfig(turns_at_once=arguments.turns_at_once), CriticConfig()
    started = time.perf_counter()
    trajectory = rounds.collect(
        model, critic, None, rollout=rollout, rewards=RewardConfig(), ppo=ppo, critic_config=critic_config,
        exact_log_probs=True,
    )  # fmt: skip
    collected = time.perf_counter()
    buffer = Buffer()
    buffer.fill(trajectory, ppo, 0)
    while buffer:
        minibatch = buffer.next()
        optimizer.prepare(100, 0.0, 1000)
        counts = minibatch_counts(minibatch, replay, critic_config)
        slices = -(-len(minibatch) * arguments.steps // replay.turns_at_once)
        for piece in share(minibatch, 0, 1, slices):  # ty: ignore[invalid-argument-type]
            policy_loss(model, critic, piece, counts, ppo, replay, rollout.sampling(), critic_config).loss.backward()
        optimizer.clip()
        optimizer.step()
    ended = time.perf_counter()
    return {
        "rollout_s": rounds.seconds["rollout"],
        "reward_s": rounds.seconds["reward"],
        "values_s": rounds.seconds["judge"],
        "update_s": ended - collected,
        "whole_s": ended - started,
        "generated": int(trajectory.sampled.sum()),
    }


def main() -> None:
    """Measure, print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "episodes": 64, "steps": 4, "batch": 16, "tokens": 64, "prompt": 32, "width": 128, "layers": 4, "heads": 4,
        "slots": 32, "vocab": 2000, "update-epochs": 1, "turns-at-once": 64, "repeats": 3,
    }  # fmt: skip
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--critic", choices=("memory", "frozen_memory", "classic"), default="memory")
    arguments = parser.parse_args()
    model, critic, rounds = build(arguments)
    optimizer = Optimizer(model, OptimizerConfig(), {"critic": critic.parameters()})
    start_mb = peak_memory_mb()
    rows = [one_round(arguments, model, critic, rounds, optimizer) for _ in range(arguments.repeats + 1)][1:]
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    peak_mb = peak_memory_mb()
    with FlopCounterMode(display=False) as counter:
        one_round(arguments, model, critic, rounds, optimizer)
    rate = matmul_rate(2048)
    rates = sorted(arguments.episodes / row["whole_s"] for row in rows)
    figures = {
        "episodes_per_s": round(statistics.median(rates), 2),
        "episodes_per_s_range": [round(rates[0], 2), round(rates[-1], 2)],
        **{name: round(middle[name], 3) for name in ("rollout_s", "reward_s", "values_s", "update_s")},
        "generated_tokens_per_s": round(middle["generated"] / middle["rollout_s"], 1),
        "gflop": round(counter.get_total_flops() / 1e9, 3),
        "matmul_gflop_per_s": round(rate / 1e9, 1),
        "floor_s": round(counter.get_total_flops() / rate, 6),
        "peak_mb": round(peak_mb, 1),
        "start_mb": round(start_mb, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "critic_parameters": sum(p.numel() for p in critic.parameters()),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps({**figures, "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
