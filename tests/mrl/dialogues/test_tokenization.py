"""From words to token ids: what is scored, what is cut, and what is counted."""

import copy
import json
import logging

import numpy as np
import pytest

from mrl.dialogues.collation import collate_episodes
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import build_prompts, encode_dialogues, load_tokenizer, query_room
from mrl.dialogues.turn_frame import frame_of
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


def test_thoughts_stand_before_the_answer_and_choosing_to_think_is_learnt(tokenizer):
    data = encode_dialogues([told(Exchange("why", "sun", think="because red"))], tokenizer, max_length=20)
    batch = collate_episodes(data, np.arange(1), None, 0)
    scored = batch.labels[0, 0][batch.labels[0, 0] != -100].tolist()
    assert tokenizer.convert_ids_to_tokens(scored) == "[T] because red [A] sun [EOS]".split()
    thought = batch.ids[0, 0][batch.thoughts[0, 0]].tolist()
    assert tokenizer.convert_ids_to_tokens(thought) == "[T] because red [A]".split()


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
        frame_of(Plain(), "tok")


def test_what_a_cut_takes_is_counted(tokenizer, caplog):
    rows = [
        told(Exchange("who", "the cat is the owl", facts=("owl",), distance=0)),  # the answer's end goes
        told(Exchange("who is Ann . " * 3, "Cat", facts=("cat",))),  # the query's end goes, the fact stays
        told(Exchange("who", "dog", facts=("fox",))),  # never said
    ]
    with caplog.at_level(logging.WARNING):
        data = encode_dialogues(rows, tokenizer, max_length=8, where="data.train")
    assert dict(data.counts) == {
        "turns": 3,
        "turns that ask": 3,
        "facts": 3,
        "facts that their answer doesn't say": 1,
        "turns cut": 2,
        "queries cut": 1,
        "answers cut": 1,
        "facts lost by a cut": 1,
    }
    assert (
        "2 of 3 turns have more than 8 tokens (the longest 17) and were cut at the end; 1 lost the end of"
        in caplog.text
    )
    assert "data.train: 1 of 3 facts don't stand in the answer" in caplog.text
    assert data.facts == [("owl",), ("Cat",), ("fox",)], "as the answer writes them"


def test_dialogues_with_and_without_marks_stand_side_by_side(tokenizer):
    marked = told(Exchange("Ann has the cat", "noted", asks=False), Exchange("what", "cat", "", ("cat",), 1))
    data = encode_dialogues([marked, told(Exchange("who", "Ann"), Exchange("who", "Bob"))], tokenizer, max_length=20)
    assert data.asks.tolist() == [False, True, True, True]
    assert data.distance.tolist() == [0, 1, 0, 0]


def test_a_query_is_cut_in_evaluation_as_in_training(tokenizer, caplog):
    names = frame_of(tokenizer, "")
    query, answer = "who is Ann . " * 3, "the cat"  # 12 + 2 tokens before, 2 + 2 from [A] on
    for limit in (30, 18, 16, 14, 9):
        data = encode_dialogues([told(Exchange(query, answer))], tokenizer, max_length=limit)
        trained = data.tokens[: data.tokens.tolist().index(names.answer[0])].tolist()
        assert build_prompts(tokenizer, names, [query], limit, [answer]) == [trained]
    assert [query_room(16, room) for room in (2, 4, 8, 12)] == [14, 12, 8, 8]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        prompts = build_prompts(tokenizer, names, [query, "who", query], 16)
    assert [len(ids) for ids in prompts] == [12, 3, 12], "a quarter is left to an unknown answer"
    (warning,) = caplog.messages
    assert warning.startswith("2 of 3 queries are too long for max_interaction_length 16 (the longest has 14 tokens)")
    with pytest.raises(InputError, match="the query is empty"):
        build_prompts(tokenizer, names, ["who", " "], 16)


def test_a_folder_with_code_of_its_own_is_not_asked_about(tokenizer, tmp_path, monkeypatch):
    tokenizer.save_pretrained(tmp_path)
    auto_map = {"AutoConfig": "configuration_other.OtherConfig"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "other", "auto_map": auto_map}))
    (tmp_path / "configuration_other.py").write_text("raise SystemExit('code of the folder ran')\n")
    asked = []
    monkeypatch.setattr("builtins.input", lambda *text: asked.append(text) or "y")
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()
    assert not asked
