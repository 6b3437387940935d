"""What preference learning changed: what evaluation/preferences.py measures."""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.memory.abstention import AbstentionTally
from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import Conversation, Exchange, RowSource, read_conversations
from mrl.dialogues.facts import recalled
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import encode_dialogues
from mrl.recipes.model import ModelConfig
from mrl.recipes.reinforcement import RolloutConfig
from mrl.rl.episode_dataset import EpisodeDataset
from mrl.rl.rewards.verifiers import brevity, is_polite
from mrl.rl.rollout import generate_rollouts
from mrl.training.model_io import load_reactive
from pipeline.artifact import write_json
from pipeline.device import best_device
from pipeline.errors import InputError

AT_ONCE = 128
MOST_WORDS = 8
FAR = 8
"""Turns back at which recall is reported."""
SAMPLES = 6


@dataclass(frozen=True)
class Answered:
    """A turn of a dialogue and what a model said to it."""

    dialogue: int
    exchange: Exchange
    answer: str

    @property
    def untold(self) -> bool:
        """Whether the question is about what nobody has told."""
        return abstains(self.exchange.answer)

    @property
    def told(self) -> bool:
        """Whether it is about what was told."""
        return bool(self.exchange.facts) and not self.untold

    @property
    def right(self) -> bool:
        """Whether the facts are said, or the honest word where there is none."""
        return abstains(self.answer) if self.untold else recalled(self.answer, self.exchange.facts)

    def has(self) -> dict[str, bool]:
        """Which of the qualities that apply to the turn the answer has."""
        found = {"polite": is_polite(self.answer), "brief": brevity(self.answer, MOST_WORDS) == 1}
        return found | ({"right": self.right} if self.untold or self.told else {})

    @property
    def score(self) -> float:
        """Share of the qualities that apply."""
        return statistics.fmean(self.has().values())


def play(path: str, conversations: Sequence[Conversation], max_new_tokens: int, seed: int) -> list[Answered]:
    """Answers of a model to all turns after the first of all dialogues, its own answers in its memory."""
    model, tokenizer = load_reactive(ModelConfig(path=path), needs_memory=True)
    model.to(best_device()).eval()
    limit = model.config.max_interaction_length
    encoded = encode_dialogues(conversations, tokenizer, max_length=limit, too_long="truncate", where="--data")
    dataset = EpisodeDataset(encoded, tokenizer, "--data")
    answered: list[Answered] = []
    for start in range(0, len(conversations), AT_ONCE):
        index = np.arange(start, min(start + AT_ONCE, len(conversations)))
        seeds = [derive_seed(seed, Purpose.HELD_OUT, int(d)) for d in index]
        batch = dataset.batch(index, int(encoded.turns[index].max()) - 1, seeds)
        rollout = generate_rollouts(model, batch, RolloutConfig(max_new_tokens=max_new_tokens), greedy=True).rollout
        for row, turn in rollout.turns.nonzero().tolist():
            said = rollout.answer_ids[row, turn][rollout.answer_mask[row, turn]]
            text = tokenizer.decode(said.tolist(), skip_special_tokens=True).strip()
            dialogue = int(index[row])
            answered.append(Answered(dialogue, conversations[dialogue].exchanges[turn + 1], text))
    return answered


def compare(before: Sequence[Answered], after: Sequence[Answered]) -> dict[str, Any]:
    """All figures, from the answers of the start and of the model to the same turns."""
    pairs = list(zip(before, after, strict=True))
    by_dialogue: dict[int, list[float]] = {}
    for one, two in pairs:
        by_dialogue.setdefault(one.dialogue, []).append(0.5 + 0.5 * float(np.sign(two.score - one.score)))
    wins = [win for each in by_dialogue.values() for win in each]
    far = [(one.right, two.right) for one, two in pairs if one.told and one.exchange.distance == FAR]
    sides = {"before": _tally(before), "after": _tally(after)}
    return {
        "win_rate": round(statistics.fmean(wins), 4),
        "win_rate_interval": _clustered(list(by_dialogue.values())),
        "ties": round(statistics.fmean(win == 0.5 for win in wins), 4),
        "turns": len(wins),
        "dialogues": len(by_dialogue),
        "recall_8_before": _share([one for one, _ in far]),
        "recall_8_after": _share([two for _, two in far]),
        "recall_8_change_interval": _paired([float(two) - float(one) for one, two in far]),
        "recall_8_questions": len(far),
        "abstention": {f"{name}_{when}": side.get(name) for name in ("untold", "told") for when, side in sides.items()},
        "abstention_n": sides["after"]["n"],
        "abstention_intervals": {when: side["intervals"] for when, side in sides.items()},
        "told_change_interval": _paired([float(two.right) - float(one.right) for one, two in pairs if one.told]),
        "qualities": {name: {"before": _quality(before, name), "after": _quality(after, name)}
                      for name in ("polite", "brief", "right")},
        "words": {"before": _words(before), "after": _words(after)},
        "samples": [
            {"query": one.exchange.query, "before": one.answer, "after": two.answer, "chosen": one.exchange.answer}
            for one, two in pairs[:SAMPLES]
        ],
    }  # fmt: skip


def _tally(answers: Sequence[Answered]) -> dict[str, Any]:
    tally = AbstentionTally()
    for answer in answers:
        if answer.untold or answer.told:
            tally.add(answer.answer, untold=answer.untold, recalled=answer.right)
    return tally.figures()


def _share(hits: Sequence[bool]) -> float | None:
    return round(statistics.fmean(hits), 4) if hits else None


def _quality(answers: Sequence[Answered], name: str) -> float | None:
    return _share([found[name] for answer in answers if name in (found := answer.has())])


def _words(answers: Sequence[Answered]) -> float:
    return round(statistics.fmean(len(answer.answer.split()) for answer in answers), 2)


def _clustered(groups: Sequence[Sequence[float]]) -> list[float] | None:
    """95% interval of the mean over all values; those of a group, a dialogue's, aren't independent."""
    count, mean = sum(map(len, groups)), statistics.fmean(value for group in groups for value in group)
    residuals = [sum(group) - mean * len(group) for group in groups]
    if len(groups) < 2:
        return None
    error = sqrt(sum(r * r for r in residuals) * len(groups) / (len(groups) - 1)) / count
    return [round(mean - 1.96 * error, 4), round(mean + 1.96 * error, 4)]


def _paired(changes: Sequence[float]) -> list[float] | None:
    """95% interval of the mean of paired differences."""
    return _clustered([[change] for change in changes]) if len(changes) > 1 else None


def run(options: argparse.Namespace) -> None:
    """Play, compare, write, print. Figures go by the name of the model's folder."""
    conversations = read_conversations(RowSource(path=options.data, limit=options.episodes))
    if not any(exchange.facts for c in conversations for exchange in c.exchanges[1:]):
        raise InputError(f"--data: no turn of {options.data} names facts; there is nothing to verify")
    torch.manual_seed(options.seed)
    before = play(options.start, conversations, options.max_new_tokens, options.seed)
    figures = {
        Path(path).name: compare(before, play(path, conversations, options.max_new_tokens, options.seed))
        for path in options.model
    }
    if options.output_dir:
        write_json(options.output_dir / "preferences.json", figures)
    print(json.dumps({name: {k: v for k, v in each.items() if k != "samples"} for name, each in figures.items()}))
