"""Dialogues in the puzzles' world: worked out again from their words; the last answer is new to its split."""

import random
import re

import pytest

from data.generators.episode_world import NOTED
from data.generators.puzzle_episodes import NUMBER, PLACE, generate, values_of
from data.generators.puzzles import LETTERS, NAMES, PLACES, sums, variables, whereabouts
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
                assert (turn["answer"], turn["facts"], turn["distance"]) == (value, [value], number - said)
                held[found[1]] = value, number
                asked += 1
            else:
                name, value = re.fullmatch(STATEMENT, turn["query"]).groups()
                assert turn["answer"] == NOTED
                changed += name in held
                held[name] = value, number
        assert re.fullmatch(QUESTION, turns[-1]["query"])
    assert asked > 100
    assert changed > 5


def last_pair(turns: list[dict]) -> tuple[str, str]:
    return re.fullmatch(QUESTION, turns[-1]["query"])[1], turns[-1]["answer"]


def test_what_is_asked_for_at_the_end_was_said_of_that_name_in_no_training_row():
    told = {
        re.fullmatch(STATEMENT, turn["query"]).groups()
        for turns in dialogues("train", 400)
        for turn in turns
        if turn["answer"] == NOTED
    }
    held_out = [{last_pair(turns) for turns in dialogues(split, 200)} for split in ("validation", "test")]
    assert len(told) > 150
    assert not told & (held_out[0] | held_out[1])
    assert not held_out[0] & held_out[1]
    for name in NAMES:
        by_split = values_of(name, PLACE)
        assert sorted(value for values in by_split.values() for value in values) == sorted(PLACES)
        assert {split: len(values) for split, values in by_split.items()} == {"test": 1, "validation": 1, "train": 6}
    assert len(values_of(LETTERS[0], NUMBER)["test"]) == 4


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


@pytest.mark.parametrize("options", [{"chat": 0.1}, {"pair": 0.2}, {"words": 12}])
def test_what_this_world_has_no_words_for_is_refused(options):
    [name] = options
    with pytest.raises(InputError, match=rf"generator: {name}.*puzzles' world"):
        generate({"steps": 2, **options}, 5, "train", 0)
