"""Padded batches: what is scored, and how they are shared out."""

import numpy as np

from mrl.dialogues.collation import collate_interactions, share
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import encode_dialogues


def told(*exchanges: Exchange) -> Conversation:
    return Conversation(exchanges, "row 1")


def test_padding_is_never_scored_and_everything_else_is_in_pretraining(tokenizer):
    rows = [told(Exchange("who is Ann", "cat")), told(Exchange("who", "dog"))]
    data = encode_dialogues(rows, tokenizer, max_length=20)
    batch = collate_interactions(data, np.arange(2), "all", seed=0)
    assert ((batch.labels != -100) == (batch.mask.bool() & (batch.ids != 2))).all()


def test_processes_and_slices_split_a_batch_without_loss(tokenizer):
    rows = [told(Exchange("who", name)) for name in ("Ann", "Bob", "Cid", "Dan", "cat")]
    batch = collate_interactions(encode_dialogues(rows, tokenizer, max_length=20), np.arange(5), "all", seed=0)
    parts = [piece for rank in range(2) for piece in share(batch, rank, 2, parts=2)]
    assert sorted(i for piece in parts for i in piece.ids[:, 4].tolist()) == sorted(batch.ids[:, 4].tolist())
