"""Copies in which something asked for was never told: told nowhere in them, the rest answerable, counted as untold."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from evaluation.memory.questions import Tally, questions_of
from mrl.dialogues.abstention import abstains
from mrl.dialogues.check import check_dialogues
from mrl.dialogues.dataset import Conversation, Exchange, RowSource, parse_row, read_conversations
from mrl.dialogues.tokenization import FACT, encode_dialogues
from mrl.model import ReactiveConfig
from mrl.own_dialogues.derived import untold_to_measure
from mrl.own_dialogues.rows import write_rows
from mrl.own_dialogues.untold import ADMISSION, COPIES, IMPOSSIBLE, LEFT_OUT, admission_of, untold_copies
from mrl.rl.episode_dataset import EpisodeDataset, vocabulary_of
from mrl.rl.rewards import content, fact_recall
from mrl.rl.rewards.words import Words
from tests.mrl.own_dialogues.conftest import FRAME_OF_BYTES

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "make_dialogues.py"
DEFAULT = admission_of([])


def turn(query: str, answer: str = "Noted.", *facts: str | list[str], **more) -> dict:
    return {"query": query, "answer": answer, "facts": list(facts), **more}


def dialogue(*turns: dict) -> Conversation:
    first, *rest = turns
    return Conversation(parse_row({**first, "interactions": rest}, "here"), "here")


CLARA = turn("My sister Clara lives in Lisbon.")
WHERE = turn("Where does Clara live?", "She lives in Lisbon.", "Lisbon")
BORIS = turn("A friend, Boris, has a parrot.")
WHAT = turn("What has Boris?", "Boris has a parrot.", "parrot", think="Boris.")  # so it isn't the one that is taken
TALK = turn("Lovely weather!", "It is.")
# Enough others that a word of one dialogue is a rare one.
OTHERS = [dialogue(turn("and what is the has does in my that me of I live"), turn("Yes.", "No."))] * 30


def copy_of(*turns: dict, seed: int = 0) -> list[tuple[str, str]] | None:
    """What is said in the copy of a dialogue; None where there is none."""
    made = untold_copies([dialogue(*turns), *OTHERS], DEFAULT, 1.0, seed)
    return [(e.query, e.answer) for e in made[0].exchanges] if made else None


def said(*turns: dict) -> list[tuple[str, str]]:
    return [(t["query"], t["answer"]) for t in turns]


def test_the_telling_goes_and_the_question_is_answered_so():
    counts = Counter()
    given = dialogue(CLARA, BORIS, TALK, WHERE, WHAT)
    (made,) = untold_copies([given, *OTHERS], DEFAULT, 1.0, 1, counts)
    assert [(e.query, e.answer) for e in made.exchanges] == said(BORIS, TALK, {**WHERE, "answer": ADMISSION}, WHAT)
    asked, parrot = made.exchanges[2:]
    assert (asked.facts, asked.distance, asked.asks, asked.kind) == (("You haven't told",), 0, True, "untold")
    assert (parrot.facts, parrot.distance) == (("parrot",), 3), "derived again: a turn fewer and one answer more"
    assert counts == {COPIES: 1, LEFT_OUT: 1, IMPOSSIBLE: 30}
    assert given.exchanges[3].answer == "She lives in Lisbon.", "the dialogue itself stays"


def test_the_question_before_which_most_is_said_is_taken():
    what = {**WHAT, "think": ""}
    assert copy_of(CLARA, BORIS, TALK, WHERE, what) == said(CLARA, TALK, WHERE, {**what, "answer": ADMISSION})
    assert copy_of(CLARA, BORIS, TALK, what, WHERE) == said(BORIS, TALK, what, {**WHERE, "answer": ADMISSION})


def test_what_is_told_elsewhere_is_not_denied():
    again = turn("I fly to Lisbon, to Clara.", "Enjoy!")
    assert copy_of(CLARA, TALK, again, TALK, WHERE) == said(TALK, {**WHERE, "answer": ADMISSION})
    answered = turn("I was with Clara.", "So you were in Lisbon?")
    assert copy_of(CLARA, TALK, answered, WHERE) == said(TALK, {**WHERE, "answer": ADMISSION})
    assert copy_of(CLARA, again, WHERE) is None, "nothing is left before the question"
    asked_before = copy_of(CLARA, TALK, WHERE, TALK, WHERE)
    assert asked_before == said(TALK, TALK, {**WHERE, "answer": ADMISSION}), "an answer tells it as well"
    part = turn("Boris has an old Lisbon map.")
    flat = turn("Clara has a flat in Lisbon Oriente.")
    two = turn("Where does Clara live now?", "In Lisbon Oriente.", ["Lisbon Oriente", "Oriente"])
    assert copy_of(flat, part, TALK, two) == said(TALK, {**two, "answer": ADMISSION})


def test_an_older_value_goes_with_its_correction():
    old = turn("My sister Clara lives in Rome.")
    correction = turn("Sorry, I was wrong: Clara lives in Lisbon.")
    asked_rome = turn("Where does Clara live?", "In Rome.", "Rome")
    for before in ((old,), (old, asked_rome), (turn("Clara is my sister."), turn("She lives in Rome."))):
        made = copy_of(*before, correction, TALK, WHERE)
        assert made == said(TALK, {**WHERE, "answer": ADMISSION}), before
    # Asked before the correction, the old value is untold as well once its own telling is left out.
    made = copy_of(old, TALK, BORIS, asked_rome, correction, WHERE)
    assert made == said(TALK, BORIS, {**asked_rome, "answer": ADMISSION}, correction, WHERE)


def test_what_was_told_before_stays_where_it_is_of_somebody_else_and_still_asked():
    assert copy_of(BORIS, CLARA, TALK, WHERE, WHAT) == said(BORIS, TALK, {**WHERE, "answer": ADMISSION}, WHAT)
    unasked = copy_of(BORIS, CLARA, TALK, WHERE)
    assert unasked == said(TALK, {**WHERE, "answer": ADMISSION})
    hers = turn("A friend of Clara, Boris, has a parrot.")
    assert copy_of(hers, CLARA, TALK, WHERE, WHAT) == said(TALK, {**WHERE, "answer": ADMISSION})
    job = turn("She bakes, and Boris has a parrot.")
    assert copy_of(job, CLARA, TALK, WHERE, WHAT) == said(TALK, {**WHERE, "answer": ADMISSION})


def test_a_question_that_lost_its_own_fact_goes():
    both = turn("My sister Clara lives in Lisbon with a parrot, and Boris is there.")
    parrot = turn("Which bird is in the flat?", "A parrot.", "parrot")
    mention = turn("Is a parrot loud?", "Often.")
    made = copy_of(both, TALK, mention, WHERE, parrot, TALK)
    assert made == said(TALK, mention, {**WHERE, "answer": ADMISSION}, TALK), "a chance mention tells nothing"
    two = turn("Where does Clara live and what has Boris?", "In Lisbon, and a parrot.", "Lisbon", "parrot")
    made = copy_of(CLARA, BORIS, WHERE, two, WHAT)
    assert made == said(BORIS, {**WHERE, "answer": ADMISSION}, WHAT)
    given = {**parrot, "facts": ["bird of 1"], "answer": "bird of 1", "distance": 4}
    made = copy_of(CLARA, BORIS, TALK, WHERE, given)
    assert made == said(BORIS, TALK, {**WHERE, "answer": ADMISSION}), "what a given distance points to is left out"


def test_distances_that_were_given_follow():
    other = turn("And the bird?", "The green one.", "green one", distance=3)
    (made,) = untold_copies([dialogue(CLARA, BORIS, TALK, WHERE, other), *OTHERS], DEFAULT, 1.0, 0)
    assert [e.distance for e in made.exchanges] == [0, 0, 0, 3], "still the turn of Boris"
    (made,) = untold_copies([dialogue(BORIS, CLARA, TALK, WHERE, {**WHAT, "distance": 4}), *OTHERS], DEFAULT, 1.0, 0)
    assert [(e.query, e.distance) for e in made.exchanges][-1] == (WHAT["query"], 3)


def test_questions_that_leave_open_whom_they_mean_are_not_taken():
    hers = turn("And where does she live?", "In Lisbon.", "Lisbon")
    assert copy_of(turn("My aunt Ann lives in Oslo."), TALK, CLARA, TALK, hers) is None
    garden = turn("Where is her garden?", "In Lisbon.", "Lisbon")
    assert copy_of(turn("The garden of Clara is in Lisbon."), TALK, garden) is None, "though a rare word is in both"
    named = turn("Where does Clara have her garden?", "In Lisbon.", "Lisbon")
    assert copy_of(turn("The garden of Clara is in Lisbon."), TALK, named) == said(TALK, {**named, "answer": ADMISSION})
    mine = turn("Where do I live?", "In Lisbon.", "Lisbon")
    assert copy_of(turn("I moved to Lisbon."), TALK, mine) == said(TALK, {**mine, "answer": ADMISSION})
    assert copy_of(turn("They moved to Lisbon."), TALK, mine) is None


def test_what_nobody_told_nobody_said_and_thoughts_are_left_alone():
    assert copy_of(CLARA, TALK, {**WHERE, "think": "Clara: Lisbon"}) is None
    assert copy_of(TALK, TALK, {**WHERE, "answer": ADMISSION, "facts": []}) is None
    suggestion = turn("Give Clara a name for a town.", "Lisbon.")
    assert copy_of(suggestion, TALK, WHERE) is None, "it was the other side that said it"
    two = turn("Who, where?", "Clara, Lisbon.", "Clara", "Lisbon")
    assert copy_of(CLARA, TALK, two) is None
    unmarked = [{k: v for k, v in t.items() if k != "facts"} for t in (CLARA, TALK, WHERE)]
    assert copy_of(*unmarked) is None


def test_a_share_of_the_dialogues_drawn_by_the_seed():
    given = [dialogue(turn(f"My friend N{i} lives in T{i}."), TALK, turn(f"Where is my friend N{i}?", f"T{i}", f"T{i}"))
             for i in range(400)]  # fmt: skip
    made = untold_copies(given, DEFAULT, 0.25, 3)
    assert 70 < len(made) < 130
    assert made == untold_copies(given, DEFAULT, 0.25, 3)
    assert made != untold_copies(given, DEFAULT, 0.25, 4)
    assert untold_copies(given, DEFAULT, 0.0, 3) == []


def test_few_dialogues_take_what_is_rare_from_others():
    """By themselves they would show every word to be a common one."""
    part = turn("Boris has an old Lisbon map.")
    two = turn("Where does Clara live now?", "In Lisbon Oriente.", ["Lisbon Oriente", "Oriente"])
    given = [dialogue(turn("Clara has a flat in Lisbon Oriente."), part, TALK, two)]
    (made,) = untold_copies(given, DEFAULT, 1.0, 0, language=OTHERS)
    assert [(e.query, e.answer) for e in made.exchanges] == said(TALK, {**two, "answer": ADMISSION})
    (alone,) = untold_copies(given, DEFAULT, 1.0, 0)
    assert alone.exchanges[0].query == part["query"]


def test_held_out_dialogues_are_copied_where_none_asks_for_what_was_never_told():
    given = [dialogue(CLARA, BORIS, TALK, WHERE, WHAT)]
    (made,) = untold_to_measure(given, OTHERS, DEFAULT, 0)
    assert [e.kind for e in made.exchanges] == ["", "", "untold", ""]
    own = dialogue(CLARA, TALK, turn("How old is Clara?", "Nobody told me."), WHERE)
    assert untold_to_measure([*given, own], OTHERS, DEFAULT, 0) == []
    alone = [dialogue(CLARA, TALK, WHERE)]
    assert untold_to_measure(alone, OTHERS, DEFAULT, 0) == [], "retention needs a told question as well"


def test_the_answer_is_the_dialogues_own_where_two_have_it():
    assert (DEFAULT.answer, DEFAULT.fact, DEFAULT.own) == (ADMISSION, "You haven't told", False)
    named = turn("Where does Clara live?", "You never mentioned where Clara lives.")
    short = turn("How old is she?", "Nobody told me.")
    once = admission_of([dialogue(TALK, named), dialogue(TALK, TALK)])
    assert (once.answer, once.own) == (ADMISSION, False), "a single dialogue's may name what was asked"
    assert once.fact == ("You haven't told", "You never mentioned")
    chat = dialogue(*({k: v for k, v in t.items() if k != "facts"} for t in (TALK, short)))
    assert admission_of([chat, chat]) == DEFAULT, "no word of it is marked"
    own = admission_of([dialogue(TALK, named), dialogue(TALK, short), dialogue(TALK, short, short)])
    assert (own.answer, own.own) == ("Nobody told me.", True)
    assert own.fact == ("Nobody told", "You never mentioned"), "its own form first"
    assert own.told == "“Nobody told me.” (of the dialogues)"
    assert abstains(ADMISSION)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The worked example's module, and dialogues that it made."""
    spec = importlib.util.spec_from_file_location("make_dialogues", EXAMPLE)
    maker = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = maker  # dataclasses look their module up
    spec.loader.exec_module(maker)
    folder = tmp_path_factory.mktemp("example")
    maker.main(folder, rows=400, held_out=1, seed=0)
    return maker, read_conversations(RowSource(path=str(folder / "train.jsonl")))


