"""Questions that follow each other asked at once, and only those that stay answerable."""

from mrl.dialogues.dataset import Conversation, parse_row
from mrl.own_dialogues import joining
from mrl.own_dialogues.joining import joined_questions, with_joined_questions

TOLD = {"query": "Ann has a cat. Bob has a dog.", "answer": "Noted.", "facts": []}
ANN = {"query": "What has Ann?", "answer": "A cat.", "facts": ["cat"], "kind": "thing"}
BOB = {"query": "What has Bob?", "answer": "A dog.", "facts": [["dog", "hound"]], "kind": "thing"}
UNTOLD = {"query": "What has Cid?", "answer": "You haven't told me that yet."}
LATE = {"query": "Dora has an owl. What has Dora?", "answer": "An owl.", "facts": ["owl"], "distance": 1}
TALK = {"query": "Fine day.", "answer": "It is.", "facts": []}


def dialogue(*turns: dict) -> Conversation:
    first, *rest = turns
    return Conversation(parse_row({**first, "interactions": rest}, "here"), "here")


def joined(*turns: dict) -> list[tuple[str, str, int]]:
    (made,) = with_joined_questions([dialogue(*turns)], seed=0)
    return [(e.query, e.answer, e.distance) for e in made.exchanges[1:]]


def test_two_questions_become_one_and_distances_follow(monkeypatch):
    monkeypatch.setattr(joining, "JOINED", 1.0)
    (made,) = with_joined_questions([dialogue(TOLD, TALK, ANN, BOB, ANN, TALK, BOB)], seed=0)
    _, _, both, ann, _, bob = made.exchanges
    assert (both.query, both.answer) == ("What has Ann? What has Bob?", "A cat. A dog.")
    assert both.facts == ("cat", ("dog", "hound"))
    assert (both.kind, both.asks, both.distance) == ("", True, 2)
    assert (ann.distance, bob.distance) == (1, 3), "a turn fewer lies between"


def test_what_would_not_stay_answerable_is_left_alone(monkeypatch):
    monkeypatch.setattr(joining, "JOINED", 1.0)
    # Another spelling of the first one's fact, and an answer that says the first one's fact too: no second fact.
    same = {**ANN, "query": "And Ann?", "facts": [["cat", "tom"]]}
    both = {**BOB, "answer": "A dog, which chases the cat."}
    for other in (UNTOLD, TALK, ANN, LATE, same, both):
        assert [query for query, _, _ in joined(TOLD, ANN, other)] == [ANN["query"], other["query"]]


def test_what_is_said_to_a_question_of_the_other_side_is_no_second_question(monkeypatch):
    monkeypatch.setattr(joining, "JOINED", 1.0)
    asks_back = {**ANN, "answer": "A cat. Shall I call it? "}
    assert len(joined(TOLD, asks_back, BOB)) == 2
    assert len(joined(TOLD, ANN, {**BOB, "answer": "A dog. Shall I call it?"})) == 1


def test_distances_that_were_given_point_to_the_same_turns(monkeypatch):
    monkeypatch.setattr(joining, "JOINED", 1.0)
    first = {"query": "Bob has a dog.", "answer": "Noted.", "facts": []}
    second = {"query": "Ann has a cat.", "answer": "Noted.", "facts": []}
    ann, bob = {**ANN, "distance": 2}, {**BOB, "distance": 4}
    # What was told in other words than the fact's: the words don't have its distance.
    bird = {"query": "And Ann's bird?", "answer": "It is green.", "facts": ["green"], "distance": 5}
    assert joined(first, second, TALK, ann, bob, TALK, bird)[2:] == [
        ("What has Ann? What has Bob?", "A cat. A dog.", 3),
        ("Fine day.", "It is.", 0),
        ("And Ann's bird?", "It is green.", 4),
    ]


def test_questions_made_are_counted():
    given = [dialogue(TOLD, ANN, BOB)] * 40
    made = with_joined_questions(given, seed=3)
    assert joined_questions(given, made) == sum(len(c.exchanges) == 2 for c in made) > 0


def test_half_of_the_neighbours_are_joined_and_the_seed_says_which():
    given = [dialogue(TOLD, ANN, BOB)] * 400
    made = with_joined_questions(given, seed=3)
    assert 150 < sum(len(c.exchanges) == 2 for c in made) < 250
    assert made == with_joined_questions(given, seed=3)
    assert made != with_joined_questions(given, seed=4)
