"""One meaning of "said" for marks, rewards and evaluation; distances and questions where rows don't give them."""

import pytest
import torch

from mrl.dialogues.dataset import parse_row
from mrl.dialogues.facts import case_variants, find_fact, recalled, share_said
from mrl.rl.episode_dataset import spellings, vocabulary_of
from mrl.rl.rewards.facts import fact_recall
from mrl.rl.rewards.words import Words
from mrl.rl.trajectory import NO_TOKEN


def test_a_fact_is_recalled_as_whole_words_in_order():
    assert recalled("It is the red key.", ["red key"])
    assert recalled("Red Key and a lamp", ["lamp", "red key"])
    assert recalled("at 14:25, on Tuesday", ["14:25"])
    assert not recalled("the key is red", ["red key"])
    assert not recalled("a bored keyboard", ["red", "key"])
    assert not recalled("red", [])
    assert not recalled("", ["red"])
    assert not recalled("anything", ["!"])


def test_a_place_is_where_the_words_stand():
    text = "She said: Red,  KEY!"
    assert text[slice(*find_fact(text, "red key"))] == "Red,  KEY"
    assert find_fact(text, "re") is None


@pytest.mark.parametrize("said", ["cat", "Cat", "dog", "the cat", "cat ."])
@pytest.mark.parametrize("fact", ["cat", "Cat", "CAT"])
def test_rewards_and_evaluation_agree(said, fact, tokenizer, model):
    known = vocabulary_of(tokenizer, model.get_input_embeddings().weight, model.config.frame)
    ways = spellings(tokenizer, {fact})[fact]
    width = max(map(len, ways))
    table = torch.tensor([[[ids + [NO_TOKEN] * (width - len(ids)) for ids in ways]]])
    ids = torch.tensor([tokenizer(said, add_special_tokens=False)["input_ids"]])
    share = float(fact_recall(Words(ids, torch.ones_like(ids, dtype=torch.bool)), table, known))
    unknown = tokenizer.unk_token_id in ids[0].tolist()  # `Cat` is no word of this tokenizer
    assert share == (recalled(said, [fact]) and not unknown)


def test_one_spelling_of_a_fact_is_enough():
    doctor = ("Dr. Smith", "Smith")
    assert recalled("It was smith, at 7.", [doctor, "7"])
    assert not recalled("It was Smithson, at 7.", [doctor, "7"])
    said = "Ask Dr. Smith or Smith."
    assert said[slice(*find_fact(said, ("Smith", "Dr. Smith")))] == "Dr. Smith"  # the longer one, whatever the order
    assert case_variants(("a b", "c"))[:2] == ["a b", "A B"]


@pytest.mark.parametrize("fact", [("the cat", "dog"), ("dog", "the cat"), ("owl", "fox")])
@pytest.mark.parametrize("said", ["cat", "dog", "the cat"])
def test_rewards_know_every_spelling(said, fact, tokenizer, model):
    known = vocabulary_of(tokenizer, model.get_input_embeddings().weight, model.config.frame)
    ways = spellings(tokenizer, {fact})[fact]
    width = max(map(len, ways))
    table = torch.tensor([[[ids + [NO_TOKEN] * (width - len(ids)) for ids in ways]]])
    ids = torch.tensor([tokenizer(said, add_special_tokens=False)["input_ids"]])
    share = float(fact_recall(Words(ids, torch.ones_like(ids, dtype=torch.bool)), table, known))
    assert share == recalled(said, [fact])


def test_distances_of_facts_with_spellings_are_derived():
    told, other = turn("Call Dr. Smith", "Fine."), turn("Tea?", "Yes.")
    assert settled(told, other, turn("Whom?", "Smith", facts=[["Doctor Smith", "Smith"]])) == [
        (0, False), (0, False), (2, True),
    ]  # fmt: skip


@pytest.mark.parametrize("facts", ["d", [1], [[]], [["a", ""]], [["a", ["b"]]], [" "]])
def test_facts_of_another_form_are_refused(facts):
    with pytest.raises(Exception, match=r"f: row 7: interactions\[0\]\.facts must be a list of strings .* spellings"):
        parse_row({**turn("a", "b"), "interactions": [turn("c", "d", facts=facts)]}, "f: row 7")


def test_cases_start_with_the_one_given():
    assert case_variants("new York") == ["new York", "new york", "NEW YORK", "New York"]


def turn(query: str, answer: str, **marks) -> dict:
    return {"query": query, "answer": answer, **marks}


def settled(*turns: dict) -> list[tuple[int, bool]]:
    first, *rest = turns
    return [(e.distance, e.asks) for e in parse_row({**first, "interactions": rest}, "f: row 1")]


def test_distances_are_derived_from_where_facts_were_last_said():
    assert settled(
        turn("Ann has the cat", "noted"),
        turn("Bob has the dog", "noted"),
        turn("what has ann", "the Cat", facts=["cat"]),
        turn("and who has the cat and the dog", "Ann and Bob", facts=["ann", "Bob"]),
        turn("is it the owl", "the owl", facts=["owl"]),
        turn("what else", "the fox", facts=["fox"]),
    ) == [(0, False), (0, False), (2, True), (2, True), (0, False), (0, True)]


def test_what_a_row_gives_is_kept_and_a_row_without_marks_asks_everywhere():
    assert settled(turn("a", "b"), turn("c", "d")) == [(0, True), (0, True)]
    assert settled(turn("a", "b", facts=[]), turn("c", "d", facts=[])) == [(0, False), (0, False)]
    assert settled(turn("a", "cat"), turn("c", "cat"), turn("d", "cat", facts=["cat"], distance=2)) == [
        (0, False), (0, False), (2, True),
    ]  # fmt: skip
    assert settled(turn("a", "b"), turn("c", "d", distance=1.0)) == [(0, False), (1, True)]


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        ("three", r"interactions\[0\]\.distance is 'three'; give a number of turns"),
        (True, "distance is True"),
        (1.5, "distance is 1.5"),
        (float("nan"), "distance is nan"),
        (-3, r"distance is -3, but 1 turns come before"),
        (50, r"f: row 7: interactions\[0\]\.distance is 50, but 1 turns come before this one"),
    ],
)
def test_a_distance_that_cannot_be_is_refused_with_its_place(distance, message):
    row = {**turn("a", "b"), "interactions": [turn("c", "d", facts=["d"], distance=distance)]}
    with pytest.raises(Exception, match=message):
        parse_row(row, "f: row 7")


def test_the_share_of_the_facts_that_is_said_counts_each_once():
    facts = ["Corvo", ("Dr. Smith", "Smith"), "purple ladder"]
    assert share_said("corvo and SMITH and a ladder", facts) == pytest.approx(2 / 3)
    assert share_said("Corvo, Corvo", facts) == pytest.approx(1 / 3)
    assert share_said("a purple ladder", ["purple  ladder"]) == 1
    assert share_said("Corvo", []) == share_said("", facts) == 0
