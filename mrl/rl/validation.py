"""Held-out dialogues answered freely: greedy, own answers into memory, recall by distance."""

from dataclasses import replace
from typing import Any

import numpy as np

from mrl.dialogues.collation import distance_ranges
from mrl.rl.episode_dataset import Environment
from mrl.rl.rewards import RewardConfig, Vocabulary, score
from mrl.rl.rollout import RolloutConfig, play
from mrl.rl.trajectory import Strategy, Trajectory

SAMPLES = 3
"""Dialogues shown after an evaluation."""
PLAIN = (Strategy(kind="cumulative"),)
"""Every answer counts, whatever the training rewards."""


def examine(
    model: Any,
    environment: Environment,
    steps: int,
    *,
    dialogues: int,
    rollout: RolloutConfig,
    rewards: RewardConfig,
    words: Vocabulary,
    training: Any,
    seed: int,
) -> tuple[dict[str, float], Trajectory | None]:
    """Reward and exact recall at `steps` over so many dialogues (evenly spread; each process takes its share), and this
    process's first part of them for looking at."""
    members = environment.members(steps)
    chosen = members[np.linspace(0, len(members) - 1, min(dialogues, len(members))).astype(np.int64)]
    seeds = np.random.default_rng((seed, 29)).integers(0, 2**62, len(chosen))
    own = np.arange(training.rank, len(chosen), training.world)
    sums: dict[str, float] = {}
    shown, freely = None, replace(rollout, teacher_forcing=False)
    for at in range(0, len(own), rollout.at_once):
        part = own[at : at + rollout.at_once]
        batch = environment.batch(chosen[part], steps, seeds[part].tolist(), strategies=PLAIN)
        played = play(model, batch, freely, greedy=True).trajectory
        found = score(rewards, words, played)
        played.rewards, played.terms = found.rewards, {"exact": found.exact}
        _count(sums, played, found.rewarded)
        shown = shown or played.to("cpu")
    totals = training.total(sums)
    return _means(totals), shown


def _count(sums: dict[str, float], played: Trajectory, rewarded: Any) -> None:
    def add(name: str, right: Any, here: Any) -> None:
        if bool(here.any()):
            sums[f"{name} sum"] = sums.get(f"{name} sum", 0.0) + float(right[here].sum())
            sums[f"{name} n"] = sums.get(f"{name} n", 0.0) + int(here.sum())

    exact = played.terms["exact"]
    asked = played.turns & ~exact.isnan()
    add("reward", played.rewards, rewarded)
    add("recall", exact, asked)
    for high, inside in distance_ranges(played.batch.distance):
        add(f"recall_{high}", exact, asked & inside)


def _means(totals: dict[str, float]) -> dict[str, float]:
    names = sorted(name.removesuffix(" n") for name in totals if name.endswith(" n"))
    return {name: totals[f"{name} sum"] / totals[f"{name} n"] for name in names}


def transcript(tokenizer: Any, played: Trajectory, dialogues: int = SAMPLES) -> list[dict[str, Any]]:
    """Dialogues as rows for a table: dialogue, turn, query, answer, reference, distance, reward."""
    batch, rows = played.batch, []

    def words(ids: Any, mask: Any) -> str:
        return tokenizer.decode(ids[mask].tolist(), skip_special_tokens=True).strip()

    for b in range(min(dialogues, batch.rows)):
        first = words(batch.first_ids[b], batch.first_mask[b])
        blank = {"answer": "", "reference": "", "distance": 0, "reward": 0.0}
        rows.append({"dialogue": b, "turn": 0, "query": first, **blank})
        for k in played.turns[b].nonzero().squeeze(1).tolist():
            rows.append(
                {
                    "dialogue": b,
                    "turn": k + 1,
                    "query": words(batch.query_ids[b, k], batch.query_mask[b, k]),
                    "answer": words(played.answer_ids[b, k], played.answer_mask[b, k]),
                    "reference": words(batch.reference_ids[b, k], batch.reference_mask[b, k]),
                    "distance": int(batch.distance[b, k]),
                    "reward": round(float(played.rewards[b, k]), 3),
                }
            )
    return rows
