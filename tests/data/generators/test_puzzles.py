"""The generators behind the quickstart: right answers, held-out content, the same rows from the same seed."""

import random
import re

import pytest

from data.generators.puzzle_chat import GENERATORS, Options, direct_row, preference_row, reasoning_row
from data.generators.puzzles import PLACES, TASKS, TOP, in_split, moved
from pipeline.errors import InputError


def solve(question: str) -> str:
    """Answer a puzzle from its words alone, independently of the generator."""
    if question.startswith("Start with"):
        total = int(re.match(r"Start with (\d+)", question)[1])
        for verb, size in re.findall(r"(add|take) (\d+)", question):
            total += int(size) if verb == "add" else -int(size)
        return str(total)
    values: dict[str, str | int] = {}
    for part in question.split(". ")[0].split(", "):
        if found := re.fullmatch(r"(\w+) is (\d+)", part):
            values[found[1]] = int(found[2])
        elif found := re.fullmatch(r"(\w+) is (\w+)([+-]\d+)", part):
            values[found[1]] = values[found[2]] + int(found[3])
        elif found := re.fullmatch(r"(\w+) is in the (\w+)", part):
            values[found[1]] = found[2]
        else:
            name, way, count, other = re.fullmatch(r"(\w+) is (on|back) (\d) from (\w+)", part).groups()
            ring = PLACES if way == "on" else PLACES[::-1]
            values[name] = ring[(ring.index(values[other]) + int(count)) % 8]
    return str(values[re.search(r"(?:What|Where) is (\w+)\?", question)[1]])


@pytest.mark.parametrize("task", sorted(TASKS))
def test_answers_are_right_slips_are_wrong_and_steps_lead_there(task):
    rng = random.Random(5)
    for _ in range(300):
        puzzle = TASKS[task](rng)
        assert solve(puzzle.question) == puzzle.answer
        assert puzzle.slipped_answer != puzzle.answer
        assert re.split(r"[ =]", puzzle.steps[-1])[-1] == puzzle.answer
        assert re.split(r"[ =]", puzzle.slipped[-1])[-1] == puzzle.slipped_answer
        assert len(puzzle.steps) == len(puzzle.slipped) >= 4
        assert puzzle.steps != puzzle.slipped
        if task != "whereabouts":
            assert all(0 <= int(number) <= TOP for number in re.findall(r"(?<![+-])\b\d+", puzzle.question))


def test_places_go_round():
    assert moved("kitchen", 1) == "garden"
    assert moved("kitchen", -1) == "office"
    assert moved("office", 3) == "school"


@pytest.mark.parametrize("task", sorted(TASKS))
def test_no_single_answer_is_a_good_guess(task):
    rng = random.Random(1)
    answers = [TASKS[task](rng).answer for _ in range(2000)]
    assert max(answers.count(answer) for answer in set(answers)) / len(answers) < 0.2


def rows(kind: str, entries: int, split: str = "train", seed: int = 0, **options: object) -> list[dict]:
    return [row for batch in GENERATORS[kind](options, entries, split, seed) for row in batch]


def test_held_out_content_is_in_no_training_row():
    trained = {row["messages"][0]["content"] for kind in ("reasoning", "direct") for row in rows(kind, 3000)}
    held_out = {row["messages"][0]["content"] for row in rows("reasoning", 300, "test")}
    assert len(held_out) == 300
    assert not held_out & trained
    # By content and not by words: every trained row's key is of the training half.
    rng = random.Random(0)
    keys = [row(rng, Options())[0] for row in (reasoning_row, direct_row, preference_row) for _ in range(200)]
    assert {in_split(key, "train") for key in keys} == {True, False}
    assert all(in_split(key, "train") != in_split(key, "test") for key in keys)


def test_thoughts_come_before_answers_and_pairs_differ_in_what_they_should():
    for row in rows("reasoning", 200):
        content = row["messages"][1]["content"]
        assert re.fullmatch(
            r"<think>\nSo .+\n</think>\n(Answer: \w+|The answer is: \w+\. I hope this helps\.)", content
        )
        assert solve(row["messages"][0]["content"]) == row["answer"]
    assert not any("<think>" in row["messages"][1]["content"] for row in rows("direct", 100) + rows("everyday", 100))
    pairs = rows("preferences", 400)
    assert {row["task"] for row in pairs} == {"manner", "slip", "gap", "surplus", "form"}
    for row in pairs:
        assert row["chosen"][0] == row["rejected"][0]
        assert row["chosen"][1] != row["rejected"][1]
        steps, worse = (row[side][1]["content"].count(",") for side in ("chosen", "rejected"))
        assert worse - steps == {"gap": -1, "surplus": 1}.get(row["task"], 0) or row["task"] == "manner"
        if row["task"] == "surplus":
            last, again = row["rejected"][1]["content"].split("\n</think>")[0].split(", ")[-2:]
            assert last == again
            assert row["chosen"][1]["content"].split("\n</think>")[0].endswith(last)


def test_the_seed_decides_and_wrong_options_are_refused():
    assert rows("everyday", 50, seed=1) == rows("everyday", 50, seed=1) != rows("everyday", 50, seed=2)
    assert rows("reasoning", 20, tasks=["sums"])[0]["task"] == "sums"
    with pytest.raises(InputError, match="sums"):
        rows("reasoning", 5, tasks=["sum"])
    with pytest.raises(InputError, match="entries"):
        list(GENERATORS["reasoning"]({}, None, "train", 0))