def topics(maker, part: str) -> list[tuple[str, bool, re.Pattern]]:
    """Each sentence of the example that tells or asks: its topic, whether it is of the user, what it looks like."""
    gaps = {"{who}": r"(?P<who>\w+)", "{value}": ".+?", "{pet}": r"\w+"}
    return [
        (name, mine, re.compile("".join(gaps.get(piece) or re.escape(piece) for piece in re.split(r"({\w+})", way))))
        for mine in (True, False)  # "I was born" before "{who} was born"
        for name, topic in maker.TOPICS.items()
        for way in getattr(topic, f"{part}_mine" if mine else part)
    ]


def spoken_of(text: str, sentences) -> tuple[str, str | None]:
    """Topic and person of a sentence."""
    found = ((name, mine, pattern.search(text)) for name, mine, pattern in sentences)
    return next((name, None if mine else match["who"]) for name, mine, match in found if match)


def test_in_the_worked_example_nothing_is_denied_that_was_told(example):
    maker, given = example
    told, asked = topics(maker, "told"), topics(maker, "asked")
    admission = admission_of(given)
    assert admission.answer in maker.UNTOLD
    counts = Counter()
    copies = untold_copies(given, admission, 1.0, 0, counts)
    assert counts[COPIES] == len(copies) > 250
    for copy in copies:
        known = set()
        for exchange in copy.exchanges:
            if exchange.kind == "told":
                known.add(spoken_of(exchange.query, told))
            elif exchange.asks and exchange.kind != "two_facts":
                assert (spoken_of(exchange.query, asked) in known) != abstains(exchange.answer), copy
    checked = check_dialogues(copies)
    assert checked["facts that their answer doesn't say"] == 0
    assert checked["turns with a fact that nobody has said before"] == 0


