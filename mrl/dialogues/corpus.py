"""The section `data` of the supervised stages: rows read, encoded, counted; what is trained on and what is held out."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mrl.dialogues.dataset import RowSource, fingerprint, read_conversations
from mrl.dialogues.tokenization import EncodedDialogues, encode_dialogues
from pipeline.errors import InputError
from pipeline.ranges import Text
from pipeline.run import Run

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, frozen=True)
class CorpusConfig:
    """What is trained on, what is measured on."""

    train: list[RowSource]
    held_out: list[RowSource]
    folder: Text | None = None
    """Folder in which the sources' paths lie."""
    too_long: Literal["truncate", "refuse"] = "truncate"
    """Interactions of more than the model's max_interaction_length tokens: cut with a warning, or refused."""

    def __post_init__(self) -> None:
        """Both lists are needed: a memory that isn't measured isn't one."""
        if not self.train or not self.held_out:
            raise ValueError("train and held_out each need at least one source")

    def sources(self, split: Literal["train", "held_out"]) -> list[RowSource]:
        """The sources with the folder before their paths."""
        given = getattr(self, split)
        return given if self.folder is None else [replace(s, path=str(Path(self.folder) / s.path)) for s in given]


@dataclass
class Corpus:
    """Encoded dialogues and the fingerprint of the words behind them."""

    train: EncodedDialogues
    held_out: EncodedDialogues
    fingerprint: str


def load_corpus(config: CorpusConfig, tokenizer: Any, max_length: int, run: Run) -> Corpus:
    """Read and encode all sources. Raises InputError for rows that can't be used."""
    words, encoded = {}, {}
    for name in ("train", "held_out"):
        sources = config.sources(name)
        words[name] = [conversation for source in sources for conversation in read_conversations(source)]
        encoded[name] = encode_dialogues(
            words[name], tokenizer, max_length=max_length, too_long=config.too_long, where=f"data.{name}"
        )
    train, held_out = encoded["train"], encoded["held_out"]
    logger.info(
        "%d dialogues to train on (%d turns, %d tokens), %d held out",
        len(train), int(train.turns.sum()), len(train.tokens), len(held_out),
    )  # fmt: skip
    run.report(
        rows=len(train), turns=int(train.turns.sum()), corpus_tokens=len(train.tokens), held_out_rows=len(held_out)
    )
    return Corpus(train, held_out, fingerprint(words["train"]))


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
