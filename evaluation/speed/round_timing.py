"""How long a round of memory reinforcement learning takes (evaluation/speed/memory_rl.py)."""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evaluation.speed.matmul_rate import matmul_rate
from evaluation.speed.random_models import reactive_model
from mrl.dialogues.collation import share
from mrl.model import ReactiveForCausalLM
from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import PhaseTimer
from mrl.rl.critic import Critic, CriticConfig, build_critic, opened, predict_values
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.rewards import RewardConfig, Vocabulary, score
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from mrl.rl.trajectory import NO_TOKEN, EpisodeBatch
from mrl.rl.update import (
    MinibatchBuffer,
    Recipe,
    UpdateConfig,
    credit,
    minibatch_counts,
    normalized,
    update_loss,
)
from mrl.training.optimizer import Optimizer, OptimizerConfig
from pipeline.run import peak_memory_mb

FRAME = 8


def random_batch(sizes: argparse.Namespace) -> EpisodeBatch:
    """Dialogues of random words, answers of fixed length, facts that are hardly ever said; the same each time."""
    rng = torch.Generator().manual_seed(0)

    def words(*shape: int, first: int = 2) -> Tensor:
        ids = torch.randint(FRAME, sizes.vocab, shape, generator=rng)
        ids[..., 0] = first
        return ids

    turns = (sizes.episodes, sizes.steps)
    query, reference = words(*turns, sizes.prompt), words(*turns, sizes.tokens, first=6)
    first = words(sizes.episodes, sizes.prompt + sizes.tokens)
    facts = torch.full((*turns, 1, 2, 3), NO_TOKEN)
    facts[..., 0] = torch.randint(FRAME, sizes.vocab, (*turns, 1, 2), generator=rng)
    rows = torch.arange(sizes.episodes)
    return EpisodeBatch(
        first_ids=first,
        first_mask=torch.ones_like(first, dtype=torch.bool),
        query_ids=query,
        query_mask=torch.ones_like(query, dtype=torch.bool),
        reference_ids=reference,
        reference_mask=torch.ones_like(reference, dtype=torch.bool),
        fact_ids=facts,
        distance=torch.ones(turns, dtype=torch.long),
        turns=torch.ones(turns, dtype=torch.bool),
        strategy=rows * 0,
        start=EpisodeStart.fresh(rows),
    )


def build(arguments: argparse.Namespace) -> tuple[ReactiveForCausalLM, Critic, Vocabulary]:
    """A model of the asked size, its critic and a vocabulary of whole words."""
    model = reactive_model(arguments, arguments.prompt + arguments.tokens, eos_token_id=None).eval()
    critic = build_critic(model, arguments.critic).eval()
    special = torch.arange(arguments.vocab) < FRAME
    words = Vocabulary.build(
        special, ~special & False, ~special, model.get_input_embeddings().weight, model.config.frame
    )
    return model, critic, words


def one_round(
    arguments: argparse.Namespace,
    model: ReactiveForCausalLM,
    critic: Critic,
    vocabulary: Vocabulary,
    optimizer: Optimizer,
) -> dict[str, float]:
    """Play, reward, value, update, as mrl/train.py does; seconds of each phase."""
    rollout = RolloutConfig(episodes=arguments.episodes, max_new_tokens=arguments.tokens)
    ppo = PPOConfig(minibatch_episodes=arguments.batch, update_epochs=arguments.update_epochs, target_kl=None)
    update = UpdateConfig(micro_batch_turns=arguments.turns_at_once)
    recipe = Recipe(ppo=ppo, update=update, critic=CriticConfig(), sampling=rollout.sampling())
    timer, started = PhaseTimer(torch.device("cpu")), time.perf_counter()
    with timer("rollout"):
        opening = critic.reads(recipe.sampling)
        played = generate_rollouts(model, random_batch(arguments), rollout, keep_history=True, opening=opening)
    with timer("reward"):
        scored = score(RewardConfig(), vocabulary, played.rollout)
    with timer("values"):
        scored = opened(
            critic, model, scored, played.history, recipe.critic, recipe.sampling, looks_ahead=ppo.looks_ahead
        )
        values = predict_values(critic, scored, played.history, recipe.critic, looks_ahead=ppo.looks_ahead)
    buffer = MinibatchBuffer()
    buffer.fill(normalized(credit(scored, values, ppo), ppo), ppo, torch.Generator().manual_seed(0))
    with timer("update"):
        while buffer:
            minibatch = buffer.next()
            optimizer.prepare(100, 0.0, 1000)
            counts = minibatch_counts(minibatch, recipe)
            slices = -(-len(minibatch) * arguments.steps // update.micro_batch_turns)
            for piece in share(minibatch, 0, 1, slices):
                update_loss(model, critic, piece, counts, recipe).loss.backward()
            optimizer.clip()
            optimizer.step()
    whole = time.perf_counter() - started
    return timer.seconds | {"whole_s": whole, "generated": int(scored.sampled.sum())}


def measure(arguments: argparse.Namespace) -> None:
    """Measure, print one line."""
    model, critic, vocabulary = build(arguments)
    optimizer = Optimizer(model, OptimizerConfig(), {"critic": critic.parameters()})
    start_mb = peak_memory_mb()
    rows = [one_round(arguments, model, critic, vocabulary, optimizer) for _ in range(arguments.repeats + 1)][1:]
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    peak_mb = peak_memory_mb()
    with FlopCounterMode(display=False) as counter:
        one_round(arguments, model, critic, vocabulary, optimizer)
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
        "floor_share": round(counter.get_total_flops() / rate / middle["whole_s"], 4),
        "peak_mb": round(peak_mb, 1),
        "start_mb": round(start_mb, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "critic_parameters": sum(p.numel() for p in critic.parameters()),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps({**figures, "settings": vars(arguments)}))
