"""Conversations as token ids: `[BOS][Q]query` + (`[T]think`)? + `[A]answer[EOS]` per turn, held in flat arrays.

What is scored in supervised training are the answer's tokens and the end token, of a thought too and then also the
`[A]` that closes it. The first forced marker isn't scored, unless some turn of the data thinks: then the model has to
choose between `[T]` and `[A]` by itself.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tokenizers import Tokenizer

from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.facts import Fact, find_fact, ways_of
from mrl.dialogues.turn_frame import frame_of
from pipeline.errors import InputError
from pipeline.hub import first_line, is_hub_name, keep_hub_offline_if_unreachable, retrying

if TYPE_CHECKING:  # the package of the model takes seconds to import
    from mrl.model import TurnFrame

logger = logging.getLogger(__name__)
SCORED, MARKER, FACT, THOUGHT, HEADER = 1, 2, 4, 8, 16
"""Bits of `EncodedDialogues.flags`: part of what the model has to say, a forced marker, part of a needed fact, part of
a thought (its [T] and the [A] that closes it too), what every answer begins with, thought about or not."""


def load_tokenizer(path: Path | str) -> Any:
    """A tokenizer from a folder, or from a name on the Hub. Raises InputError where there is none."""
    if not is_hub_name(str(path)) and not (Path(path) / "tokenizer.json").exists():
        missing = f"{path}: no tokenizer.json there" if Path(path).is_dir() else f"there is no folder {path}"
        raise InputError(f"{missing}; train a tokenizer with data/tokenizer.py, or name what a stage has left")
    from transformers import AutoTokenizer  # takes seconds, which a wrong path shouldn't

    keep_hub_offline_if_unreachable(str(path))
    try:
        # Of a model's own code nothing is asked or run: a tokenizer of this repository has none.
        load = partial(AutoTokenizer.from_pretrained, str(path), trust_remote_code=False)
        return retrying(load, what=f"loading the tokenizer of {path}")
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise InputError(f"{path}: its tokenizer can't be loaded: {first_line(error)}") from None


@dataclass
class EncodedDialogues:
    """Dialogues in flat arrays. Turn t holds tokens[start[t]:start[t+1]]; dialogue d the turns first[d]:first[d+1].

    `distance` and `asks` are per turn: how far back its facts lie, and whether answering it takes memory. `facts` are
    what each turn's answer has to say, written as the answer writes them where it does. `counts`:
    turns, facts, and what was cut, in words for people.
    """

    tokens: np.ndarray
    flags: np.ndarray
    start: np.ndarray
    first: np.ndarray
    distance: np.ndarray
    asks: np.ndarray
    groups: list[str]
    frame: "TurnFrame"
    thinks: bool
    facts: list[tuple[Fact, ...]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

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
    frame = frame_of(tokenizer, where)
    pieces = _Pieces(tokenizer, conversations)
    thinks = any(e.think for c in conversations for e in c.exchanges)
    turns: list[_Turn] = []
    exchanges: list[Exchange] = []
    first = [0]
    for conversation in conversations:
        for exchange in conversation.exchanges:
            made = _encode(exchange, pieces, frame, max_length)
            if (longest := max(turn.longer for turn in made)) and too_long == "refuse":
                raise InputError(
                    f"{conversation.where}: a turn of {longest} tokens is longer than {max_length} "
                    f"(max_interaction_length): shorten it, raise the limit, or set too_long: truncate"
                )
            turns += made
            exchanges += [exchange] * len(made)
        first.append(len(turns))
    counts = _counts(turns, exchanges)
    _warn(where, counts, max_length, max(turn.longer for turn in turns))
    return EncodedDialogues(
        np.fromiter(chain.from_iterable(turn.ids for turn in turns), np.int64),
        np.fromiter(chain.from_iterable(turn.flags for turn in turns), np.uint8),
        np.cumsum([0, *(len(turn.ids) for turn in turns)]),
        np.array(first),
        np.array([exchange.distance for exchange in exchanges]),
        np.array([exchange.asks for exchange in exchanges]),
        [c.group for c in conversations],
        frame,
        thinks,
        [_as_written(exchange) for exchange in exchanges],
        counts,
    )


def _as_written(exchange: Exchange) -> tuple[Fact, ...]:
    return tuple(_written(exchange.answer, fact) for fact in exchange.facts)


def _written(answer: str, fact: Fact) -> Fact:
    """A fact with the spelling of an answer that says it in front; one spelling stays a text."""
    at = find_fact(answer, fact)
    if at is None:
        return fact
    said = answer[slice(*at)]
    return said if isinstance(fact, str) else tuple(dict.fromkeys([said, *ways_of(fact)]))


def _counts(turns: Sequence["_Turn"], exchanges: Sequence[Exchange]) -> Counter[str]:
    absent = sum(find_fact(e.answer, fact) is None for e in exchanges for fact in e.facts)
    return Counter(
        {
            "turns": len(turns),
            "turns that ask": sum(e.asks for e in exchanges),
            "facts": sum(len(e.facts) for e in exchanges),
            "facts that their answer doesn't say": absent,
            "turns cut": sum(turn.longer > 0 for turn in turns),
            "queries cut": sum(turn.query_cut for turn in turns),
            "answers cut": sum(turn.answer_cut for turn in turns),
            "facts lost by a cut": sum(turn.lost for turn in turns),
        }
    )


def _warn(where: str, counts: Counter[str], limit: int, longest: int) -> None:
    if counts["turns cut"]:
        logger.warning(
            "%s: %d of %d turns have more than %d tokens (the longest %d) and were cut at the end; %d lost the end of "
            "the query, where the question often stands, %d a part of the answer, and with it %d facts that can't be "
            "said any more: raise max_interaction_length in model.new, or set too_long: refuse",
            where, counts["turns cut"], counts["turns"], limit, longest, counts["queries cut"],
            counts["answers cut"], counts["facts lost by a cut"],
        )  # fmt: skip
    if counts["facts that their answer doesn't say"]:
        logger.warning(
            "%s: %d of %d facts don't stand in the answer that should contain them: the answer as it is would count as "
            "wrong",
            where, counts["facts that their answer doesn't say"], counts["facts"],
        )  # fmt: skip


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

    def fact_marks(self, text: str, facts: Sequence[Fact]) -> list[int]:
        """FACT for each token of `text` that overlaps one of the facts' places in it."""
        offsets = self.encodings[text].offsets
        marks = [0] * len(offsets)
        for fact in facts:
            for index in self.fact_tokens(text, fact):
                marks[index] = FACT
        return marks

    def fact_tokens(self, text: str, fact: Fact) -> list[int]:
        """Places of the tokens of `text` that overlap the fact."""
        if (found := find_fact(text, fact)) is None:
            return []
        offsets = enumerate(self.encodings[text].offsets)
        return [i for i, (begin, end) in offsets if begin < found[1] and end > found[0] and text[begin:end].strip()]


