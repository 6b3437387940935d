"""Copies of dialogues with other names: consistent, new words among them, the language kept."""

import re

from mrl.dialogues.check import check_dialogues
from mrl.dialogues.dataset import Conversation, parse_row
from mrl.own_dialogues.renaming import common_words, remembered_words, renamed_copies

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
    assert {"my", "friend", "has", "the", "what", "noted", "is"} <= common_words(conversations())


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
