"""Dialogues, rewards and a tiny model for the tests of reinforcement learning."""

import pytest

from mrl.dialogues.dataset import RowSource, read_conversations
from mrl.dialogues.tokenization import encode_dialogues
from mrl.rl.episode_dataset import EpisodeDataset, vocabulary_of


@pytest.fixture
def dataset(episodes, tokenizer) -> EpisodeDataset:
    rows = read_conversations(RowSource(path=str(episodes), subset="*", split="train"))
    return EpisodeDataset(encode_dialogues(rows, tokenizer, max_length=24), tokenizer, "rows")


@pytest.fixture
def vocabulary(tokenizer, model):
    return vocabulary_of(tokenizer, model.get_input_embeddings().weight, model.config.frame)
