"""Terms that compare mean token embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor


def running_similarity(config, vocabulary, answer, reference, writes) -> Tensor:
    """Likeness to the running mean of the interactions before the newest, [B, K]; NaN at the first turn."""
    vectors = [mean_embedding(pair, vocabulary.embedding) for pair in (answer, reference, writes)]
    mean, means = torch.zeros_like(vectors[2][:, 0]), []
    for k in range(writes[0].shape[1]):
        means.append(mean)
        mean = (
            vectors[2][:, k] if k == 0 else (1 - config.running_decay) * vectors[2][:, k] + config.running_decay * mean
        )
    earlier = torch.stack(means, dim=1)
    return agreement(cosine(vectors[0], earlier), cosine(vectors[1], earlier))


def agreement(value: Tensor, ideal: Tensor) -> Tensor:
    """1 where value equals ideal, falling to 0 with their ratio in either direction; NaN where ideal is nearly 0."""
    near = torch.minimum(value, ideal) / torch.maximum(value, ideal).clamp(min=1e-8)
    return torch.where(ideal > 0.01, near.clamp(min=0), torch.nan)


def mean_embedding(pair: tuple[Tensor, Tensor], embedding: Tensor) -> Tensor:
    """Mean of the embeddings of the words, [..., D]; 0 where there are none."""
    ids, words = pair
    weight = words.to(embedding.dtype).unsqueeze(-1)
    return (embedding[ids] * weight).sum(-2) / weight.sum(-2).clamp(min=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of vectors [..., D], negative ones as 0."""
    return F.cosine_similarity(a, b, dim=-1).clamp(min=0)
