"""Verifiable rewards: what counts as right, and what doesn't."""

import pytest

from pipeline.config import parse_config
from pipeline.errors import InputError
from post_training.accuracy import compared
from post_training.rewards import RewardConfig, reward_functions, verify
from post_training.rewards.verifiers import answer_part, choice, length, number, string, thought


def test_the_answer_is_what_stands_after_the_last_closed_thought():
    assert answer_part("<think>\n1\n</think>\nAnswer: 2") == "Answer: 2"
    assert answer_part("plain 3") == "plain 3"
    assert answer_part("<think> never closed, 4") == ""
    assert answer_part("<think>a</think> 5 <think> again") == ""


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("It is 72.", "72", 1), ("5 and then 1,200.0", "1200", 1), ("-3", "3", 0), ("−3", "-3", 1),
        ("<think>72</think> I don't know", "72", 0), ("<think>so 72", "72", 0), ("72", "none", 0), ("$.50", "0.5", 1),
        ("72 of 80", "72", 0),
    ],
)  # fmt: skip
def test_numbers(said, wanted, right):
    assert number(said, wanted) == right


def test_choices_and_words():
    assert choice("The answer is (C).", "C") == choice("Not A but B", "(B)") == 1
    assert choice("I don't know", "D") == choice("Cats", "C") == choice("(A)", "B") == 0
    assert string(" The Park. ", "the  park") == 1
    assert string("<think>x</think>\nAnswer: 6", "6", r"Answer: (\w+)") == 1
    assert string("Answer: 6 Answer: 7", "6", r"Answer: (\w+)") == string("6", "6", r"Answer: (\w+)") == 0
    assert string("", "") == 0


def test_thoughts_and_length():
    assert thought("<think>\nso 3\n</think>\nAnswer: 3") == 1
    for bad in ("Answer: 3", "<think>3", "<think></think>3", "<think>3</think>", "x <think>3</think> 3",
                "<think>a</think>b</think>c", "<think>a<think>b</think>c"):  # fmt: skip
        assert thought(bad) == 0, bad
    assert [length(n, 10) for n in (1, 10, 15, 20, 40)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_trl_gets_a_function_for_each_entry_of_the_recipe():
    first, second = reward_functions([RewardConfig(kind="number"), RewardConfig(kind="length", tokens=2)])
    said = [[{"role": "assistant", "content": text}] for text in ("it is 3", "4")]
    given = {"completions": said, "completion_ids": [[1, 2, 3], [4]], "reference": ["3", "3"], "prompts": []}
    assert (first.__name__, first(**given)) == ("number", [1.0, 0.0])
    assert (second.__name__, second(**given)) == ("length", [0.5, 1.0])
    assert verify(RewardConfig(kind="choice"), "B", "B", 1) == 1.0


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "numbr"}, "number"),
        ({"kind": "length"}, "kind: length needs tokens"),
        ({"kind": "number", "tokens": 3}, "tokens belongs to kind: length"),
        ({"kind": "choice", "pattern": "(x)"}, "pattern belongs to kind: string"),
        ({"kind": "string", "pattern": "(x"}, "no regular expression"),
        ({"kind": "string", "pattern": "x"}, "has 0 groups"),
        ({"kind": "thought", "weight": 0}, "weight"),
    ],
)
def test_entries_that_mean_nothing_are_refused(entry, said):
    with pytest.raises(InputError, match=said):
        parse_config(RewardConfig, entry)


def test_the_interval_is_of_the_differences_question_by_question():
    # Differences 1, 0, 0, 1: mean 0.5, deviation sqrt(1/3); t of 3 degrees at 97.5 % is 3.1824.
    found = compared([0, 0, 1, 0], [1, 0, 1, 1])
    assert (found["before"], found["after"], found["n"]) == (0.25, 0.75, 4)
    half = 3.1824 * (1 / 3) ** 0.5 / 2
    assert (found["low"], found["high"]) == (pytest.approx(0.5 - half, abs=1e-4), pytest.approx(0.5 + half, abs=1e-4))
