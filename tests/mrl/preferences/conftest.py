"""Pairs in dialogues written by hand, and their encoding."""

import pytest

from mrl.dialogues.dataset import Conversation, parse_row
from mrl.dialogues.tokenization import encode_dialogues
from mrl.preferences.pairs import PairData, encode_pairs


def turn(query: str, answer: str, rejected: str | None = None) -> dict:
    return {"query": query, "answer": answer, "rejected": rejected}


def dialogue(*turns: dict) -> dict:
    return {**turns[0], "interactions": list(turns[1:])}


ROWS = [
    dialogue(
        turn("Ann has the cat .", "noted"),
        turn("Bob has the dog .", "noted", "the dog"),
        turn("what has Ann", "cat", "dog dog dog"),
        turn("what has Bob", "dog", "cat"),
    ),
    dialogue(turn("Cid has the owl .", "noted"), turn("what has Cid", "owl", "red tea")),
    dialogue(turn("who is Dan", "what", "why because"), turn("Dan has the fox .", "noted", "fox")),
]


@pytest.fixture
def pairs(tokenizer):
    """Encodes rows of dialogues."""

    def made(rows: list[dict] = ROWS) -> PairData:
        words = [Conversation(parse_row(row, f"row {i}"), "row") for i, row in enumerate(rows)]
        encoded = encode_dialogues(words, tokenizer, max_length=24)
        return encode_pairs(encoded, words, tokenizer, 24, 5, "data.train")

    return made
