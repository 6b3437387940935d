"""Conversations as token ids: `[BOS][Q]query` + (`[T]think`)? + `[A]answer[EOS]` per turn, held in flat arrays.

What is scored in supervised training are the answer's tokens and the end token, of a thought too and then also the
`[A]` that closes it. The first forced marker isn't scored, unless some turn of the data thinks: then the model has to
choose between `[T]` and `[A]` by itself.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from mrl.dialogues.dataset import Conversation, Exchange
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
SCORED, MARKER, FACT = 1, 2, 4
"""Bits of `EncodedDialogues.flags`: part of what the model has to say, a forced marker, part of a needed fact."""


@dataclass(frozen=True)
class TurnTokens:
    """Ids of the tokens that frame an interaction."""

    pad: int
    bos: int
    eos: int
    mask: int
    query: int
    answer: int
    think: int

    @classmethod
    def of(cls, tokenizer: Any, where: str) -> "TurnTokens":
        """Ids from a tokenizer. Raises InputError naming the tokens it lacks."""
        names = {"pad": "[PAD]", "bos": "[BOS]", "eos": "[EOS]", "mask": "[MASK]"}
        names = {k: getattr(tokenizer, f"{k}_token", None) or v for k, v in names.items()}
        names |= {"query": "[Q]", "answer": "[A]", "think": "[T]"}
        vocabulary = tokenizer.get_vocab()
        missing = [name for name in names.values() if name not in vocabulary]
        if missing:
            raise InputError(
                f"{where}: the tokenizer has no {', '.join(missing)}; train one with data/tokenizer.py or add them as "
                "special tokens"
            )
        return cls(**{key: vocabulary[name] for key, name in names.items()})


def load_tokenizer(path: Path | str) -> Any:
    """A tokenizer from a folder. Raises InputError where there is none."""
    from transformers import AutoTokenizer

    if not (Path(path) / "tokenizer.json").exists():
        raise InputError(f"{path}: no tokenizer.json there; train one with data/tokenizer.py")
    return AutoTokenizer.from_pretrained(str(path))


@dataclass
class EncodedDialogues:
    """Dialogues in flat arrays. Turn t holds tokens[start[t]:start[t+1]]; dialogue d the turns first[d]:first[d+1].

    `distance` and `asks` are per turn: how far back its facts lie, and whether answering it takes memory (data that
    gives no distance at all: every turn counts as asking), `facts` the strings that each turn's answer has to contain.
    """

    tokens: np.ndarray
    flags: np.ndarray
    start: np.ndarray
    first: np.ndarray
    distance: np.ndarray
    asks: np.ndarray
    groups: list[str]
    names: TurnTokens
    thinks: bool
    facts: list[tuple[str, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each turn."""
        return np.diff(self.start)

    @property
    def turns(self) -> np.ndarray:
        """Turns of each dialogue."""
        return np.diff(self.first)

    def longest(self, turns: int | None = None) -> np.ndarray:
        """Tokens of the longest among the first `turns` turns of each dialogue, for sorting into buckets."""
        lengths, counts = self.lengths, self.turns
        most = int(counts.max()) if turns is None else turns
        index = self.first[:-1, None] + np.arange(most)
        inside = np.arange(most) < counts[:, None]
        return np.where(inside, lengths[np.minimum(index, len(lengths) - 1)], 0).max(1)


def encode_dialogues(
    conversations: Sequence[Conversation],
    tokenizer: Any,
    *,
    max_length: int,
    too_long: Literal["truncate", "refuse"] = "truncate",
    where: str = "tokenizer",
) -> EncodedDialogues:
    """Encode conversations. A turn of more than `max_length` tokens is refused, or cut with a warning: first the
    answer's end (its end token stays), then the query's, so that some of the answer is always left. Plain text is
    split into as many turns as it needs instead."""
    names = TurnTokens.of(tokenizer, where)
    pieces = _Pieces(tokenizer, conversations)
    thinks = any(e.think for c in conversations for e in c.exchanges)
    tokens, flags, start, first, distance, cut, facts = [], [], [0], [0], [], [], []
    for conversation in conversations:
        for exchange in conversation.exchanges:
            for ids, marks, longer in _encode(exchange, pieces, names, max_length):
                if longer and too_long == "refuse":
                    raise InputError(
                        f"{conversation.where}: a turn of {longer} tokens is longer than {max_length} "
                        f"(max_interaction_length): shorten it, raise the limit, or set too_long: truncate"
                    )
                cut += [longer] if longer else []
                tokens.append(ids)
                flags.append(marks)
                start.append(start[-1] + len(ids))
                distance.append(exchange.distance)
                facts.append(exchange.facts)
        first.append(len(start) - 1)
    if cut:
        logger.warning(
            "%d of %d turns have more than %d tokens (the longest %d) and were cut at the end",
            len(cut), len(start) - 1, max_length, max(cut),
        )  # fmt: skip
    return EncodedDialogues(
        np.concatenate(tokens).astype(np.int64),
        np.concatenate(flags).astype(np.uint8),
        np.array(start),
        np.array(first),
        np.array(distance),
        np.array(distance) > 0 if any(distance) else np.ones(len(distance), dtype=bool),
        [c.group for c in conversations],
        names,
        thinks,
        facts,
    )


