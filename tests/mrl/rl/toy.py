"""What several tests of mrl/rl make: a batch of dialogues, a round that is ready to be learnt from."""

from collections.abc import Sequence

import torch

from mrl.model import ReactiveForSequenceClassification
from mrl.rl.algorithms import PPOConfig
from mrl.rl.critic import CriticConfig, predict_values
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.rewards import RewardConfig, Vocabulary, score
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from mrl.rl.trajectory import EpisodeBatch, TrainingBatch
from mrl.rl.update import Recipe, UpdateConfig, credit, normalized

OPTIONS = RolloutConfig(max_new_tokens=6, temperature=0.8, top_p=0.9)


def batch_of(dataset: EpisodeDataset, turns: int = 3, rows: int = 6) -> EpisodeBatch:
    chosen = dataset.members(turns)[:rows]
    return dataset.batch(chosen, turns, list(range(100, 100 + len(chosen))))


def recipe(
    ppo: PPOConfig, update: UpdateConfig | None = None, critic: CriticConfig | None = None, rollout=OPTIONS
) -> Recipe:
    return Recipe(
        ppo=ppo, update=update or UpdateConfig(), critic=critic or CriticConfig(), sampling=rollout.sampling()
    )


def round_of(
    model,
    batch: EpisodeBatch,
    vocabulary: Vocabulary,
    ppo: PPOConfig,
    critic: ReactiveForSequenceClassification | None = None,
    rollout=OPTIONS,
) -> TrainingBatch:
    """Played, scored, valued and credited, as mrl/train.py does it."""
    played = generate_rollouts(model, batch, rollout, group=ppo.group_size, keep_history=critic is not None)
    scored = score(RewardConfig(), vocabulary, played.rollout)
    values = torch.zeros(scored.turns.shape)
    if critic is not None:
        values = predict_values(
            critic, scored, played.history, CriticConfig(rows_at_once=5), looks_ahead=ppo.looks_ahead
        )
    return normalized(credit(scored, values, ppo), ppo)


def pad_stack(rows: Sequence[Sequence[Sequence[int]]], fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token lists [B][K][n] -> ids [B, K, longest] right-padded with `fill`, and mask (bool). Short rows of turns are
    filled up with empty turns."""
    turns = max((len(row) for row in rows), default=0)
    width = max((len(ids) for row in rows for ids in row), default=0) or 1
    ids = torch.full((len(rows), turns, width), fill, dtype=torch.long)
    mask = torch.zeros(len(rows), turns, width, dtype=torch.bool)
    for b, row in enumerate(rows):
        for k, tokens in enumerate(row):
            ids[b, k, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[b, k, : len(tokens)] = True
    return ids, mask
