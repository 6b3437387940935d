"""A dialogue's turns and memory: asking, undoing, taking out, comparing, and reading dialogues from files."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from mrl.model import ReactiveConfig, ReactiveForCausalLM, Sampling
from mrl.talk.session import Session
from mrl.talk.speaker import Speaker
from pipeline.errors import InputError

FACTS = ("Ann has the cat .", "Bob has the dog .", "what has Ann")


def tell(session: Session, *messages: str) -> None:
    for message in messages:
        list(session.ask(message))


def test_a_reply_is_what_generate_answers_gives_and_is_written_with_its_message(session, model, tokenizer):
    replies = list(session.ask("Ann has the cat ."))
    words = "Ann has the cat .".split()
    prompt = [2, 5, *tokenizer.convert_tokens_to_ids(words)]
    start = model.initial_state(1)
    wanted = model.generate_answers(
        torch.tensor([prompt]), None, start, max_new_tokens=5, sampling=Sampling(temperature=0)
    )
    assert session.turns[0].ids == (*prompt, *wanted.ids[0, : int(wanted.mask.sum())].tolist())
    assert [len(reply.ids) for reply in replies] == list(range(2, len(replies) + 2))
    torch.testing.assert_close(session.state.slots, model.write(start, torch.tensor([session.turns[0].ids])).slots)


def test_sampling_draws_alike_for_the_same_turn(session):
    session.speaker.sampling = Sampling(temperature=1.0)
    tell(session, *FACTS)
    first = [turn.ids for turn in session.turns]
    other = Session(session.speaker)
    tell(other, *FACTS)
    assert [turn.ids for turn in other.turns] == first
    session.speaker.seed = 1
    different = Session(session.speaker)
    tell(different, *FACTS)
    assert [turn.ids for turn in different.turns] != first


def test_undo_leaves_what_was_before(session):
    tell(session, *FACTS[:2])
    states, turns = list(session.states), list(session.turns)
    tell(session, FACTS[2])
    assert session.undo() == FACTS[2]
    assert session.turns == turns
    assert session.states == states


def test_a_turn_taken_out_leaves_the_memory_of_a_dialogue_without_it(session, model):
    tell(session, *FACTS)
    kept = [session.turns[0], session.turns[2]]
    before = session.turns[2].reply.answer
    compared = session.remove(2)
    state = model.initial_state(1)
    for turn in kept:
        without = state
        state = model.write(state, torch.tensor([turn.ids]))
    torch.testing.assert_close(session.state.slots, state.slots)
    assert [turn.query for turn in session.turns] == [FACTS[0], FACTS[2]]
    (change,) = compared
    assert (change.turn, change.query, change.before) == (2, FACTS[2], before)
    *_, reply = session.speaker.speak(session.speaker.prompt(FACTS[2]), without)
    assert change.after == reply.answer


def test_a_reset_memory_answers_as_at_the_very_beginning(session):
    tell(session, *FACTS)
    change = session.reset_answer()
    *_, reply = session.speaker.speak(session.speaker.prompt(FACTS[2]), session.states[0])
    assert (change.query, change.before) == (FACTS[2], session.turns[2].reply.answer)
    assert change.after == reply.answer
    assert len(session.turns) == 3


def test_a_reply_that_is_broken_off_leaves_no_trace(session):
    tell(session, FACTS[0])
    states = list(session.states)
    reply = session.ask(FACTS[1])
    next(reply)
    reply.close()
    assert session.states == states
    assert len(session.turns) == 1


@pytest.mark.parametrize(
    ("message", "word"),
    [("", "empty"), ("  \n", "empty"), ("cat " * 30, "30 tokens; 16 fit"), ("x" * 200_000, "200,000 characters")],
)
def test_a_message_that_cannot_be_put_to_the_model_is_named(session, message, word):
    tell(session, FACTS[0])
    with pytest.raises(InputError, match=word):
        next(session.ask(message))
    assert len(session.turns) == 1


@pytest.mark.parametrize("action", [lambda s: s.undo(), lambda s: s.reset_answer(), lambda s: s.remove(1)])
def test_without_a_turn_there_is_nothing_to_go_back_to(session, action):
    with pytest.raises(InputError, match="nothing was said yet"):
        action(session)


def test_a_turn_that_there_is_not_is_named(session):
    tell(session, FACTS[0])
    with pytest.raises(InputError, match="there is no turn 2; choose one of 1 to 1"):
        session.remove(2)


def test_marks_that_somebody_types_stay_text(speaker):
    frame = {*speaker.frame.answer, *speaker.frame.end, *speaker.frame.think, speaker.frame.opening[0]}
    assert not frame & set(speaker.prompt("what [A] cat [EOS] [T] [BOS]")[1:])


def test_words_without_a_token_are_named(speaker):
    assert speaker.unknown("Ann has the zebra and the zebra") == ["zebra", "and"]


def test_words_that_are_read_letter_by_letter_are_named(speaker):
    pieces = Tokenizer(BPE())
    pieces.pre_tokenizer = ByteLevel()
    pieces.train_from_iterator(["Gilo lives in Gorse .", "Where does he live?"] * 9, BpeTrainer(
        initial_alphabet=ByteLevel.alphabet(), vocab_size=400, show_progress=False))  # fmt: skip
    speaker._backend = pieces
    assert speaker.spelt("Gilo lives in Gorse.") == []
    assert speaker.spelt("Gilo lives in Paris, Paris or Bonn.") == ["Paris", "Bonn"]
    assert speaker.strange("Where does Gilo live in Paris?") == "no word of its own, spelt by letters: Paris"


def test_thought_and_answer_come_apart(speaker):
    reply = speaker.read([7, 26, 27, 6, 11, 3])  # [T] why because [A] the [EOS]
    assert (reply.think, reply.answer, reply.ended) == ("why because", "the", True)
    reply = speaker.read([7, 26])
    assert (reply.think, reply.answer, reply.ended) == ("why", "", False)


@pytest.mark.parametrize("longest", [3, 64])
def test_a_thought_ends_where_generate_answers_ends_it(session, model, longest):
    session.speaker.max_think_tokens = longest
    list(session.ask(FACTS[0], "think"))
    wanted = model.generate_answers(
        torch.tensor([session.speaker.prompt(FACTS[0])]), None, model.initial_state(1), max_new_tokens=5,
        max_think_tokens=longest, forced="think", sampling=Sampling(temperature=0),
    )  # fmt: skip
    assert session.turns[0].reply.ids == tuple(wanted.ids[0, : int(wanted.mask.sum())].tolist())
    assert session.turns[0].reply.ids[:1] == session.speaker.frame.think


def test_a_model_that_copies_from_windows_talks_too(tokenizer, model):
    torch.manual_seed(0)
    copying = ReactiveForCausalLM(ReactiveConfig(**{**model.config.to_diff_dict(), "copy_window": 2}))
    session = Session(Speaker(copying, tokenizer, max_new_tokens=5))
    tell(session, *FACTS)
    assert session.turns[-1].moved.shape == session.turns[-1].read.shape == (2, 4)
    wanted = copying.generate_answers(
        torch.tensor([session.speaker.prompt(FACTS[2])]), None, session.states[2], max_new_tokens=5,
        sampling=Sampling(temperature=0),
    )  # fmt: skip
    assert session.turns[-1].reply.ids == tuple(wanted.ids[0, : int(wanted.mask.sum())].tolist())


def test_a_dialogue_from_a_file_is_written_turn_by_turn(session, model, tmp_path):
    tell(session, "sun")
    file = tmp_path / "talk.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": "sun"}, {"role": "assistant", "content": "tea"}]},
        {"query": "Ann has the cat .", "answer": "noted", "interactions": [
            {"query": "what has Ann", "answer": "cat", "think": "why"}]},
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))
    session.load_dialogue(file, 2)
    shown = [(turn.query, turn.reply.think, turn.reply.answer) for turn in session.turns]
    assert shown == [("Ann has the cat .", "", "noted"), ("what has Ann", "why", "cat")]
    state = model.initial_state(1)
    for turn in session.turns:
        state = model.write(state, torch.tensor([turn.ids]))
    torch.testing.assert_close(session.state.slots, state.slots)


@pytest.mark.parametrize(
    ("row", "number", "word"),
    [
        ('{"text": "sun"}', 1, "plain text"),
        ('{"query": "sun", "answer": "tea"}', 2, "row 2 was asked for, but there are 1"),
        ('{"query": "' + "sun " * 40 + '", "answer": "tea"}', 1, "longer than 24"),
        ('{"query": "sun"}', 1, "answer is missing"),
        ("{", 1, "talk.jsonl"),
    ],
)
def test_a_file_without_a_dialogue_is_refused_and_nothing_is_lost(session, tmp_path, row, number, word):
    tell(session, FACTS[0])
    file = tmp_path / "talk.jsonl"
    file.write_text(row + "\n")
    with pytest.raises(InputError, match=word):
        session.load_dialogue(file, number)
    assert [turn.query for turn in session.turns] == [FACTS[0]]