class _Pieces:
    """Every distinct text of the conversations, tokenised once in one batch; special tokens in texts stay text."""

    def __init__(self, tokenizer: Any, conversations: Sequence[Conversation]) -> None:
        texts: dict[str, None] = {}
        for conversation in conversations:
            for e in conversation.exchanges:
                texts.update(dict.fromkeys(t for t in (e.query, e.think, e.answer) if t))
        # A copy: neither the padding and truncation that a tokenizer.json may ask for nor what an earlier call left.
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        # A user who types "[A]" must not be able to end the question.
        backend.encode_special_tokens = True
        encoded = backend.encode_batch(list(texts), add_special_tokens=False)
        self.encodings = dict(zip(texts, encoded, strict=True))

    def ids(self, text: str | None) -> list[int]:
        return self.encodings[text].ids if text else []

    def fact_marks(self, text: str, facts: Sequence[str]) -> list[int]:
        """FACT for each token of `text` that overlaps one of the facts' places in it."""
        offsets = self.encodings[text].offsets
        marks = [0] * len(offsets)
        for fact in facts:
            at = text.lower().find(fact.lower()) if fact else -1
            if at < 0:
                continue
            for index, (begin, end) in enumerate(offsets):
                if begin < at + len(fact) and end > at and text[begin:end].strip():
                    marks[index] = FACT
        return marks


def _encode(exchange: Exchange, pieces: _Pieces, names: TurnTokens, limit: int) -> list[tuple[list, list, int]]:
    """Ids, flags and excess length of the turns that one exchange makes."""
    if exchange.query is not None:
        return [_encode_turn(exchange, pieces, names, limit)]
    ids, room = pieces.ids(exchange.answer), limit - 2
    parts = [ids[at : at + room] for at in range(0, len(ids), room)]
    return [([names.bos, *part, names.eos], [0, *[SCORED] * (len(part) + 1)], 0) for part in parts]


def _encode_turn(
    exchange: Exchange, pieces: _Pieces, names: TurnTokens, limit: int
) -> tuple[list[int], list[int], int]:
    """Ids and flags of one turn, and its length if that was more than the limit (else 0)."""
    answer = pieces.ids(exchange.answer)
    said = [SCORED | mark for mark in pieces.fact_marks(exchange.answer, exchange.facts)]
    head = [names.bos, names.query, *pieces.ids(exchange.query)]
    head_flags = [0] * len(head)
    answer, said = [names.answer, *answer], [MARKER, *said]
    if exchange.think:
        think = pieces.ids(exchange.think)
        answer = [names.think, *think, *answer]
        said = [MARKER, *[SCORED] * len(think), SCORED, *said[1:]]
    total = len(head) + len(answer) + 1
    longer = total if total > limit else 0
    if longer:
        # At least half of the room is the query's, if it needs that much.
        room = max(limit - len(head), min(len(answer) + 1, limit // 2))
        head, head_flags = head[: limit - room], head_flags[: limit - room]
        answer, said = answer[: room - 1], said[: room - 1]
    return [*head, *answer, names.eos], [*head_flags, *said, SCORED], longer


def build_prompt(tokenizer: Any, names: TurnTokens, query: str, max_length: int) -> list[int]:
    """Ids of `[BOS][Q]query`, for answering. Raises InputError for an empty query; a long one is cut with a warning."""
    if not query.strip():
        raise InputError("the query is empty; ask something")
    exchange = Exchange(query, "")
    ids = [names.bos, names.query, *_Pieces(tokenizer, [Conversation((exchange,), "query")]).ids(query)]
    if len(ids) > max_length // 2:
        logger.warning("a query of %d tokens is cut to %d, half of the interaction limit", len(ids), max_length // 2)
    return ids[: max_length // 2]
