"""Memories before every turn, and answers read from them, beside the plain way of getting each."""

import pytest
import torch

from evaluation.inference import GREEDY, Thinking, generate_answers, states_before
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import EncodedDialogues, encode_dialogues
from mrl.model import MemoryState, Sampling

CONVERSATIONS = [
    Conversation(
        (Exchange("Ann has the cat", "noted"), Exchange("what has Ann", "cat"), Exchange("why", "because")), "1"
    ),
    Conversation((Exchange("Bob has a red owl", "noted"), Exchange("who has the owl", "Bob")), "2"),
]


@pytest.fixture
def encoded(tokenizer) -> EncodedDialogues:
    return encode_dialogues(CONVERSATIONS, tokenizer, max_length=24)


@torch.no_grad()
def test_states_before_a_turn_are_those_of_writing_turn_by_turn(model, tokenizer, encoded):
    history = states_before(model.eval(), encoded, [1, 0], 0)
    assert history.writes == 2, "one before each turn but the first of the longest dialogue"
    for row, conversation in enumerate((CONVERSATIONS[1], CONVERSATIONS[0])):
        state = history[0].rows(slice(row, row + 1))
        for turn, exchange in enumerate(conversation.exchanges[:-1], start=1):
            text = f"[BOS] [Q] {exchange.query} [A] {exchange.answer} [EOS]"
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            state = model.write(state, ids)
            close(history[turn].rows(slice(row, row + 1)), state)


@torch.no_grad()
def test_own_answers_are_written_from_the_first_question_on(model, tokenizer, encoded):
    given = states_before(model.eval(), encoded, [0], 0)
    own = states_before(model, encoded, [0], 0, tokenizer, 4)
    assert own.writes == given.writes == 2
    for turn in (0, 1):
        close(own[turn], given[turn])
    differ = (own[2].slots - given[2].slots).abs().max()
    assert differ > 1e-3, "an untrained model doesn't say what the data has"


def close(state: MemoryState, expected: MemoryState) -> None:
    torch.testing.assert_close(state.slots, expected.slots, atol=1e-5, rtol=0)


def test_sampled_answers_follow_their_seeds_and_greedy_ones_none(model, tokenizer):
    def said(sampling: Sampling, seeds: list[int] | None) -> list[str]:
        states = model.initial_state(seeds=[1, 2, 3])
        answers = generate_answers(model.eval(), tokenizer, ["what has Ann"] * 3, states, 8, sampling, seeds)
        return [answer.text for answer in answers]

    hot = Sampling(temperature=2.0)
    assert said(hot, [4, 5, 6]) == said(hot, [4, 5, 6])
    assert said(hot, [4, 5, 6]) != said(hot, [7, 8, 9])
    assert said(hot, [4, 5, 6]) != said(GREEDY, None)
    assert said(GREEDY, None) == said(GREEDY, [4, 5, 6])


def test_a_thought_is_counted_and_no_part_of_the_answer(model, tokenizer):
    state, thinking = model.initial_state(seeds=[1, 2]), Thinking("always", 3)
    said = generate_answers(model.eval(), tokenizer, ["what has Ann", "why"], state, 4, thinking=thinking)
    for row, (query, answer) in enumerate(zip(["what has Ann", "why"], said, strict=True)):
        ids = torch.tensor([tokenizer(f"[BOS] [Q] {query}", add_special_tokens=False)["input_ids"]])
        options = {"max_new_tokens": 4, "max_think_tokens": 3, "forced": "think", "sampling": GREEDY}
        whole = model.generate_answers(ids, None, state.rows(slice(row, row + 1)), **options)
        spoken = whole.ids[0, int(whole.thought) : int(whole.mask.sum())].tolist()
        assert answer.text == tokenizer.decode(spoken, skip_special_tokens=True)
        assert (answer.thought, answer.cut) == (int(whole.thought), bool(whole.cut))
        assert 0 < answer.thought <= 4
    at_once = generate_answers(model, tokenizer, ["why"], state.rows(slice(1, 2)), 4)
    assert (at_once[0].thought, at_once[0].cut) == (0, False)


@torch.no_grad()
def test_own_thoughts_are_written_with_own_answers(model, tokenizer, encoded):
    plain = states_before(model.eval(), encoded, [0], 0, tokenizer, 4)
    thinking = states_before(model, encoded, [0], 0, tokenizer, 4, thinking=Thinking("always", 3))
    assert (thinking[2].slots - plain[2].slots).abs().max() > 1e-4
