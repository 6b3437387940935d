"""A reward model: how good an answer is, from the interaction and what was said before it.

What it knows of earlier turns, by `context`:

    memory   the memory that a frozen copy of the start writes from the dialogue: the scorer reads it through
             cross-attention, and what it reads doesn't drift while a policy learns
    text     the tokens of the newest interactions before it
    none     nothing: the interaction alone
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mrl.dialogues.tokenization import load_tokenizer
from mrl.losses.bptt import unroll
from mrl.model import ReactiveForCausalLM, ReactiveForSequenceClassification, take_rows
from mrl.recipes.model import ModelConfig, resolve
from mrl.recipes.preference import Context
from mrl.training.model_io import load_reactive, refuse_nonfinite
from pipeline.artifact import write_json
from pipeline.errors import InputError

FACTS, WRITER = "reward_model.json", "writer"
"""Beside the scorer's weights: its context, and the model that writes the memory it reads."""


@dataclass(frozen=True, eq=False)
class Judged:
    """n interactions to score: ids, mask [n, T]; row [n]: their dialogue; before [n]: how many of its writes came
    before each."""

    ids: Tensor
    mask: Tensor
    row: Tensor
    before: Tensor


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A scorer, what it is told of earlier turns (of `text` the newest `turns`), and the writer of its memory."""

    scorer: ReactiveForSequenceClassification
    context: Context
    turns: int = 4
    writer: ReactiveForCausalLM | None = None

    @staticmethod
    def of(start: ReactiveForCausalLM, context: Context, turns: int = 4) -> "RewardModel":
        """A fresh one from a model that answers; its first score is 0 for everything."""
        scorer = ReactiveForSequenceClassification.from_causal_lm(start, reads_memory=context == "memory")
        return RewardModel(scorer, context, turns, start.requires_grad_(False) if context == "memory" else None)

    def to(self, device: torch.device) -> "RewardModel":
        for part in self.parts():
            part.to(device)
        return self

    def parts(self) -> list[nn.Module]:
        return [self.scorer, *([] if self.writer is None else [self.writer])]

    def scores(self, writes: Tensor, mask: Tensor, seeds: Tensor, judged: Judged) -> Tensor:
        """Scores [n], differentiable in the scorer; writes, mask [B, K, T]: the dialogues' interactions, seeds [B]: of
        the states that their memories begin with."""
        if self.context == "memory":
            assert self.writer is not None, "a reward model that reads a memory has a writer"
            with torch.no_grad():
                state = self.writer.initial_state(seeds=seeds.tolist(), device=writes.device)
                history = unroll(self.writer, state, writes, mask)
            memory = history.after(judged.before, judged.row)
            return self.scorer(judged.ids, judged.mask, memory).logits.squeeze(-1).float()
        ids, seen = judged.ids, judged.mask
        if self.context == "text":
            ids, seen = self._with_context(writes, mask, judged)
        return self.scorer(ids, seen).logits.squeeze(-1).float()

    def _with_context(self, writes: Tensor, mask: Tensor, judged: Judged) -> tuple[Tensor, Tensor]:
        """Ids and mask of the interactions behind the newest `turns` before them, without padding between."""
        back = torch.arange(self.turns, 0, -1, device=writes.device)
        place = judged.before[:, None] - back
        chosen = place.clamp(min=0)
        earlier = writes[judged.row[:, None], chosen]
        there = mask[judged.row[:, None], chosen].bool() & (place >= 0)[..., None]
        ids = torch.cat([earlier.flatten(1), judged.ids], dim=1)
        member = torch.cat([there.flatten(1), judged.mask.bool()], dim=1)
        found, seen, _ = take_rows(ids, member)
        return found, seen

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Scorer, tokenizer, writer and what the scorer is told, in safetensors and JSON."""
        refuse_nonfinite(self.scorer, str(folder.parent))
        self.scorer.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / FACTS, {"context": self.context, "turns": self.turns})
        if self.writer is not None:
            self.writer.save_pretrained(folder / WRITER)
            tokenizer.save_pretrained(folder / WRITER)


def load_reward_model(path: str, tokenizer: Any, where: str) -> RewardModel | None:
    """The reward model of a folder of mrl/reward_model.py, None where the folder holds another kind of classifier.
    Raises InputError naming `where`, the key, for a missing one and for one of other tokens than the policy's."""
    try:
        folder = Path(resolve(path))
    except InputError as error:
        raise InputError(str(error).replace("model.path", where, 1)) from None
    if not (folder / FACTS).is_file():
        return None
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"{where}: {path} was trained on other tokens than the policy's; train it from this model")
    try:
        scorer = ReactiveForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: {path} can't be loaded: {str(error).splitlines()[0][:200]}") from None
    refuse_nonfinite(scorer, where)
    writer = load_reactive(ModelConfig(path=str(folder / WRITER)))[0] if facts["context"] == "memory" else None
    return RewardModel(scorer, facts["context"], facts["turns"], writer)


__all__ = ["Judged", "RewardModel", "load_reward_model"]
