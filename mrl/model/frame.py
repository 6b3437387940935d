"""The tokens around the parts of an interaction: `opening` query, `answer` words, `end`; with a thought between them
`think` thought `think_end` words.

Models of this project have one token a marker: `[BOS][Q]query[T]thought[A]answer[EOS]`, so that `[A]` begins an answer
and ends a thought. A model made of a causal one has the role headers of its chat template, of several tokens each; a
thought then begins behind the header of the answer, with `<think>`.

The file imports nothing of torch: a configuration is read without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MARKERS = ("header", "opening", "answer", "think", "think_end", "end")


def begins(ids: "Tensor", marker: tuple[int, ...]) -> "Tensor":
    """Where in ids [..., n] a marker begins, [..., n] bool."""
    found = ids.new_zeros(ids.shape, dtype=bool)  # ty: ignore[no-matching-overload]
    if ids.shape[-1] >= len(marker):
        windows = ids.unfold(-1, len(marker), 1)
        found[..., : windows.shape[-2]] = (windows == ids.new_tensor(marker)).all(-1)
    return found


@dataclass(frozen=True, kw_only=True)
class TurnFrame:
    """Ids of the markers, and of what pads a row and hides a token (None: nothing does). The last token of `end` stops
    an answer. `header` is the part of `opening` by which a turn is known in a rendered conversation."""

    pad: int
    mask: int | None = None
    header: tuple[int, ...]
    opening: tuple[int, ...]
    answer: tuple[int, ...]
    think: tuple[int, ...]
    think_end: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def named(cls, pad: int, markers: Mapping[str, Sequence[int]]) -> "TurnFrame":
        """From ids by the names of MARKERS, as a configuration has them."""
        header, opening, answer, think, think_end, end = (tuple(markers[name]) for name in MARKERS)
        return cls(pad=pad, header=header, opening=opening, answer=answer, think=think, think_end=think_end, end=end)

    @classmethod
    def single(
        cls, *, pad: int, mask: int | None, bos: int | None, eos: int, query: int, answer: int, think: int
    ) -> "TurnFrame":
        """With one token a marker."""
        opening = (query,) if bos is None else (bos, query)
        return cls(
            pad=pad, mask=mask, header=(query,), opening=opening, answer=(answer,), think=(think,),
            think_end=(answer,), end=(eos,),
        )  # fmt: skip

    @cached_property
    def lead(self) -> tuple[int, ...]:
        """Tokens of `opening` before the header, which a rendered conversation may lack."""
        size = len(self.header)
        return self.opening[: next(i for i in range(len(self.opening)) if self.opening[i : i + size] == self.header)]

    @cached_property
    def common(self) -> int:
        """Tokens with which an answer begins whether it is thought about or not."""
        pairs = zip(self.answer, self.think, strict=False)
        return next((i for i, (one, two) in enumerate(pairs) if one != two), min(len(self.answer), len(self.think)))

    @property
    def choice(self) -> tuple[int, int] | None:
        """The two tokens between which a model chooses to answer or to think. None where a thought is begun in place of
        an answer's first word: any word is then the other choice."""
        rest = self.answer[self.common :]
        return (rest[0], self.think[self.common]) if rest else None

    def thinks(self, ids: "Tensor") -> "Tensor":
        """Whether answers [..., n], markers included, begin with a thought, [...] bool."""
        return begins(ids[..., : len(self.think)], self.think)[..., :1].any(-1)

    def thought_end(self, ids: "Tensor") -> "Tensor":
        """Tokens [...] before the marker that ends a thought in ids [..., n]; n where there is none."""
        return (begins(ids, self.think_end).cumsum(-1) == 0).sum(-1)

    def words_from(self, ids: "Tensor") -> "Tensor":
        """Place [...] in answers [..., n], markers included, where the words of the answer begin, behind the marker or
        the thought; n where a thought has no end, or no marker is found."""
        longest = ids.shape[-1]
        direct = begins(ids[..., : len(self.answer)], self.answer)[..., :1].any(-1) & ~self.thinks(ids)
        place = (self.thought_end(ids) + len(self.think_end)).clamp(max=longest)
        return place.masked_fill(direct, len(self.answer))

    def markers(self, ids: "Tensor") -> "Tensor":
        """Tokens of ids [..., n] that are part of a marker, [..., n] bool."""
        found = ids.new_zeros(ids.shape, dtype=bool)  # ty: ignore[no-matching-overload]
        for marker in {self.opening, self.answer, self.think, self.think_end, self.end}:
            starts = begins(ids, marker)
            for offset in range(min(len(marker), ids.shape[-1])):
                found[..., offset:] |= starts[..., : ids.shape[-1] - offset]
        return found

    def parts(self, said: list[int]) -> tuple[list[int], list[int]]:
        """Thought and words of one answer that begins with its marker; a thought that has no end is all there is. What
        may be the beginning of a marker, because nothing comes after it yet, belongs to neither."""
        if tuple(said) == self.think[: len(said)]:
            return [], []
        if tuple(said[: len(self.think)]) != self.think:
            return [], said[len(self.answer) :]
        size = len(self.think_end)
        ends = (i for i in range(len(self.think), len(said)) if tuple(said[i : i + size]) == self.think_end)
        if (end := next(ends, None)) is not None:
            return said[len(self.think) : end], said[end + size :]
        thought = said[len(self.think) :]
        begun = (n for n in range(size - 1, 0, -1) if tuple(thought[-n:]) == self.think_end[:n])
        return thought[: len(thought) - next(begun, 0)], []
