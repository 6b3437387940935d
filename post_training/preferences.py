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
from pipeline.run import Run
from post_training.accuracy import compared
from post_training.chat import IGNORED
from post_training.examples import Examples
from post_training.pairs import labels_of


def _batch(pairs: Sequence[dict[str, Any]], answer: str) -> dict[str, torch.Tensor]:
    """Padded ids, mask and labels [pairs, longest] of the prompts with the answer "chosen" or "rejected"."""
    rows = [labels_of(pair, answer) for pair in pairs]
    width = max(len(ids) for ids, _ in rows)
    batch = {
        "input_ids": torch.zeros(len(rows), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(rows), width, dtype=torch.long),
        "labels": torch.full((len(rows), width), IGNORED, dtype=torch.long),
    }
    for row, (ids, labels) in enumerate(rows):
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][row, : len(ids)] = 1
        batch["labels"][row, : len(ids)] = torch.tensor(labels)
    return batch


@torch.no_grad()
def answer_scores(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed and mean log-probability of the labelled tokens of each row of `batch`, [rows] each."""
    if getattr(model, "_ragged", False):
        log_probs = model(**batch, fused_lm_head=True).log_probs
    else:
        labels = batch["labels"][:, 1:]
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        counted = labels != IGNORED
        found = logits[:, :-1].float().log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        log_probs = found * counted
    total = log_probs.sum(dim=1)
    return total, total / (batch["labels"][:, 1:] != IGNORED).sum(dim=1).clamp(min=1)


def preference_wins(model: PreTrainedModel, pairs: Dataset, *, batch_size: int = 16) -> dict[str, list[float]]:
    """By `mean` and `sum`, for each encoded pair (columns of `pairs.COLUMNS`): 1 if the chosen answer is likelier."""
    was_training = model.training
    model.eval()
    device = model.device
    won: dict[str, list[float]] = {"mean": [], "sum": []}
    for start in progress_bar(range(0, len(pairs), batch_size), desc="preference accuracy", unit="batch"):
        rows = pairs[start : start + batch_size]
        batch = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        scores = [
            answer_scores(model, {k: v.to(device) for k, v in _batch(batch, answer).items()})
            for answer in ("chosen", "rejected")
        ]
        (chosen_sum, chosen_mean), (rejected_sum, rejected_mean) = scores
        won["sum"] += (chosen_sum > rejected_sum).float().tolist()
        won["mean"] += (chosen_mean > rejected_mean).float().tolist()
    model.train(was_training)
    return won


type Wins = dict[str, dict[str, list[float]]]
"""`preference_wins` of each held-out set, by name."""


def score_preferences(model: PreTrainedModel, examples: Examples) -> Wins:
    """`preference_wins` of each held-out set, by name."""
    return {name: preference_wins(model, pairs) for name, pairs in examples.held_out.items()}


def report_preferences(run: Run, before: Wins, after: Wins) -> None:
    """Report accuracy before and after training, and the 95 % interval of the change over the same pairs.

    Of the section `held_out`, and of every set where there are more.
    """
    main = "held_out" if "held_out" in after else next(iter(after), None)
    if main is None:
        return
    changes = {name: compared(before[name]["mean"], after[name]["mean"]) for name in after}
    by_sum = compared(before[main]["sum"], after[main]["sum"])
    run.report(
        preference_accuracy=changes[main]["after"],
        preference_accuracy_before=changes[main]["before"],
        preference_accuracy_sum={"before": by_sum["before"], "after": by_sum["after"]},
        preference_pairs=changes[main]["n"],
        preference_accuracy_before_after=changes[main],
    )
    if len(after) > 1:
        run.report(preference_accuracy_by_set=changes)


__all__ = ["answer_scores", "preference_wins", "report_preferences", "score_preferences"]