def test_files_retention_and_training_take_them_for_untold(tmp_path):
    made = untold_copies([dialogue(CLARA, BORIS, TALK, WHERE, WHAT), *OTHERS], DEFAULT, 1.0, 1)
    write_rows(tmp_path / "untold.jsonl", made)
    (read,) = read_conversations(RowSource(path=str(tmp_path / "untold.jsonl")))
    *_, untold, told = read.exchanges
    assert (untold.facts, untold.distance, untold.asks, untold.kind) == (("You haven't told",), 0, True, "untold")
    assert (told.facts, told.distance, told.asks) == (("parrot",), 3, True)
    tally = Tally()
    for question, answer in zip(questions_of([read]), ("Nobody told me.", "A parrot."), strict=True):
        tally.add(question, answer)
    assert tally.overall()["n"] == 1, "recall counts the other question alone"
    assert tally.by_kind()["untold"]["recall"] == tally.abstention()["untold"] == tally.abstention()["told"] == 1.0


def test_a_reward_for_facts_pays_for_saying_so_and_a_loss_sees_it(byte_tokenizer):
    """Each way of saying so earns, a value doesn't; the words that say so are marked as what matters of the answer."""
    admission = admission_of([dialogue(TALK, turn("Who?", "Nobody told me."))])
    made = untold_copies([dialogue(CLARA, BORIS, TALK, WHERE, WHAT), *OTHERS], admission, 1.0, 1)
    data = encode_dialogues(made, byte_tokenizer, max_length=200)
    assert data.asks.tolist() == [False, False, True, True]
    marked = data.tokens[data.start[2] : data.start[3]][(data.flags[data.start[2] : data.start[3]] & FACT) > 0]
    assert byte_tokenizer.decode(marked.tolist()) == "Youhaven'ttold", "blanks aside"
    frame = ReactiveConfig(**FRAME_OF_BYTES).frame
    vocabulary = vocabulary_of(byte_tokenizer, torch.randn(len(byte_tokenizer), 8), frame)
    batch = EpisodeDataset(data, byte_tokenizer, "rows").batch([0], 3, [0])
    assert batch.asks[0].tolist() == [False, True, True]
    for answer, earned in ((ADMISSION, 1.0), ("Well, nobody told me that.", 1.0), ("She lives in Lisbon.", 0.0)):
        ids = torch.tensor([byte_tokenizer(f"[A]{answer}[EOS]")["input_ids"]])
        words = Words(*content(ids, torch.ones_like(ids, dtype=torch.bool), vocabulary))
        assert fact_recall(words, batch.fact_ids[:, 1], vocabulary).tolist() == [earned], answer


def test_a_dialogue_of_one_turn_has_no_copy():
    assert untold_copies([Conversation((Exchange("a", "b", facts=("b",)),), "x")] * 3, DEFAULT, 1.0, 0) == []
