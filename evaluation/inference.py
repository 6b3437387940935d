"""Asks a reactive model: its memory before every turn of known dialogues, and answers read from a memory."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mrl.dialogues.collation import collate_episodes
from mrl.dialogues.tokenization import EncodedDialogues, TurnTokens, build_prompt
from mrl.model import ReactiveForCausalLM, Sampling
from mrl.rl.episode_dataset import Environment
from mrl.rl.rollout import RolloutConfig, play

GREEDY = Sampling(temperature=0.0)


@torch.no_grad()
def states_before(
    model: ReactiveForCausalLM,
    encoded: EncodedDialogues,
    dialogues: Sequence[int],
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 16,
    temperature: float = 0.0,
) -> Tensor:
    """Memory before each turn of the dialogues, [K, L, B, S, D].

    Written are the answers that the data has or, with a `tokenizer`, the model's own: each query of a
    dialogue is answered in at most `max_new_tokens` tokens, greedily or, with a temperature, at random by the seed.
    """
    batch = collate_episodes(encoded, np.array(dialogues), None, seed)
    if tokenizer is not None and batch.ids.shape[1] > 1:
        environment = Environment(encoded, tokenizer, "--data")
        episodes = environment.batch(np.array(dialogues), batch.ids.shape[1] - 1, batch.seeds.tolist())
        config = RolloutConfig(max_new_tokens=max_new_tokens, temperature=temperature or 1.0)
        played = play(model, episodes, config, greedy=not temperature, keep_states=True)
        assert played.states is not None, "keep_states asks for them"
        start = model.initial_state(seeds=batch.seeds.tolist(), device=model.device)
        return torch.cat([start.expand_as(played.states[0])[None], played.states])
    state = model.initial_state(seeds=batch.seeds.tolist(), device=model.device)
    if batch.ids.shape[1] == 1:
        return state[None]
    return model.unroll(state, batch.ids[:, :-1].to(model.device), batch.mask[:, :-1].to(model.device))


def generate_answers(
    model: ReactiveForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    states: Tensor,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    seeds: list[int] | None = None,
) -> list[str]:
    """Answers to queries, each read against its state of [L, B, S, D]; greedy ones, or sampled by a seed a row."""
    names = TurnTokens.of(tokenizer, "--model")
    prompts = [build_prompt(tokenizer, names, query, model.config.max_interaction_length) for query in queries]
    width = max(map(len, prompts))
    ids = torch.tensor([i + [names.pad] * (width - len(i)) for i in prompts], device=model.device)
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in prompts], device=model.device)
    answers = model.generate_answers(
        ids, mask, states, max_new_tokens=max_new_tokens, sampling=sampling, seeds=seeds
    )  # fmt: skip
    return tokenizer.batch_decode(answers.ids * answers.mask + names.pad * (1 - answers.mask), skip_special_tokens=True)
