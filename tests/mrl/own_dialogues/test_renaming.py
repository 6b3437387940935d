"""Copies of dialogues with other names: consistent, new words among them, the language kept."""

import random
import re

from mrl.dialogues.check import check_dialogues
from mrl.dialogues.dataset import Conversation, parse_row
from mrl.own_dialogues.renaming import Letters, remembered_words, renamed_copies, said_words

NAMES = "Ann Bob Cid Dora Emil Fay Gus Hal Ida Jon Kay Leo Mia Ned Ola Pia Quin Ron Sue Tim".split()
THINGS = "cat dog owl fox hen cow pig elk ram bee ant bat rat eel cod emu yak gnu ape asp".split()


def conversations() -> list[Conversation]:
    made = []
    for name, thing in zip(NAMES, THINGS, strict=True):
        row = {
            "query": f"my friend {name} has the {thing}, I know.", "answer": "Noted.", "facts": [],
            "interactions": [{"query": f"what has {name}?", "answer": f"The {thing} is {name}'s.",
                              "facts": [[thing, f"the {thing}"]]}],
        }  # fmt: skip
        made.append(Conversation(parse_row(row, name), name))
    return made


def test_names_and_facts_are_what_is_remembered():
    first = conversations()[0]
    assert {word.lower() for word in remembered_words(first)} == {"ann", "cat", "the"}
    both = dict.fromkeys("my friend has the i know noted what is s".split(), 2)
    assert said_words(conversations()[:2]) == both | dict.fromkeys("ann bob cat dog".split(), 1)


def test_made_words_have_the_letters_of_the_language_and_are_none_of_its_words():
    letters = Letters(["anna", "hanna", "nina"])
    rng = random.Random(0)
    made = [letters.invented(rng, "Bo") for _ in range(300)]
    assert all(set(word.lower()) <= set("ahni") and 2 < len(word) <= 11 and word[0].isupper() for word in made)
    assert not {word.lower() for word in made} & {"anna", "hanna", "nina"}
    assert letters.invented(rng, "bo").islower()
    # After `an` only `n` follows in these words; a tenth of the letters is drawn from all four (a quarter of them n),
    # and what becomes a word of the language is thrown away.
    follows = [word.lower()[i + 2] for word in made for i in range(len(word) - 2) if word.lower()[i : i + 2] == "an"]
    assert 0.6 < follows.count("n") / len(follows) < 1
    cyrillic = Letters(["анна", "нина"]).invented(rng, "Бо")
    assert set(cyrillic.lower()) <= set("ани")


def test_copies_keep_their_questions_answerable_with_other_words():
    given = conversations()
    copies = renamed_copies(given, 2, seed=1)
    assert len(copies) == 40
    assert renamed_copies(given, 2, seed=1) == copies
    assert renamed_copies(given, 2, seed=2) != copies
    counts = check_dialogues(copies)
    assert counts["distances derived"] == 40, "each fact is where it was"
    assert counts["facts that their answer doesn't say"] == 0
    pattern = re.compile(r"my friend (\w+) has the (\w+), I know\.")
    said = [pattern.fullmatch(c.exchanges[0].query).groups() for c in copies]
    for (name, thing), copy, original in zip(said, copies, given * 2, strict=True):
        assert name not in original.exchanges[0].query
        assert thing not in original.exchanges[0].query.split()
        assert name[0].isupper()
        assert thing.islower()
        assert copy.exchanges[1].query == f"what has {name}?"
        assert copy.exchanges[1].facts == ((thing, f"the {thing}"),)
    share = sum(thing not in THINGS for _, thing in said) / 40
    assert 0.3 < share < 0.9, "invented words and those of other dialogues"


def test_a_dialogue_without_names_has_no_copies():
    row = {"query": "hello", "answer": "hi", "interactions": [{"query": "and", "answer": "so"}]}
    assert renamed_copies([Conversation(parse_row(row, "f"), "f")], 3, seed=0) == []
