"""Terms that compare mean token embeddings (a frozen, centred copy of the table)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.overlap import agreement
from mrl.rl.rewards.words import Words


def mean_embedding(words: Words, embedding: Tensor) -> Tensor:
    """Mean of the embeddings of the words, [..., D]; 0 where there are none."""
    weight = words.mask.to(embedding.dtype).unsqueeze(-1)
    return (embedding[words.ids] * weight).sum(-2) / weight.sum(-2).clamp(min=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of vectors [..., D], negative ones as 0."""
    return F.cosine_similarity(a, b, dim=-1).clamp(min=0)


def _vectors(turns: Comparison, *names: str) -> list[Tensor]:
    return [mean_embedding(getattr(turns, name), turns.vocabulary.embedding) for name in names]


def cosine_with_reference(turns: Comparison) -> Tensor:
    """Likeness to the reference, [B, K]."""
    return cosine(*_vectors(turns, "answer", "reference"))


def cosine_with_saved(turns: Comparison) -> Tensor:
    """Whether the answer is as like the saved interaction as the reference is, [B, K]."""
    answer, reference, saved = _vectors(turns, "answer", "reference", "saved")
    return agreement(cosine(answer, saved), cosine(reference, saved))


def lean_on_saved(turns: Comparison) -> Tensor:
    """How much more the answer resembles the saved interaction than the reference does, [B, K]."""
    answer, reference, saved = _vectors(turns, "answer", "reference", "saved")
    return (cosine(answer, saved) - cosine(reference, saved)).clamp(min=0)


def running(turns: Comparison) -> Tensor:
    """The same comparison with the running mean of the interactions before the newest, [B, K]; NaN at turn 0."""
    answer, reference, writes = _vectors(turns, "answer", "reference", "writes")
    decay, mean, means = turns.settings.running_decay, torch.zeros_like(writes[:, 0]), []
    for k in range(writes.shape[1]):
        means.append(mean)
        mean = writes[:, k] if k == 0 else (1 - decay) * writes[:, k] + decay * mean
    earlier = torch.stack(means, dim=1)
    return agreement(cosine(answer, earlier), cosine(reference, earlier))


TERMS: dict[str, Term] = {
    "cosine": cosine_with_reference,
    "cosine_saved": cosine_with_saved,
    "running": running,
}
