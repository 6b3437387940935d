"""Preference accuracy: on how many held-out pairs does the model find the chosen answer likelier?

The same definition for every stage: an answer's score is the mean log-probability of its tokens (EOS included) after
the prompt, so that length alone decides nothing; a pair counts when the chosen answer's score is strictly higher. The
figure by summed log-probability is reported beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from pipeline.progress import progress_bar
from post_training.chat import IGNORED
from post_training.ragged import lay_end_to_end


def _batch(rows: dict[str, Sequence[Any]], column: str, limit: int | None) -> dict[str, torch.Tensor]:
    ids = [[*p, *a][:limit] for p, a in zip(rows["prompt_ids"], rows[column], strict=True)]
    width = max(map(len, ids))
    batch = {
        "input_ids": torch.zeros(len(ids), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(ids), width, dtype=torch.long),
        "labels": torch.full((len(ids), width), IGNORED, dtype=torch.long),
    }
    for row, (tokens, prompt) in enumerate(zip(ids, rows["prompt_ids"], strict=True)):
        batch["input_ids"][row, : len(tokens)] = torch.tensor(tokens)
        batch["attention_mask"][row, : len(tokens)] = 1
        batch["labels"][row, len(prompt) : len(tokens)] = torch.tensor(tokens[len(prompt) :])
    return batch


@torch.no_grad()
def answer_scores(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed and mean log-probability of the labelled tokens of each row of `batch`, [rows] each."""
    if lay_end_to_end(model):
        log_probs = model(**batch, fused_lm_head=True).log_probs
    else:
        labels = batch["labels"][:, 1:]
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        counted = labels != IGNORED
        found = logits[:, :-1].float().log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        log_probs = found * counted
    total = log_probs.sum(dim=1)
    return total, total / (batch["labels"][:, 1:] != IGNORED).sum(dim=1).clamp(min=1)


def preference_accuracy(
    model: PreTrainedModel, pairs: Dataset, *, batch_size: int = 16, max_length: int | None = None
) -> dict[str, float]:
    """`mean` and `sum` accuracy over encoded pairs (columns prompt_ids, chosen_ids, rejected_ids), and their number."""
    was_training = model.training
    model.eval()
    device = model.device
    won = {"mean": 0, "sum": 0}
    for start in progress_bar(range(0, len(pairs), batch_size), desc="preference accuracy", unit="batch"):
        rows = pairs[start : start + batch_size]
        scores = []
        for column in ("chosen_ids", "rejected_ids"):
            batch = {k: v.to(device) for k, v in _batch(rows, column, max_length).items()}
            scores.append(answer_scores(model, batch))
        (chosen_sum, chosen_mean), (rejected_sum, rejected_mean) = scores
        won["sum"] += int((chosen_sum > rejected_sum).sum())
        won["mean"] += int((chosen_mean > rejected_mean).sum())
    model.train(was_training)
    return {"mean": won["mean"] / len(pairs), "sum": won["sum"] / len(pairs), "pairs": len(pairs)}
