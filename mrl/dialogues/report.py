"""A report on files of dialogues: what is read, what is wrong, what is long, what two files share.

Lengths are counted in tokens where a tokenizer is given, else in words and signs. Limits that aren't given are those
that no turn is over: the report then says what they would have to be.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from mrl.dialogues.check import Finding, check_dialogues, spoken
from mrl.dialogues.corpus import answer_lengths
from mrl.dialogues.dataset import Conversation, read_conversations
from mrl.dialogues.tokenization import encode_dialogues, load_tokenizer
from mrl.recipes.data import RowSource

SHOWN = 20
"""Places of faults that a report names."""
UNLIMITED = 1 << 20
FRAME = {"pad": "[PAD]", "bos": "[BOS]", "eos": "[EOS]", "mask": "[MASK]"}


@dataclass(frozen=True)
class Limits:
    """What training would cut at: tokens of an interaction, tokens of a generated answer with its frame."""

    interaction: int | None = None
    answer: int | None = None


class _Words:
    """Stands for a tokenizer where none is given: a word or a sign is a token."""

    def __init__(self) -> None:
        names = [*FRAME.values(), "[Q]", "[A]", "[T]", "[UNK]"]
        self.vocabulary = {name: number for number, name in enumerate(names)}
        self.backend_tokenizer = Tokenizer(models.WordLevel(self.vocabulary, unk_token="[UNK]"))
        self.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


def report_of(
    sources: Sequence[RowSource], held_out: Sequence[RowSource], tokenizer_path: str | None, limits: Limits
) -> dict[str, Any]:
    """Everything there is to say, a section a file and one for what the training and the held-out files share. Raises
    InputError where a file has no usable row."""
    unit = "tokens" if tokenizer_path else "words"
    tokenizer = load_tokenizer(_folder(tokenizer_path)) if tokenizer_path else _Words()
    read: dict[str, list[list[Conversation]]] = {"train": [], "held_out": []}
    files = []
    for part, listed in (("train", sources), ("held_out", held_out)):
        for source in listed:
            counts: Counter[str] = Counter()
            conversations = read_conversations(source, counts)
            read[part].append(conversations)
            section = _of_file(conversations, tokenizer, limits)
            rows = {what: count for what, count in counts.items() if count or what in ("read", "kept")}
            files.append({"file": source.path, "part": part, "rows": rows, "unit": unit, **section})
    return {"files": files, "shared": _shared(read["train"], read["held_out"])}


def _folder(path: str) -> Path:
    inner = Path(path) / "tokenizer"
    return inner if inner.is_dir() and not (Path(path) / "tokenizer.json").exists() else Path(path)


def _of_file(conversations: Sequence[Conversation], tokenizer: Any, limits: Limits) -> dict[str, Any]:
    findings: list[Finding] = []
    counts = check_dialogues(conversations, findings)
    whole = encode_dialogues(conversations, tokenizer, max_length=UNLIMITED)
    lengths, answers = whole.lengths, answer_lengths(whole)
    exchanges = [e for c in conversations for e in c.exchanges]
    distances = Counter(e.distance for e in exchanges if e.asks and e.facts)
    cut = {}
    if limits.interaction is not None:
        cut = encode_dialogues(conversations, tokenizer, max_length=limits.interaction).counts
    long_answers = 0 if limits.answer is None else int((answers > limits.answer).sum())
    return {
        "turns": len(lengths),
        "turns_that_ask": int(whole.asks.sum()),
        "facts": whole.counts["facts"],
        "marks": dict(counts),
        "by_distance": {str(d): n for d, n in sorted(distances.items())},
        "interaction_lengths": _quantiles(lengths),
        "answer_lengths": _quantiles(answers),
        "interaction_limit": limits.interaction,
        "answer_limit": limits.answer,
        "cut": {what: cut.get(what, 0) for what in ("turns cut", "queries cut", "answers cut", "facts lost by a cut")},
        "answers_over_the_limit": long_answers,
        "problems": len(findings),
        "places": [asdict(finding) for finding in findings[:SHOWN]],
    }


def _quantiles(lengths: np.ndarray) -> dict[str, int]:
    names = {"median": 0.5, "99 of 100": 0.99, "999 of 1,000": 0.999, "longest": 1.0}
    return {name: int(np.quantile(lengths, share, method="higher")) for name, share in names.items()}


def _shared(train: Sequence[list[Conversation]], held_out: Sequence[list[Conversation]]) -> dict[str, int]:
    """Dialogues said twice, and held-out ones that are trained on."""
    said = Counter(spoken(c) for part in train for c in part)
    apart = [spoken(c) for part in held_out for c in part]
    return {
        "training dialogues": said.total(),
        "said twice among them": said.total() - len(said),
        "held-out dialogues": len(apart),
        "held-out dialogues that are trained on": sum(words in said for words in apart),
    }


def as_text(report: dict[str, Any]) -> str:
    """The report for a terminal; what is 0 is left out where it would be a fault."""
    lines = []
    for file in report["files"]:
        lines.append(f"{file['file']} ({file['part'].replace('_', '-')})")
        lines.append("  rows: " + ", ".join(f"{n} {what}" for what, n in file["rows"].items()))
        lines.append(f"  {file['turns']} turns, {file['turns_that_ask']} ask for memory, {file['facts']} facts")
        lines += [f"  {n} {what}" for what, n in file["marks"].items() if n]
        lines.append(
            "  questions by distance: " + (", ".join(f"{d}: {n}" for d, n in file["by_distance"].items()) or "none")
        )
        for name in ("interaction", "answer"):
            sizes = ", ".join(f"{what} {n}" for what, n in file[f"{name}_lengths"].items())
            lines.append(f"  {file['unit']} of an {name}: {sizes}")
        if file["interaction_limit"] is not None:
            share = file["cut"]["turns cut"] / file["turns"]
            lost = ", ".join(f"{n} {what}" for what, n in file["cut"].items())
            lines.append(f"  over {file['interaction_limit']}: {share:.2%} of the turns ({lost})")
        if file["answer_limit"] is not None:
            lines.append(f"  {file['answers_over_the_limit']} answers need more than {file['answer_limit']}")
        lines += [f"  {place['where']}: {place['what']}" for place in file["places"]]
        if file["problems"] > len(file["places"]):
            lines.append(f"  … and {file['problems'] - len(file['places'])} more")
    lines.append("; ".join(f"{n} {what}" for what, n in report["shared"].items()))
    return "\n".join(lines)
