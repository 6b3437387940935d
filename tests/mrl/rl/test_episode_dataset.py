"""Encoded dialogues as batches of queries, references and needed facts."""

import pytest

from mrl.rl.trajectory import NO_TOKEN
from pipeline.errors import InputError
from tests.mrl.rl.toy import batch_of


def test_a_batch_is_the_dialogue_cut_into_what_is_written_asked_and_wanted(dataset, tokenizer):
    batch = batch_of(dataset)
    row = next(i for i in range(batch.size) if batch.distance[i].any())
    turn = int(batch.distance[row].nonzero()[0])
    query = tokenizer.decode(batch.query_ids[row, turn][batch.query_mask[row, turn]])
    reference = batch.reference_ids[row, turn][batch.reference_mask[row, turn]].tolist()
    assert query.startswith("[BOS] [Q] what has")
    assert (reference[0], reference[-1]) == (tokenizer.convert_tokens_to_ids("[A]"), tokenizer.eos_token_id)
    assert batch.fact_ids[row, turn, 0, 0].tolist()[0] == reference[1]
    assert (batch.fact_ids[row, 0] == NO_TOKEN).all(), "a statement needs no fact"
    assert batch.asks[row, turn]
    assert not batch.asks[row, 0]
    assert batch.first_mask.sum(1).min() > 4


def test_stages_without_dialogues_are_refused(dataset):
    assert len(dataset.members(2)) > 0
    with pytest.raises(InputError, match="no dialogue has 9 turns"):
        dataset.members(9)
