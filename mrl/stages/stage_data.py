"""The dialogues of each stage of a curriculum: those of the recipe's `data`, or of the stage's own."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mrl.dialogues.corpus import Corpus, load_corpus
from mrl.recipes.data import CorpusConfig
from mrl.rl.episode_dataset import EpisodeDataset
from pipeline.config import config_hash
from pipeline.run import Run


@dataclass(frozen=True)
class Dialogues:
    """Training and held-out dialogues of each stage, by its turns; fingerprint: of all the training dialogues."""

    train: Mapping[int, EpisodeDataset]
    held_out: Mapping[int, EpisodeDataset]
    fingerprint: str


def read_dialogues(
    usual: CorpusConfig, by_turns: Mapping[int, CorpusConfig], tokenizer: Any, max_length: int, run: Run
) -> Dialogues:
    """Read and encode what the stages need, equal sources once. Raises InputError where one can't be used."""
    corpora: dict[str, Corpus] = {}
    datasets: dict[str, dict[str, EpisodeDataset]] = {}
    different = {config_hash(config): config for config in (usual, *by_turns.values())}
    for name, config in reversed(different.items()):  # the usual ones last: what is reported of the data is theirs
        corpora[name] = corpus = load_corpus(config, tokenizer, max_length, run)
        datasets[name] = {split: _dataset(corpus, split, tokenizer) for split in ("train", "held_out")}
    prints = sorted({corpus.fingerprint for corpus in corpora.values()})
    whole = prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()[:12]
    of_stage = {turns: datasets[config_hash(config)] for turns, config in by_turns.items()}
    train, held_out = ({turns: both[split] for turns, both in of_stage.items()} for split in ("train", "held_out"))
    return Dialogues(train, held_out, whole)


def _dataset(corpus: Corpus, split: str, tokenizer: Any) -> EpisodeDataset:
    sources = [conversation.source for conversation in corpus.words[split]]
    return EpisodeDataset(getattr(corpus, split), tokenizer, f"data.{split}", sources)
