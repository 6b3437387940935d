"""Dialogues in the puzzles' world: worked out again from their words; what is told is new to its split."""

import random
import re

import pytest

from data.generators.puzzle_episodes import content, generate
from data.generators.puzzles import sums, variables, whereabouts
from pipeline.errors import InputError

QUESTION = r"(?:Where|What) is (\w+)\?"
STATEMENT = r"(\w+) is (?:in the )?(\w+)\."


def dialogues(split: str, entries: int = 60, **options) -> list[list[dict]]:
    rows = [row for batch in generate({"steps": 8, **options}, entries, split, 3) for row in batch.to_pylist()]
    return [[row, *row["interactions"]] for row in rows]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_answers_and_distances_follow_from_what_was_told(split):
    asked = changed = 0
    for turns in dialogues(split):
        held: dict[str, tuple[str, int]] = {}
        for number, turn in enumerate(turns):
            if found := re.fullmatch(QUESTION, turn["query"]):
                value, said = held[found[1]]
                expected = (f"{found[1]} {value}", [value], number - said)
                assert (turn["answer"], turn["facts"], turn["distance"]) == expected
                held[found[1]] = value, number
                asked += 1
            else:
                name, value = re.fullmatch(STATEMENT, turn["query"]).groups()
                assert turn["answer"] == f"{name} {value}", "a note"
                changed += name in held
                held[name] = value, number
        assert re.fullmatch(QUESTION, turns[-1]["query"])
    assert asked > 100
    assert changed > 5


def test_what_a_dialogue_tells_is_in_one_split_only():
    told = {
        split: {content(turns[0] | {"interactions": turns[1:]}) for turns in dialogues(split, 200, steps=1)}
        for split in ("train", "validation", "test")
    }
    assert {split: len(contents) > 10 for split, contents in told.items()} == dict.fromkeys(told, True)
    assert not told["train"] & (told["validation"] | told["test"])
    assert not told["validation"] & told["test"]
    assert not any("?" in text for contents in told.values() for text in contents)


def test_its_words_are_those_of_the_puzzles():
    rng = random.Random(0)
    known = {
        word
        for puzzle in (sums, variables, whereabouts)
        for _ in range(300)
        for word in re.findall(r"\w+", puzzle(rng).question)
    }
    said = {word for turns in dialogues("train") for turn in turns for word in re.findall(r"\w+", turn["query"])}
    assert said <= known


def test_more_facts_than_names_are_refused_and_as_many_as_there_is_room_for_are_told():
    with pytest.raises(InputError, match="facts is 20; with 20 names"):
        generate({"steps": 2, "facts": 20}, 5, "train", 0)
    told = [
        {re.fullmatch(STATEMENT, turn["query"])[1] for turn in turns if not turn["facts"]}
        for turns in dialogues("train", 40, steps=30, facts=19, entities=20, tell=0.9, ask=0.1, change=0.0)
    ]
    assert max(map(len, told)) == 20


def test_with_one_attribute_a_dialogue_is_about_people_or_about_letters():
    kinds = [
        {len(re.fullmatch(STATEMENT, turn["query"])[1]) == 1 for turn in turns if not turn["facts"]}
        for turns in dialogues("train", 40, steps=20, facts=7, entities=7, attributes=1)
    ]
    assert {frozenset(kind) for kind in kinds} == {frozenset([True]), frozenset([False])}
    with pytest.raises(InputError, match="8 letters"):
        generate({"steps": 2, "facts": 8, "attributes": 1}, 5, "train", 0)


@pytest.mark.parametrize("options", [{"chat": 0.1}, {"pair": 0.2}, {"words": 12}])
def test_what_this_world_has_no_words_for_is_refused(options):
    [name] = options
    with pytest.raises(InputError, match=rf"generator: {name}.*puzzles' world"):
        generate({"steps": 2, **options}, 5, "train", 0)
