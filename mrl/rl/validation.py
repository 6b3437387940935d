"""Held-out dialogues answered freely: greedy, own answers into memory, recall by distance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrl.dialogues.collation import distance_ranges
from mrl.losses.memory_model import MemoryModel
from mrl.model import TurnFrame
from mrl.model.frame import begins
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.rewards import Judge, RewardConfig, Vocabulary, score
from mrl.rl.rollout import RolloutConfig, generate_rollouts
from mrl.rl.trajectory import ScoredRollout, Strategy

SAMPLES = 3
"""Dialogues shown after an evaluation."""
EVERY_ANSWER = (Strategy(kind="cumulative"),)
"""Every answer counts, whatever the training rewards."""


def validate(
    model: MemoryModel,
    dataset: EpisodeDataset,
    turns: int,
    *,
    dialogues: int,
    rollout: RolloutConfig,
    rewards: RewardConfig,
    vocabulary: Vocabulary,
    judges: Mapping[str, Judge] = {},
    seed: int,
    strategies: Sequence[Strategy] = EVERY_ANSWER,
    rank: int = 0,
    world: int = 1,
    total: Callable[[dict[str, float]], dict[str, float]] = dict,
) -> tuple[dict[str, float], ScoredRollout | None]:
    """Reward and exact recall on dialogues of so many turns (`dialogues` of those that the strategies name, evenly
    spread; each process takes its share and `total` adds up), and this process's first part of them for looking at."""
    named = {tuple(strategy.rows): None for strategy in strategies if strategy.weight}
    members = np.unique(np.concatenate([dataset.members(turns, rows) for rows in named]))
    chosen = members[np.linspace(0, len(members) - 1, min(dialogues, len(members))).astype(np.int64)]
    seeds = np.random.default_rng((seed, 29)).integers(0, 2**62, len(chosen))
    own = np.arange(rank, len(chosen), world)
    sums: dict[str, float] = {}
    sample, freely = None, replace(rollout, teacher_forcing=False)
    for at in range(0, len(own), rollout.at_once):
        part = own[at : at + rollout.at_once]
        batch = dataset.batch(chosen[part], turns, seeds[part].tolist(), strategies=EVERY_ANSWER)
        scored = score(rewards, vocabulary, generate_rollouts(model, batch, freely, greedy=True).rollout, judges)
        _count(sums, scored)
        sample = sample or scored.to("cpu")
    return _means(total(sums)), sample


def _count(sums: dict[str, float], scored: ScoredRollout) -> None:
    def add(name: str, value: Tensor, here: Tensor) -> None:
        if bool(here.any()):
            sums[f"{name} sum"] = sums.get(f"{name} sum", 0.0) + float(value[here].sum())
            sums[f"{name} n"] = sums.get(f"{name} n", 0.0) + int(here.sum())

    asked = scored.turns & ~scored.exact.isnan()
    add("reward", scored.rewards, scored.rewarded)
    add("recall", scored.exact, asked)
    add("finished", scored.finished.float(), scored.turns)
    thought = scored.turns & (scored.thought > 0)
    if bool(thought.any() | scored.sampled[..., 0].any()):
        add("thinks", thought.float(), scored.turns)
        add("thought_length", scored.thought.float(), thought)
        add("thoughts_cut", scored.cut.float(), thought)
    add("answer_length", scored.answer_mask.sum(-1).float(), scored.turns)
    for name, term in scored.terms.items() if len(scored.terms) > 1 else ():
        add(f"term_{name}", term, scored.turns & ~term.isnan())
    for high, inside in distance_ranges(scored.batch.distance):
        add(f"recall_{high}", scored.exact, asked & inside)


def _means(totals: dict[str, float]) -> dict[str, float]:
    names = sorted(name.removesuffix(" n") for name in totals if name.endswith(" n"))
    return {name: totals[f"{name} sum"] / totals[f"{name} n"] for name in names}


def transcript(
    tokenizer: Any, scored: ScoredRollout, frame: TurnFrame, dialogues: int = SAMPLES
) -> list[dict[str, Any]]:
    """Dialogues as rows for a table: dialogue, turn, query, thought, answer, reference (without its thought), distance,
    reward. Turn 0 is the first interaction, whose answer is the data's."""
    batch, rows = scored.batch, []

    def words(ids: Tensor, mask: Tensor) -> str:
        return tokenizer.decode(ids[mask & ~frame.markers(ids)].tolist(), skip_special_tokens=True).strip()

    def parts(ids: Tensor, mask: Tensor, begin: Tensor) -> tuple[str, str]:
        answered = torch.arange(len(ids), device=ids.device) >= begin
        return words(ids, mask & ~answered), words(ids, mask & answered)

    def spoken(ids: Tensor, mask: Tensor) -> tuple[str, str]:
        return parts(ids, mask, frame.words_from(ids))

    for b in range(min(dialogues, batch.size)):
        told = batch.first_ids[b]
        query, answer = parts(told, batch.first_mask[b], (begins(told, frame.answer).cumsum(0) == 0).sum())
        first = {"query": query, "thought": "", "answer": answer}
        rows.append({"dialogue": b, "turn": 0, **first, "reference": "", "distance": 0, "reward": 0.0})
        for k in scored.turns[b].nonzero().squeeze(1).tolist():
            thought, answer = spoken(scored.answer_ids[b, k], scored.answer_mask[b, k])
            rows.append(
                {
                    "dialogue": b,
                    "turn": k + 1,
                    "query": words(batch.query_ids[b, k], batch.query_mask[b, k]),
                    "thought": thought,
                    "answer": answer,
                    "reference": spoken(batch.reference_ids[b, k], batch.reference_mask[b, k])[1],
                    "distance": int(batch.distance[b, k]),
                    "reward": round(float(scored.rewards[b, k]), 3),
                }
            )
    return rows