@dataclass(frozen=True)
class _Turn:
    """One encoded turn. longer: its length if that was more than the limit, else 0; lost: facts that were cut off."""

    ids: list[int]
    flags: list[int]
    longer: int = 0
    query_cut: bool = False
    answer_cut: bool = False
    lost: int = 0


def _encode(exchange: Exchange, pieces: _Pieces, frame: "TurnFrame", limit: int) -> list[_Turn]:
    """The turns that one exchange makes."""
    if exchange.query is not None:
        return [_encode_turn(exchange, pieces, frame, limit)]
    ids, lead, end = pieces.ids(exchange.answer), frame.lead, frame.end
    room = limit - len(lead) - len(end)
    parts = [ids[at : at + room] for at in range(0, len(ids), room)]
    return [_Turn([*lead, *part, *end], [*[0] * len(lead), *[SCORED] * (len(part) + len(end))]) for part in parts]


def query_room(limit: int, answer: int) -> int:
    """Most tokens of [BOS], [Q] and query beside an answer of so many tokens, its markers and end token included: what
    the answer leaves, and at least half."""
    return limit - min(answer, limit // 2)


def _encode_turn(exchange: Exchange, pieces: _Pieces, frame: "TurnFrame", limit: int) -> _Turn:
    answer = pieces.ids(exchange.answer)
    said = [SCORED | mark for mark in pieces.fact_marks(exchange.answer, exchange.facts)]
    head = [*frame.opening, *pieces.ids(exchange.query)]
    head_flags = [0] * len(head)
    if exchange.think:
        think = pieces.ids(exchange.think)
        answer = [*frame.think, *think, *frame.think_end, *answer]
        scored = [SCORED | THOUGHT] * (len(think) + len(frame.think_end))
        said = [*_marker_flags(frame.think, frame, THOUGHT), *scored, *said]
    else:
        answer, said = [*frame.answer, *answer], [*_marker_flags(frame.answer, frame), *said]
    total = len(head) + len(answer) + len(frame.end)
    if total <= limit:
        return _Turn([*head, *answer, *frame.end], [*head_flags, *said, *[SCORED] * len(frame.end)])
    kept = query_room(limit, len(answer) + len(frame.end))
    query_cut = len(head) > kept
    head, head_flags = head[:kept], head_flags[:kept]
    room = limit - len(head) - len(frame.end)
    left = len(pieces.ids(exchange.answer)) - max(0, len(answer) - room)
    places = [pieces.fact_tokens(exchange.answer, fact) for fact in exchange.facts]
    lost = sum(bool(tokens) and tokens[-1] >= left for tokens in places)
    ids = [*head, *answer[:room], *frame.end]
    flags = [*head_flags, *said[:room], *[SCORED] * len(frame.end)]
    return _Turn(ids, flags, total, query_cut, len(answer) > room, lost)


def _marker_flags(marker: Sequence[int], frame: "TurnFrame", more: int = 0) -> list[int]:
    """Flags of the marker that begins an answer: what every answer begins with decides nothing."""
    return [HEADER] * frame.common + [MARKER | more] * (len(marker) - frame.common)


def build_prompts(
    tokenizer: Any, frame: "TurnFrame", queries: Sequence[str], max_length: int, answers: Sequence[str] | None = None
) -> list[list[int]]:
    """Ids of `[BOS][Q]query` of each query, for answering. A query that is too long is cut at its end, as in training:
    to what its answer (of `answers`, where they are known) leaves; else a quarter of the limit is left to the answer.
    One warning says how many were cut. Raises InputError for an empty query."""
    if not all(query.strip() for query in queries):
        raise InputError("the query is empty; ask something")
    answers = answers if answers is not None else [""] * len(queries)
    exchanges = tuple(Exchange(query, answer) for query, answer in zip(queries, answers, strict=True))
    pieces = _Pieces(tokenizer, [Conversation(exchanges, "query")])
    prompts = []
    for query, answer in zip(queries, answers, strict=True):
        markers = len(frame.answer) + len(frame.end)
        room = query_room(max_length, len(pieces.ids(answer)) + markers if answer else max_length // 4)
        prompts.append(([*frame.opening, *pieces.ids(query)], room))
    longer = [len(ids) for ids, room in prompts if len(ids) > room]
    if longer:
        logger.warning(
            "%d of %d queries are too long for max_interaction_length %d (the longest has %d tokens) and were cut at "
            "their end, where the question often stands",
            len(longer), len(queries), max_length, max(longer),
        )  # fmt: skip
    return [ids[:room] for ids, room in prompts]
