"""Of every generated pair the chosen answer is better in what its row says, and in nothing else."""

import re

import pytest

from data.generators.dialogue_preferences import ABSTENTION, generate, generate_mixed
from pipeline.errors import InputError
from tests.data.generators.test_episodes import asked, stated

POLITE = re.compile(r"thank you|my pleasure|sorry", re.IGNORECASE)


def turns(maker, entries: int = 60, **options) -> list[dict]:
    rows = [row for batch in maker({"steps": 8, **options}, entries, "test", 3) for row in batch.to_pylist()]
    return [turn for row in rows for turn in (row, *row["interactions"])]


def qualities(answer: str, turn: dict) -> set[str]:
    """What an answer has of what applies to its turn."""
    found = {"politeness"} if POLITE.search(answer) else set()
    found |= {"brevity"} if len(answer.split()) <= 8 else set()
    if turn["told"] and all(fact in answer for fact in turn["facts"]):
        found.add("answer")
    if turn["told"] is False and answer == ABSTENTION:
        found.add("abstention")
    return found


def test_the_chosen_answer_has_all_and_the_rejected_one_lacks_one():
    made = turns(generate)
    for turn in made:
        asked = {True: {"answer"}, False: {"abstention"}, None: set()}[turn["told"]]
        wanted = {"politeness", "brevity"} | asked
        assert qualities(turn["answer"], turn) == wanted, turn
        assert qualities(turn["rejected"], turn) == wanted - {turn["quality"]}, turn
    assert {turn["quality"] for turn in made} == {"politeness", "brevity", "answer", "abstention"}


def test_shares_of_what_is_judged_are_as_asked_for():
    made = turns(generate, 300, beside=0.7, judged=0.4)
    told = [turn["quality"] for turn in made if turn["told"]]
    assert told.count("answer") / len(told) == pytest.approx(0.7, abs=0.05)
    assert {*told} == {"answer", "politeness", "brevity"}
    others = [turn for turn in made if turn["told"] is None]
    judged = [turn for turn in others if turn["rejected"] is not None]
    assert len(judged) / len(others) == pytest.approx(0.4, abs=0.05)
    assert all(turn["answer"] and not turn["quality"] for turn in others if turn["rejected"] is None)
    assert all(turn["rejected"] for turn in made if turn["told"] is not None)


def test_what_was_never_told_is_asked_only_where_nobody_has_told_it():
    for row in (row for batch in generate({"steps": 12, "untold": 0.6}, 80, "test", 3) for row in batch.to_pylist()):
        known: set[tuple[str, str]] = set()
        for turn in (row, *row["interactions"]):
            if turn["told"] is None and turn["query"].endswith(".") and "Noted" in turn["answer"]:
                known |= {(subject, attribute) for subject, attribute, _ in stated(turn["query"])}
            elif turn["told"] is not None:
                assert turn["told"] == (set(asked(turn["query"])) <= known), turn


def test_mixed_manners_answer_what_was_asked_and_are_better_as_often_as_asked_for():
    made = turns(generate_mixed, 200, chosen_share=0.3, untold=0.4)
    told = [turn for turn in made if turn["told"]]
    assert all("answer" in qualities(turn["answer"], turn) for turn in told)
    untold = [turn for turn in made if turn["told"] is False]
    share = sum(turn["answer"] == ABSTENTION for turn in untold) / len(untold)
    assert share == pytest.approx(0.3, abs=0.08)
    assert "rejected" not in made[0]


def test_the_last_question_is_asked_as_far_away_as_the_options_say():
    rows = [row for batch in generate({"steps": 9, "distance": 8}, 40, "test", 3) for row in batch.to_pylist()]
    assert {row["interactions"][-1]["distance"] for row in rows} == {8}


def test_bad_options_are_refused_by_name():
    with pytest.raises(InputError, match="distance is 9; an episode of 8 steps has none such"):
        list(generate({"steps": 8, "distance": 9}, 5, "test", 0))
    with pytest.raises(InputError, match="untold"):
        list(generate({"untold": 1.5}, 5, "test", 0))
    with pytest.raises(InputError, match="beside is not a setting"):
        list(generate_mixed({"beside": 0.5}, 5, "test", 0))
    with pytest.raises(InputError, match="chosen_share is not a setting"):
        list(generate({"chosen_share": 0.5}, 5, "test", 0))
