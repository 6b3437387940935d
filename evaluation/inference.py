"""Asks a reactive model: its memory before every turn of known dialogues, and answers read from a memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrl.dialogues.collation import collate_episodes
from mrl.dialogues.tokenization import TurnTokens, build_prompt
from mrl.model import Sampling
from mrl.rl.episode_dataset import Environment
from mrl.rl.rollout import RolloutConfig, play

GREEDY = Sampling(temperature=0.0)


@torch.no_grad()
def states_before(
    model: Any,
    encoded: Any,
    dialogues: list[int],
    seed: int,
    asked_with: Any = None,
    tokens: int = 16,
    temperature: float = 0.0,
) -> Tensor:
    """Memory before each turn of the dialogues, [K, L, B, S, D].

    Written are the answers that the data has or, with a tokenizer as `asked_with`, the model's own: each query of a
    dialogue is answered in at most `tokens` tokens, greedily or, with a temperature, at random by the seed.
    """
    batch = collate_episodes(encoded, np.array(dialogues), None, seed)
    if asked_with is not None and batch.ids.shape[1] > 1:
        environment = Environment(encoded, asked_with, "--data")
        episodes = environment.batch(np.array(dialogues), batch.ids.shape[1] - 1, batch.seeds.tolist())
        config = RolloutConfig(max_new_tokens=tokens, temperature=temperature or 1.0)
        played = play(model, episodes, config, greedy=not temperature, keep_states=True)
        start = model.initial_state(seeds=batch.seeds.tolist(), device=model.device)
        return torch.cat([start.expand_as(played.states[0])[None], played.states])
    state = model.initial_state(seeds=batch.seeds.tolist(), device=model.device)
    if batch.ids.shape[1] == 1:
        return state[None]
    return model.unroll(state, batch.ids[:, :-1].to(model.device), batch.mask[:, :-1].to(model.device))


def answers(
    model: Any,
    tokenizer: Any,
    queries: list[str],
    states: Tensor,
    tokens: int,
    sampling: Sampling = GREEDY,
    seeds: list[int] | None = None,
) -> list[str]:
    """Answers to queries, each read against its state of [L, B, S, D]; greedy ones, or sampled by a seed a row."""
    names = TurnTokens.of(tokenizer, "--model")
    ids = [build_prompt(tokenizer, names, query, model.config.max_interaction_length) for query in queries]
    width = max(map(len, ids))
    rows = torch.tensor([i + [names.pad] * (width - len(i)) for i in ids], device=model.device)
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in ids], device=model.device)
    made = model.generate_answers(rows, mask, states, max_new_tokens=tokens, sampling=sampling, seeds=seeds)
    return tokenizer.batch_decode(made.ids * made.mask + names.pad * (1 - made.mask), skip_special_tokens=True)
