"""Terms that count shared n-grams: BLEU, copies, repetitions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def _ngram_equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], order: int) -> Tensor:
    """[N, n, m] whether the n-gram that starts at i in a is the one that starts at j in b."""
    equal = (a[0][:, :, None] == b[0][:, None, :]) & a[1][:, :, None] & b[1][:, None, :]
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


def bleu(candidate: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], weights: list[float]) -> Tensor:
    """Sentence BLEU [N] in 0..1 with clipped n-gram precisions and the brevity penalty (Papineni et al. 2002).

    Orders above 1 have 1 added to both counts (Lin and Och 2004), so short answers are not lost; an answer that shares
    no word with the reference is worth 0, one equal to it 1. weights: of the orders, normalised.
    """
    length, wanted = candidate[1].sum(1).float(), reference[1].sum(1).float()
    logs = torch.zeros_like(length)
    for order, weight in enumerate(weights, start=1):
        in_reference = _ngram_equal(candidate, reference, order).sum(2)
        earlier = _ngram_equal(candidate, candidate, order).tril(-1).sum(2)
        valid = _ngram_valid(candidate[1], order)
        matched = (valid & (earlier < in_reference)).sum(1).float()
        smooth = 0.0 if order == 1 else 1.0
        precision = (matched + smooth) / (valid.sum(1) + smooth).clamp(min=1e-8)
        logs = logs + weight / sum(weights) * precision.log()
    brevity = torch.minimum(torch.zeros_like(length), 1 - wanted / length.clamp(min=1e-8))
    return torch.where((length > 0) & (wanted > 0), (logs + brevity).exp(), torch.zeros_like(length))


def shared(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], order: int) -> Tensor:
    """How many n-grams [N] of a occur in b."""
    return _ngram_equal(a, b, order).any(2).sum(1)


def repetition(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Share [N] of the word pairs of a row that have stood in it before."""
    repeated = _ngram_equal(pair, pair, 2).tril(-1).any(2).sum(1)
    return repeated / _ngram_valid(pair[1], 2).sum(1).clamp(min=1)
