"""Asks a reactive model: its memory before every turn of known dialogues, and answers read from a memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mrl.dialogues.collation import collate_episodes
from mrl.dialogues.tokenization import EncodedDialogues, build_prompts
from mrl.losses.answer_lm import memory_states
from mrl.model import FORCED, MemoryHistory, MemoryState, ReactiveForCausalLM, Sampling, Think
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.rollout import RolloutConfig, generate_rollouts

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Thinking:
    """Whether answers begin with a thought, and how long one may be."""

    think: Think = "never"
    max_think_tokens: int = 32


AT_ONCE = Thinking()


@torch.no_grad()
def states_before(
    model: ReactiveForCausalLM,
    encoded: EncodedDialogues,
    dialogues: Sequence[int],
    seed: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 16,
    temperature: float = 0.0,
    thinking: Thinking = AT_ONCE,
) -> MemoryHistory:
    """Memory before each turn of the dialogues: before turn k the state after k writes.

    Written are the answers that the data has or, with a `tokenizer`, the model's own: each query of a
    dialogue is answered in at most `max_new_tokens` tokens, greedily or, with a temperature, at random by the seed, and
    after a thought as `thinking` says; that is written with it.
    """
    batch = collate_episodes(encoded, np.array(dialogues), None, seed)
    if tokenizer is not None and batch.ids.shape[1] > 1:
        dataset = EpisodeDataset(encoded, tokenizer, "--data")
        episodes = dataset.batch(np.array(dialogues), batch.ids.shape[1] - 1, batch.seeds.tolist())
        config = RolloutConfig(
            max_new_tokens=max_new_tokens, temperature=temperature or 1.0, forced=FORCED[thinking.think],
            max_think_tokens=thinking.max_think_tokens,
        )  # fmt: skip
        history = generate_rollouts(model, episodes, config, greedy=not temperature, keep_history=True).history
        assert history is not None, "keep_history asks for it"
        return history
    return memory_states(model, batch.to(model.device))


class GeneratedAnswer(NamedTuple):
    """What was said, without its thought; whether it ended by itself; tokens of the thought, 0 where there was none;
    whether that came to no end."""

    text: str
    finished: bool
    thought: int = 0
    cut: bool = False


def generate_answers(
    model: ReactiveForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    state: MemoryState,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    seeds: list[int] | None = None,
    references: Sequence[str] | None = None,
    thinking: Thinking = AT_ONCE,
) -> list[GeneratedAnswer]:
    """Answers to queries, each read against its row of the state; greedy ones, or sampled by a seed a row. references:
    the right answers, where they are known; a query is cut as in training to what they leave of an interaction."""
    frame = model.config.frame
    prompts = build_prompts(tokenizer, frame, queries, model.config.max_interaction_length, references)
    width = max(map(len, prompts))
    ids = torch.tensor([i + [frame.pad] * (width - len(i)) for i in prompts], device=model.device)
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in prompts], device=model.device)
    answers = model.generate_answers(
        ids, mask, state, max_new_tokens=max_new_tokens, max_think_tokens=thinking.max_think_tokens,
        forced=FORCED[thinking.think], sampling=sampling, seeds=seeds,
    )  # fmt: skip
    place = torch.arange(answers.ids.shape[1], device=model.device)
    spoken = answers.mask.bool() & (place >= answers.words_from[:, None])
    texts = tokenizer.batch_decode(answers.ids.masked_fill(~spoken, frame.pad), skip_special_tokens=True)
    return [
        GeneratedAnswer(*each)
        for each in zip(texts, answers.finished.tolist(), answers.thought.tolist(), answers.cut.tolist(), strict=True)
    ]
