"""A speaker with random weights: what it says means nothing, and is the same each time."""

import pytest
import torch

from mrl.talk.session import Session
from mrl.talk.speaker import Speaker


@pytest.fixture
def speaker(model, tokenizer) -> Speaker:
    # Random weights hardly move a memory nor listen to it: larger ones do.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "cross_attention" in name or "memory_attention" in name:
                weight.mul_(3)
    return Speaker(model, tokenizer, max_new_tokens=5)


@pytest.fixture
def session(speaker) -> Session:
    return Session(speaker)
