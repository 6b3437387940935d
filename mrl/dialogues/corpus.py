"""The section `data` of the supervised stages: rows read, encoded, counted; what is trained on and what is held out."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrl.dialogues.check import check_dialogues, lines_of, spoken
from mrl.dialogues.dataset import Conversation, fingerprint, read_conversations
from mrl.dialogues.tokenization import SCORED, EncodedDialogues, encode_dialogues
from mrl.recipes.data import CorpusConfig
from pipeline.errors import InputError
from pipeline.garbage import collector_paused
from pipeline.run import Run

logger = logging.getLogger(__name__)


@dataclass
class Corpus:
    """Encoded dialogues and the fingerprint of the words behind them."""

    train: EncodedDialogues
    held_out: EncodedDialogues
    fingerprint: str
    words: dict[str, list[Conversation]]
    """What was encoded, by split."""


@collector_paused()
def load_corpus(config: CorpusConfig, tokenizer: Any, max_length: int, run: Run) -> Corpus:
    """Read and encode all sources. Raises InputError for rows that can't be used."""
    words, encoded, counts = {}, {}, {}
    for name in ("train", "held_out"):
        counts[name] = Counter[str]()
        words[name] = [c for source in config.sources(name) for c in read_conversations(source, counts[name])]
        encoded[name] = encode_dialogues(
            words[name], tokenizer, max_length=max_length, too_long=config.too_long, where=f"data.{name}"
        )
        counts[name].update({**encoded[name].counts, **check_dialogues(words[name])})
        logger.info("data.%s: %s", name, ", ".join(lines_of(counts[name])))
    shared = _shared(words["train"], words["held_out"])
    train, held_out = encoded["train"], encoded["held_out"]
    run.report(
        rows=len(train), turns=int(train.turns.sum()), corpus_tokens=len(train.tokens), held_out_rows=len(held_out),
        held_out_rows_in_train=shared, data={name: dict(counted) for name, counted in counts.items()},
    )  # fmt: skip
    return Corpus(train, held_out, fingerprint(words["train"]), words)


def _shared(train: Sequence[Conversation], held_out: Sequence[Conversation]) -> int:
    """How many held-out dialogues are trained on, word for word; a warning says so."""

    known = {spoken(conversation) for conversation in train}
    shared = sum(spoken(conversation) in known for conversation in held_out)
    if shared:
        logger.warning(
            "%s of %d held-out dialogues stand in data.train word for word: their figures tell what was memorised",
            "all" if shared == len(held_out) else shared, len(held_out),
        )  # fmt: skip
    return shared


def answer_lengths(data: EncodedDialogues) -> np.ndarray:
    """Tokens of each answer as it is generated: marker, thought, words and end token."""
    return np.add.reduceat((data.flags & SCORED).astype(np.int64), data.start[:-1]) + 1


def warn_of_long_answers(data: EncodedDialogues, limit: int) -> int:
    """How many answers can't be said within `limit` generated tokens: a warning says so, as no reward pays for them."""
    lengths = answer_lengths(data)
    over = int((lengths > limit).sum())
    if over:
        logger.warning(
            "%d of %d reference answers need more than rollout.max_new_tokens %d (the longest %d): they can't be said "
            "whole, and facts at their end earn nothing",
            over, len(lengths), limit, int(lengths.max()),
        )  # fmt: skip
    return over


def turn_numbers(data: EncodedDialogues, most: int | None = None) -> np.ndarray:
    """Numbers of the turns as they stand; of equal ones (the same tokens) the first, at most `most`."""
    seen: dict[bytes, int] = {}
    for turn in range(len(data.start) - 1):
        seen.setdefault(data.tokens[data.start[turn] : data.start[turn + 1]].tobytes(), turn)
        if most is not None and len(seen) >= most:
            break
    return np.fromiter(seen.values(), dtype=np.int64)


def preview(tokenizer: Any, data: EncodedDialogues, dialogue: int = 0) -> str:
    """One dialogue as the model sees it, tokens that are scored between ⟨ ⟩."""
    lines = []
    for turn in range(data.first[dialogue], data.first[dialogue + 1]):
        span = slice(data.start[turn], data.start[turn + 1])
        pieces = tokenizer.convert_ids_to_tokens(data.tokens[span].tolist())
        shown = [f"⟨{p}⟩" if flag & 1 else p for p, flag in zip(pieces, data.flags[span].tolist(), strict=True)]
        lines.append(" ".join(shown))
    return "\n".join(lines)


def require_questions(data: EncodedDialogues, where: str) -> None:
    """Refuse dialogues of single turns: nothing could be remembered. Raises InputError."""
    if int(data.turns.max()) < 2:
        raise InputError(f"{where}: every dialogue has a single interaction; memory needs rows with `interactions`")
