"""Terms that count words and n-grams: BLEU, copies, repetitions, length."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.words import Words


def _ngram_equal(a: Words, b: Words, order: int) -> Tensor:
    """[N, n, m] whether the n-gram that starts at i in a is the one that starts at j in b."""
    equal = (a.ids[:, :, None] == b.ids[:, None, :]) & a.mask[:, :, None] & b.mask[:, None, :]
    result = equal
    for shift in range(1, order):
        right, down = min(shift, equal.shape[2]), min(shift, equal.shape[1])
        result = result & F.pad(equal[:, shift:, shift:], (0, right, 0, down), value=False)
    return result


def _ngram_valid(words: Tensor, order: int) -> Tensor:
    valid = words
    for shift in range(1, order):
        valid = valid & F.pad(words[:, shift:], (0, min(shift, words.shape[1])), value=False)
    return valid


def bleu(candidate: Words, reference: Words, weights: tuple[float, ...] | list[float]) -> Tensor:
    """Sentence BLEU [N] in 0..1 with clipped n-gram precisions and the brevity penalty (Papineni et al. 2002).

    Orders above 1 have 1 added to both counts (Lin and Och 2004), so short answers are not lost; an answer that shares
    no word with the reference is worth 0, one equal to it 1. weights: of the orders, normalised.
    """
    length, wanted = candidate.lengths(), reference.lengths()
    logs = torch.zeros_like(length)
    for order, weight in enumerate(weights, start=1):
        in_reference = _ngram_equal(candidate, reference, order).sum(2)
        earlier = _ngram_equal(candidate, candidate, order).tril(-1).sum(2)
        valid = _ngram_valid(candidate.mask, order)
        matched = (valid & (earlier < in_reference)).sum(1).float()
        smooth = 0.0 if order == 1 else 1.0
        precision = (matched + smooth) / (valid.sum(1) + smooth).clamp(min=1e-8)
        logs = logs + weight / sum(weights) * precision.log()
    brevity = torch.minimum(torch.zeros_like(length), 1 - wanted / length.clamp(min=1e-8))
    return torch.where((length > 0) & (wanted > 0), (logs + brevity).exp(), torch.zeros_like(length))


def shared(a: Words, b: Words, order: int) -> Tensor:
    """How many n-grams [N] of a occur in b."""
    return _ngram_equal(a, b, order).any(2).sum(1)


def repetition(words: Words) -> Tensor:
    """Share [N] of the word pairs of a row that have stood in it before."""
    repeated = _ngram_equal(words, words, 2).tril(-1).any(2).sum(1)
    return repeated / _ngram_valid(words.mask, 2).sum(1).clamp(min=1)


def agreement(value: Tensor, ideal: Tensor) -> Tensor:
    """1 where value equals ideal, falling to 0 with their ratio in either direction; NaN where ideal is nearly 0."""
    near = torch.minimum(value, ideal) / torch.maximum(value, ideal).clamp(min=1e-8)
    return torch.where(ideal > 0.01, near.clamp(min=0), torch.nan)


def bleu_with_reference(turns: Comparison) -> Tensor:
    """BLEU of answer against reference, [B, K]."""
    return bleu(turns.answer.flatten(), turns.reference.flatten(), turns.settings.bleu_orders).unflatten(0, turns.shape)


def bleu_with_saved(turns: Comparison) -> Tensor:
    """Whether the answer overlaps with the saved interaction as much as the reference does, [B, K]; more is copying."""
    saved, orders = turns.saved.flatten(), turns.settings.bleu_orders
    said, ideal = (bleu(words.flatten(), saved, orders) for words in (turns.answer, turns.reference))
    return agreement(said, ideal).unflatten(0, turns.shape)


def length(turns: Comparison) -> Tensor:
    """Shorter over longer of the lengths of answer and reference, [B, K]."""
    said, wanted = turns.answer.lengths(), turns.reference.lengths()
    return torch.minimum(said, wanted) / torch.maximum(said, wanted).clamp(min=1)


def no_repetition(turns: Comparison) -> Tensor:
    """1 minus the share of repeated word pairs beyond the reference's, [B, K]; 0 for an empty answer."""
    beyond = repetition(turns.answer.flatten()) - repetition(turns.reference.flatten())
    return (turns.answer.lengths() > 0) * (1 - beyond.clamp(min=0)).unflatten(0, turns.shape)


TERMS: dict[str, Term] = {
    "bleu": bleu_with_reference,
    "bleu_saved": bleu_with_saved,
    "length": length,
    "repetition": no_repetition,
}
