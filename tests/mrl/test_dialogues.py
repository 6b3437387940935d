"""From rows to token ids: what is scored, what is cut, what is refused."""

import copy
import json
import logging

import numpy as np
import pytest

from mrl.dialogues.collation import collate_episodes, collate_interactions, share
from mrl.dialogues.dataset import Conversation, Exchange, RowSource, parse_row, read_conversations
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.dialogues.tokenization import TurnTokens, encode_dialogues
from pipeline.errors import InputError


def told(*exchanges: Exchange) -> Conversation:
    return Conversation(exchanges, "row 1")


def test_an_interaction_is_framed_and_only_the_answer_is_scored(tokenizer):
    data = encode_dialogues(
        [told(Exchange("what has Ann", "cat", facts=("cat",), distance=1))], tokenizer, max_length=20
    )
    assert tokenizer.convert_ids_to_tokens(data.tokens.tolist()) == "[BOS] [Q] what has Ann [A] cat [EOS]".split()
    batch = collate_episodes(data, np.arange(1), None, 0)
    assert batch.labels[0, 0].tolist()[:6] == [-100] * 6, "neither frame nor query, nor the forced [A], is scored"
    assert tokenizer.convert_ids_to_tokens(batch.labels[0, 0, 6:].tolist()) == ["cat", "[EOS]"]
    assert batch.facts[0, 0].nonzero().flatten().tolist() == [6]


def test_padding_is_never_scored_and_everything_else_is_in_pretraining(tokenizer):
    rows = [told(Exchange("who is Ann", "cat")), told(Exchange("who", "dog"))]
    data = encode_dialogues(rows, tokenizer, max_length=20)
    batch = collate_interactions(data, np.arange(2), "all", seed=0)
    assert ((batch.labels != -100) == (batch.mask.bool() & (batch.ids != 2))).all()


def test_thoughts_stand_before_the_answer_and_choosing_to_think_is_learnt(tokenizer):
    data = encode_dialogues([told(Exchange("why", "sun", think="because red"))], tokenizer, max_length=20)
    batch = collate_episodes(data, np.arange(1), None, 0)
    scored = batch.labels[0, 0][batch.labels[0, 0] != -100].tolist()
    assert tokenizer.convert_ids_to_tokens(scored) == "[T] because red [A] sun [EOS]".split()


def test_a_word_that_looks_like_a_frame_token_stays_text(tokenizer):
    data = encode_dialogues([told(Exchange("who [A] Ann", "cat"))], tokenizer, max_length=20)
    assert (data.tokens == tokenizer.convert_tokens_to_ids("[A]")).sum() == 1


def test_padding_and_truncation_of_a_tokenizer_file_are_left_out(tokenizer):
    """A tokenizer.json may ask for both, and a call with padding leaves it behind."""
    rows = [Conversation((Exchange("what has Ann", "cat"), Exchange("why", "because Ann has the cat")), "here")]
    plain = encode_dialogues(rows, tokenizer, max_length=24)
    asked = copy.deepcopy(tokenizer)
    asked.backend_tokenizer.enable_padding(direction="left", length=16)
    asked.backend_tokenizer.enable_truncation(2)
    assert encode_dialogues(rows, asked, max_length=24).tokens.tolist() == plain.tokens.tolist()
    assert asked.backend_tokenizer.padding["length"] == 16, "the tokenizer itself is as it was"


def test_too_long_an_interaction_is_cut_with_a_warning_or_refused(tokenizer, caplog):
    row = told(Exchange("who is " * 10, "cat dog " * 10))
    with caplog.at_level(logging.WARNING):
        data = encode_dialogues([row], tokenizer, max_length=12)
    assert len(data.tokens) == 12
    assert data.tokens[-1] == 3, "the end token survives"
    assert "1 of 1 turns have more than 12 tokens (the longest 44)" in caplog.text
    with pytest.raises(InputError, match=r"row 1: a turn of 44 tokens is longer than 12"):
        encode_dialogues([row], tokenizer, max_length=12, too_long="refuse")


def test_a_tokenizer_without_turn_tokens_is_refused_by_name():
    class Plain:
        def get_vocab(self):
            return {"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, "[MASK]": 3, "[Q]": 4}

    with pytest.raises(InputError, match=r"tok: the tokenizer has no \[A\], \[T\]"):
        TurnTokens.of(Plain(), "tok")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": " ", "answer": "x"}, "query is empty"),
        ({"query": "x", "answer": "y", "interactions": [{"query": "z"}]}, r"interactions\[0\]\.answer is missing"),
        ({"query": "x", "answer": 3}, "answer is a int"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "no question of the conversation is answered"),
        ({"title": "x"}, "has title; expected query"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(row, message):
    with pytest.raises(InputError, match=r"f\.jsonl: row 3: .*" + message):
        parse_row(row, "f.jsonl: row 3")


def test_messages_and_episodes_give_the_same_conversation():
    messages = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    from_chat = parse_row({"messages": [{"role": r, "content": c} for r, c in messages]}, "")
    from_episode = parse_row({"query": "a", "answer": "b", "interactions": [{"query": "c", "answer": "d"}]}, "")
    assert from_chat == from_episode


def test_splits_and_subsets_are_found_by_their_names(episodes):
    assert len(read_conversations(RowSource(path=str(episodes), subset="*", split="train"))) == 80
    assert len(read_conversations(RowSource(path=str(episodes), subset="steps-3", split="test"))) == 12
    with pytest.raises(InputError, match="no subset 'steps-9'; did you mean steps-"):
        read_conversations(RowSource(path=str(episodes), subset="steps-9"))


def test_a_file_that_is_not_json_is_refused_by_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"query": "a", "answer": "b"}) + "\n{broken\n")
    with pytest.raises(InputError, match=r"rows.jsonl:2: isn't JSON"):
        read_conversations(RowSource(path=str(file)))


def test_the_order_of_batches_is_kept_over_a_resume_and_loses_no_row():
    lengths = np.arange(50) % 7
    whole = BucketBatchSampler(lengths, 8, seed=3)
    first = [whole.next() for _ in range(7)]
    assert sorted(np.concatenate(first)) == list(range(50)), "an epoch has every row once"
    again = BucketBatchSampler(lengths, 8, seed=3)
    again.load_state_dict(whole.state_dict())
    assert all((whole.next() == again.next()).all() for _ in range(20))
    with pytest.raises(ValueError, match="had 50 rows, now there are 49"):
        BucketBatchSampler(lengths[1:], 8, seed=3).load_state_dict(whole.state_dict())


def test_processes_and_slices_split_a_batch_without_loss(tokenizer):
    rows = [told(Exchange("who", name)) for name in ("Ann", "Bob", "Cid", "Dan", "cat")]
    batch = collate_interactions(encode_dialogues(rows, tokenizer, max_length=20), np.arange(5), "all", seed=0)
    parts = [piece for rank in range(2) for piece in share(batch, rank, 2, parts=2)]
    assert sorted(i for piece in parts for i in piece.ids[:, 4].tolist()) == sorted(batch.ids[:, 4].tolist())
