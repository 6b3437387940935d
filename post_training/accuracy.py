"""How often greedy answers to held-out questions are right, and what training changed, question by question."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from scipy import stats

from pipeline.progress import progress_bar
from post_training.rewards import RewardConfig, verify

BATCH = 64


@torch.no_grad()
def rights(model: Any, tokenizer: Any, rows: Dataset, reward: RewardConfig, *, max_new_tokens: int) -> list[float]:
    """The reward in 0..1 of the greedy answer to each row (columns `prompt` and `reference`), in their order."""
    was_training = model.training
    model.eval()
    found = [0.0] * len(rows)
    prompts = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False) for prompt in rows["prompt"]
    ]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    for start in progress_bar(range(0, len(rows), BATCH), desc="held-out answers", unit="batch"):
        chosen = order[start : start + BATCH]
        batch = tokenizer(
            [prompts[i] for i in chosen], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False, return_token_type_ids=False,
        ).to(model.device)  # fmt: skip
        written = model.generate(**batch, do_sample=False, max_new_tokens=max_new_tokens)
        answers = written[:, batch["input_ids"].shape[1] :]
        for i, ids in zip(chosen, answers, strict=True):
            tokens = int((ids != tokenizer.pad_token_id).sum())
            text = tokenizer.decode(ids, skip_special_tokens=True)
            found[i] = verify(reward, text, rows[i]["reference"], tokens)
    model.train(was_training)
    return found


def compared(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    """Means before and after, and the 95 % interval of their difference over the same questions (Student's t)."""
    n = len(before)
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean = sum(differences) / n
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / max(1, n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n) if n > 1 else math.inf
    return {
        "before": sum(before) / n, "after": sum(after) / n, "low": mean - half, "high": mean + half, "n": n,
    }  # fmt: skip
