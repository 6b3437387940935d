"""Trains a byte-level BPE tokenizer on datasets and writes it in the form that AutoTokenizer reads.

    uv run data/tokenizer.py --config-path data/config/quickstart/tokenizer.yaml

Every digit is a token of its own, so that a number is read digit by digit wherever it stands, and no token spans a word
and its neighbour. Bytes are the alphabet: no text is unknown. The files stand in `output_dir`/tokenizer.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data.sources.arrow_types import TRACE
from data.sources.reading import FileQuery, find_files, read_rows
from pipeline.artifact import atomic_dir
from pipeline.errors import SettingError
from pipeline.ranges import NamedPath, PositiveInt, Text
from pipeline.run import Run, stage_main
from pipeline.stage_config import StageConfig

DEFAULT_CONFIG = Path(__file__).parent / "config" / "quickstart" / "tokenizer.yaml"
PIECES = r"[0-9]| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}0-9]|\s"
"""What merges may not cross: one digit; a word or one sign, with the space before it; one blank."""
BYTES = 256
TOKENIZER_FOLDER = "tokenizer"
"""Folder inside output_dir that AutoTokenizer reads (a run's own config.json beside it would mislead it)."""


@dataclass(kw_only=True, frozen=True)
class SpecialTokens:
    """Section `special_tokens`: tokens that stand for a role and are never split or merged."""

    pad_token: Text | None = None
    unk_token: Text | None = None
    bos_token: Text | None = None
    eos_token: Text | None = None
    mask_token: Text | None = None
    additional: list[Text] = field(default_factory=list)
    """Further ones, for example the marks of turns and thoughts."""

    def __post_init__(self) -> None:
        if twice := next((t for t in self.additional if self.additional.count(t) > 1), None):
            raise SettingError("additional", f"additional names {twice} twice; keep one")

    @property
    def named(self) -> dict[str, str]:
        """Role to token, without those that aren't given."""
        roles = ("pad_token", "unk_token", "bos_token", "eos_token", "mask_token")
        return {role: token for role in roles if (token := getattr(self, role)) is not None}

    @property
    def all(self) -> list[str]:
        """Every token once, in the order of its id."""
        return list(dict.fromkeys([*self.named.values(), *self.additional]))


@dataclass(kw_only=True, frozen=True)
class TokenizerConfig(StageConfig):
    """A tokenizer and what it learns from."""

    datasets: list[NamedPath]
    """Folders of data_collection.py, or files; every text in their rows is read."""
    vocab_size: PositiveInt
    """Upper limit: special tokens, 256 bytes, merges. Fewer when the data have no more pairs to merge."""
    special_tokens: SpecialTokens = field(default_factory=SpecialTokens)
    chat_template: Text | None = None
    """Jinja, kept with the tokenizer."""
    space_before_text: bool = False
    """Read every text as if a space stood before it, so that its first word is the same token as inside a text."""
    rows: PositiveInt | None = None
    """At most so many rows of each dataset."""
    model_max_length: PositiveInt = 1024

    def __post_init__(self) -> None:
        if not self.datasets:
            raise SettingError("datasets", "datasets is empty; name a folder of data_collection.py")
        if self.vocab_size < BYTES + len(self.special_tokens.all):
            raise SettingError(
                "vocab_size",
                f"vocab_size is {self.vocab_size}, but the bytes and special tokens alone are"
                f" {BYTES + len(self.special_tokens.all)}; raise it",
            )


def texts(value: Any) -> Iterator[str]:
    """Every string in a row, however deep, in order; roles of messages count (templates write them)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def rows_of(path: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    """Rows of a folder or file of data, columns that trace their source left out. Raises InputError."""
    selection = find_files(FileQuery(path=str(path), where="datasets", key=""))
    for _, row in itertools.islice(read_rows(selection), limit):
        yield {name: value for name, value in row.items() if name not in TRACE}


def train_bpe(
    corpus: Iterator[str], vocab_size: int, special_tokens: list[str], space_before_text: bool = False
) -> Tokenizer:
    """Learn the merges. Equal texts in equal order give an equal tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if space_before_text:
        tokenizer.normalizer = normalizers.Prepend(" ")
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def main(config: TokenizerConfig, run: Run) -> None:
    """Read, learn, write, count."""
    with run.loading():
        from transformers import PreTrainedTokenizerFast

    def corpus() -> Iterator[str]:
        for folder in config.datasets:
            for row in run.progress(rows_of(folder, config.rows), desc=folder.name, unit="row"):
                yield from texts(row)

    learned = train_bpe(corpus(), config.vocab_size, config.special_tokens.all, config.space_before_text)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned,
        additional_special_tokens=config.special_tokens.additional,
        model_max_length=config.model_max_length,
        clean_up_tokenization_spaces=False,
        **config.special_tokens.named,
    )
    if config.chat_template is not None:
        tokenizer.chat_template = config.chat_template
    manifest = {"kind": "tokenizer", "vocab_size": len(tokenizer), "seed": config.seed}
    with atomic_dir(run.dir / TOKENIZER_FOLDER, manifest) as folder:
        tokenizer.save_pretrained(folder)
    sample = max(texts(next(rows_of(config.datasets[0], 1))), key=len)
    ids = tokenizer.encode(sample)
    run.report(vocab_size=len(tokenizer), characters_per_token=round(len(sample) / max(1, len(ids)), 3))
    run.preview("|".join(tokenizer.convert_ids_to_tokens(ids)))


if __name__ == "__main__":
    stage_main(TokenizerConfig, main, default_config=DEFAULT_CONFIG, description=__doc__)
