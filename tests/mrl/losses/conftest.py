"""Dialogues for the tests of losses."""

import random

import pytest

from mrl.dialogues.dataset import Conversation, parse_row
from mrl.dialogues.tokenization import encode_dialogues
from tests.mrl.conftest import episode


@pytest.fixture
def data(tokenizer):
    rng = random.Random(0)
    rows = [Conversation(parse_row(episode(rng, 1 + i % 4), ""), "") for i in range(6)]
    return encode_dialogues(rows, tokenizer, max_length=24)
