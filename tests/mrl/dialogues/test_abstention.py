"""Answers that say that nothing was told are known, and take memory."""

import pytest

from data.generators.rich_language.dialogue import ABSTENTION
from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import parse_row


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ABSTENTION, True),
        ("You have not told me.", True),
        ("Sorry, I do not know", True),
        ("I don’t know that yet.", True),
        ("You never mentioned it.", True),
        ("Nobody has told me.", True),
        ("You haven't mentioned that yet, sorry.", True),
        ("I haven't been told.", True),
        ("I do not yet know.", True),
        ("Oh, I didn't know that!", False),
        ("I did not know that she moved.", False),
        ("I never know what to wear.", False),
        ("You told me that she lives in Corvo.", False),
        ("She lives in Corvo, I know.", False),
        ("It is never too late to talk.", False),
        ("You did not like it there, and moved to Corvo.", False),
        ("", False),
    ],
)
def test_abstentions_are_told_from_answers(answer, expected):
    assert abstains(answer) is expected


def test_a_question_about_what_wasnt_told_takes_memory_and_has_no_distance():
    told = {"query": "Mira lives in Corvo.", "answer": "Noted."}
    untold = {"query": "How old is Mira?", "answer": "You haven't told me that yet."}
    asked = {"query": "Where does Mira live?", "answer": "In Corvo.", "facts": ["Corvo"]}
    *_, first, second, last = parse_row(
        {**told, "interactions": [untold, untold | {"facts": ["told me"]}, asked]}, "row"
    )
    assert (first.asks, first.distance, first.facts) == (True, 0, ("You haven't told",))
    assert (second.asks, second.distance, second.facts) == (True, 0, ("told me",))  # though the answer before says it
    assert (last.asks, last.distance) == (True, 3)


def test_nothing_is_settled_where_nothing_is_marked():
    row = {"query": "How old is Mira?", "answer": "You haven't told me that yet.", "interactions": []}
    [exchange] = parse_row(row, "row")
    assert exchange.facts == ()
    assert exchange.asks
