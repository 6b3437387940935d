"""The words of an answer without the frame around them, and what rewards know of the tokenizer.

Symbols: V vocabulary, D width, B dialogues, K turns, n tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mrl.rl.row_record import expect


class Words(NamedTuple):
    """Token ids [..., n] and mask [..., n] (bool) of words, those of a row in front."""

    ids: Tensor
    mask: Tensor

    def flatten(self) -> "Words":
        """[B, K, n] -> [B * K, n]."""
        return Words(self.ids.flatten(0, 1), self.mask.flatten(0, 1))

    def lengths(self) -> Tensor:
        """Words of each row [...], fp32."""
        return self.mask.sum(-1).float()


@dataclass(frozen=True)
class Vocabulary:
    """What rewards know of the tokenizer. special [V]: tokens of the frame; answer_id, think_id: [A], [T];
    starts, ends [V]: whether a token's text begins, ends inside a word, so that `Ann` isn't found in `Anna`;
    embedding [V, D]: centred and without gradient, so that a reward can't be raised by moving it; decode: text of token
    ids, for rewards that read texts."""

    special: Tensor
    starts: Tensor
    ends: Tensor
    embedding: Tensor
    answer_id: int
    think_id: int
    decode: Callable[[Sequence[int]], str] | None = None

    def __post_init__(self) -> None:
        expect(self.special, self.starts, self.ends, lead=self.embedding.shape[:1], ndim=1, name="vocabulary")

    @classmethod
    def build(
        cls,
        special: Tensor,
        starts: Tensor,
        ends: Tensor,
        embedding: Tensor,
        *,
        answer_id: int,
        think_id: int,
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> "Vocabulary":
        """With a centred copy of an embedding table."""
        table = embedding.detach().float()
        return cls(special, starts, ends, table - table.mean(0), answer_id, think_id, decode)

    def to(self, device: torch.device | str) -> "Vocabulary":
        moved = (x.to(device) for x in (self.special, self.starts, self.ends, self.embedding))
        return Vocabulary(*moved, self.answer_id, self.think_id, self.decode)


def content(ids: Tensor, mask: Tensor, vocabulary: Vocabulary, *, whole: bool = False) -> Words:
    """The words of ids, mask [..., n]: no frame tokens, no thought and, unless `whole`, nothing before [A]."""
    answered = (ids == vocabulary.answer_id).cumsum(-1) > 0
    spoken = answered | ((ids == vocabulary.think_id).cumsum(-1) == 0) if whole else answered
    words = mask & ~vocabulary.special[ids] & spoken
    return pack(Words(ids, words))


def before_answer(ids: Tensor, mask: Tensor, vocabulary: Vocabulary) -> Words:
    """The words before the first [A] of ids, mask [..., n]: what is thought. None where there is no [A]."""
    ends = ids == vocabulary.answer_id
    words = mask & ~vocabulary.special[ids] & (ends.cumsum(-1) == 0) & ends.any(-1, keepdim=True)
    return pack(Words(ids, words))


def pack(words: Words) -> Words:
    """The same words in the same order without gaps."""
    order = (~words.mask).to(torch.uint8).argsort(dim=-1, stable=True)
    return Words(words.ids.gather(-1, order), words.mask.gather(-1, order))
