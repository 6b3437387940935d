"""Held-out dialogues answered greedily, and the transcript that people look at."""

import pytest

from mrl.rl.rewards import RewardConfig
from mrl.rl.validation import transcript, validate
from tests.mrl.rl.toy import OPTIONS


def figures(model, dataset, vocabulary, **share):
    return validate(
        model.eval(), dataset, 3, dialogues=6, rollout=OPTIONS, rewards=RewardConfig(), vocabulary=vocabulary, seed=1,
        **share,
    )  # fmt: skip


def test_two_processes_measure_what_one_does(model, dataset, vocabulary):
    alone, _ = figures(model, dataset, vocabulary)
    assert {"reward", "recall", "recall_1", "finished"} <= alone.keys()
    parts = []
    for rank in (0, 1):
        figures(model, dataset, vocabulary, rank=rank, world=2, total=lambda sums: parts.append(sums) or sums)
    both = {name: sum(part.get(name, 0.0) for part in parts) for name in parts[0] | parts[1]}
    assert both["recall sum"] / both["recall n"] == pytest.approx(alone["recall"])
    assert both["reward sum"] / both["reward n"] == pytest.approx(alone["reward"])


def test_a_transcript_has_the_first_interaction_as_query_and_answer(model, dataset, vocabulary, tokenizer):
    _, sample = figures(model, dataset, vocabulary)
    rows = transcript(tokenizer, sample, vocabulary.frame, dialogues=2)
    first = rows[0]
    assert first["turn"] == 0
    assert first["query"]
    assert first["answer"]
    assert first["answer"] not in first["query"]
    assert [row["turn"] for row in rows] == [0, 1, 2, 3] * 2
    assert all(row["reference"] for row in rows if row["turn"])
