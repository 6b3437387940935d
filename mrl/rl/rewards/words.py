"""The words of an answer without the frame around them, and what rewards know of the tokenizer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mrl.rl.trajectory import expect


@dataclass
class Vocabulary:
    """What rewards know of the tokenizer. special [V]: tokens of the frame; answer_id: [A];
    starts, ends [V]: whether a token's text begins, ends inside a word, so that `Ann` isn't found in `Anna`;
    embedding [V, D]: a frozen copy."""

    special: Tensor
    starts: Tensor
    ends: Tensor
    embedding: Tensor
    answer_id: int

    def __post_init__(self) -> None:
        size = self.embedding.shape[:1]
        expect(self.special, self.starts, self.ends, lead=size, ndim=1, name="vocabulary")
        self.embedding = self.embedding.detach().float().clone()
        self.embedding -= self.embedding.mean(0)


def content(ids: Tensor, mask: Tensor, vocabulary: Vocabulary, *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """ids and the mask of their words, moved to the front: no frame tokens and, unless `whole`, nothing before [A] (a
    thought)."""
    words = mask & ~vocabulary.special[ids]
    if not whole:
        words = words & ((ids == vocabulary.answer_id).cumsum(-1) > 0)
    return together((ids, words))


def together(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same words in the same order without gaps."""
    ids, words = pair
    order = (~words).to(torch.uint8).argsort(dim=-1, stable=True)
    return ids.gather(-1, order), words.gather(-1, order)
