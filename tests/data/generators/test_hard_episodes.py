"""Episodes with mistaken answers or facts that nobody asks for: what is said and wanted, and how far back it lies."""

from collections import Counter

import pytest

from data.generators import episode_topics
from data.generators.episode_world import NOTED, SMALL_TALK
from data.generators.hard_episodes import generate
from pipeline.errors import InputError
from tests.data.generators.test_episodes import asked, stated


def episodes(entries: int, seed: int = 3, make=generate, **options) -> list[list[dict]]:
    rows = [row for batch in make(options, entries, "test", seed) for row in batch.to_pylist()]
    return [[row, *row["interactions"]] for row in rows]


def test_mistakes_change_answers_and_nothing_else():
    plain, hard = episodes(200, make=episode_topics.generate, pair=0.3), episodes(200, pair=0.3, mistaken=0.5)
    for before, after in zip(plain, hard, strict=True):
        assert [(turn["query"], turn["facts"]) for turn in before] == [(turn["query"], turn["facts"]) for turn in after]
    assert episodes(200, pair=0.3) == plain
    few = {"attributes": 2, "facts": 4, "entities": 3}
    assert episodes(200, **few) == episodes(200, make=episode_topics.generate, **few)


def test_a_mistake_is_what_holds_of_another_and_does_not_say_the_fact_again():
    counts: Counter[str] = Counter()
    for turns in episodes(200, pair=0.3, mistaken=0.5):
        value, said = {}, {}
        for number, turn in enumerate(turns):
            if turn["answer"] == NOTED:
                for subject, sort, word in stated(turn["query"]):
                    value[subject, sort], said[subject, sort] = word, number
            elif (turn["query"], turn["answer"]) not in SMALL_TALK:
                keys = asked(turn["query"])
                assert turn["facts"] == [value[key] for key in keys]
                assert turn["distance"] == max(number - said[key] for key in keys)
                given = turn["answer"].split(" and ")
                wrong = [place for place, fact in enumerate(turn["facts"]) if given[place] != fact]
                assert len(given) == len(keys)
                assert len(wrong) <= 1
                said |= {key: number for place, key in enumerate(keys) if place not in wrong}
                counts["asked"] += 1
                for place in wrong:
                    others = {v for (_, sort), v in value.items() if sort == keys[place][1]} - {turn["facts"][place]}
                    counts["of another" if given[place] in others else "of nobody"] += 1
                    assert given[place] in others or not others
    assert counts["of another"] > 40
    assert counts["of another"] + counts["of nobody"] == pytest.approx(counts["asked"] / 2, rel=0.15)


def test_nothing_but_the_named_sorts_is_asked_for():
    told: Counter[str] = Counter()
    for turns in episodes(150, steps=16, entities=12, facts=24, pair=0.5, asked=["home", "place"]):
        for turn in turns:
            if turn["facts"]:
                assert {sort for _, sort in asked(turn["query"])} <= {"home", "place"}
            elif turn["answer"] == NOTED:
                told.update(sort for _, sort, _ in stated(turn["query"]))
        assert turns[-1]["facts"]
    assert len(told) == 7
    assert told["home"] + told["place"] < told.total() / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"asked": ["hom"]}, "asked: 'hom' is no sort of facts.*home"),
        ({"asked": []}, "asked is empty"),
        ({"asked": ["home"], "attributes": 2}, "attributes draws sorts"),
        ({"mistaken": 1.5}, "mistaken should be at most 1"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        generate(options, 5, "train", 0)
