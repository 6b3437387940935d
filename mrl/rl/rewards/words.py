"""The words of an answer without the frame around them, and what rewards know of the tokenizer.

Symbols: V vocabulary, D width, B dialogues, K turns, n tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mrl.model import TurnFrame
from mrl.model.frame import begins
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
    """What rewards know of the tokenizer. special [V]: tokens of the tokenizer's own; frame: the markers;
    starts, ends [V]: whether a token's text begins, ends inside a word, so that `Ann` isn't found in `Anna`;
    embedding [V, D]: centred and without gradient, so that a reward can't be raised by moving it; decode: text of token
    ids, for rewards that read texts."""

    special: Tensor
    starts: Tensor
    ends: Tensor
    embedding: Tensor
    frame: TurnFrame
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
        frame: TurnFrame,
        *,
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> "Vocabulary":
        """With a centred copy of an embedding table."""
        table = embedding.detach().float()
        return cls(special, starts, ends, table - table.mean(0), frame, decode)

    def to(self, device: torch.device | str) -> "Vocabulary":
        moved = (x.to(device) for x in (self.special, self.starts, self.ends, self.embedding))
        return Vocabulary(*moved, self.frame, self.decode)


def content(ids: Tensor, mask: Tensor, vocabulary: Vocabulary, *, whole: bool = False) -> Words:
    """The words of ids, mask [..., n]: no markers, no thought and, unless they are a `whole` interaction or a query,
    nothing before the answer's marker."""
    frame = vocabulary.frame
    if whole:
        thinking = begins(ids, frame.think).cumsum(-1) > 0
        spoken = ~frame.markers(ids) & (~thinking | (begins(ids, frame.think_end).cumsum(-1) > 0))
    else:
        spoken = torch.arange(ids.shape[-1], device=ids.device) >= frame.words_from(ids)[..., None]
    return pack(Words(ids, mask & ~vocabulary.special[ids] & spoken))


def before_answer(ids: Tensor, mask: Tensor, vocabulary: Vocabulary) -> Words:
    """The words of ids, mask [..., n] before the answer's: what is thought. None where the thought has no end."""
    frame, place = vocabulary.frame, torch.arange(ids.shape[-1], device=ids.device)
    thought = frame.thought_end(ids)
    inside = (place < thought[..., None]) & (thought < ids.shape[-1])[..., None] & ~frame.markers(ids)
    return pack(Words(ids, mask & ~vocabulary.special[ids] & inside))


def pack(words: Words) -> Words:
    """The same words in the same order without gaps."""
    order = (~words.mask).to(torch.uint8).argsort(dim=-1, stable=True)
    return Words(words.ids.gather(-1, order), words.mask.gather(-1, order))
