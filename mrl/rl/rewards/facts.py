"""The term `facts`: whether the needed facts are said, and honestly."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.overlap import shared
from mrl.rl.rewards.words import Vocabulary, Words
from mrl.rl.trajectory import NO_TOKEN


def fact_recall(answer: Words, facts: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Share [N] of the facts [N, F, V, W] that are said in the answer [N, n] in one of their spellings.

    A spelling counts only as whole words: neither its first token may continue a word nor its last be continued. NaN
    where no fact is asked for.
    """
    ids, words = answer
    spellings, width = facts.shape[2:]
    ids = torch.where(words, ids, NO_TOKEN - 1)
    padded = F.pad(ids, (1, width), value=NO_TOKEN - 1)
    windows = padded[:, 1:].unfold(1, width, 1)[:, : ids.shape[1]]
    wanted = facts.flatten(1, 2)
    equal = (windows[:, :, None] == wanted[:, None]) | (wanted == NO_TOKEN)[:, None]
    glued = _glued(padded, vocabulary)
    length = (wanted != NO_TOKEN).sum(-1)
    place = torch.arange(ids.shape[1], device=ids.device)[None, :, None]
    after = (place + length[:, None]).clamp(max=glued.shape[1] - 1)
    ends_inside = glued[:, None].expand(-1, ids.shape[1], -1).gather(2, after)
    starts_inside = glued[:, : ids.shape[1], None]
    hit = equal.all(-1) & ~ends_inside & ~starts_inside & (length > 0)[:, None]
    said = hit.any(1).unflatten(1, (-1, spellings)).any(2)
    asked = (length > 0).unflatten(1, (-1, spellings)).any(2)
    return (said & asked).sum(1) / torch.where(asked.any(1), asked.sum(1), torch.nan)


def _glued(padded: Tensor, vocabulary: Vocabulary) -> Tensor:
    """[N, n + W] whether the boundary before place i lies inside a word; `padded` has one token of frame in front."""
    real = padded >= 0
    known = padded.clamp(min=0)
    return (vocabulary.ends[known] & real)[:, :-1] & (vocabulary.starts[known] & real)[:, 1:]


def recall(turns: Comparison) -> Tensor:
    """Share [B, K] of the needed facts that are said; NaN where none is needed."""
    return fact_recall(turns.answer.flatten(), turns.fact_ids.flatten(0, 1), turns.vocabulary).unflatten(0, turns.shape)


def honest_facts(turns: Comparison) -> Tensor:
    """Recall, worth less when said amid too many words, or by repeating more of the saved interaction than the
    reference does."""
    answer, reference, saved = turns.answer.flatten(), turns.reference.flatten(), turns.saved.flatten()
    wanted = reference.lengths().clamp(min=1)
    copied = (shared(answer, saved, 3) - shared(reference, saved, 3)) / wanted
    brevity = (turns.settings.length_slack * wanted / answer.lengths().clamp(min=1)).clamp(max=1)
    return recall(turns) * (brevity * (1 - copied.clamp(0, 1))).unflatten(0, turns.shape)


TERMS: dict[str, Term] = {"facts": honest_facts}
