"""Cumulative and long-term episodes: the last question asks for all that was told, or goes back to the first turn."""

import hashlib
import json

import pytest

from data.generators.episode_topics import generate
from data.generators.episode_world import NOTED, SMALL_TALK
from pipeline.errors import InputError
from tests.data.generators.test_episodes import asked, episodes, stated


@pytest.mark.parametrize("steps", [1, 2, 8, 16, 32])
@pytest.mark.parametrize("options", [{}, {"ask": 0.0, "facts": 40}, {"pair": 0.6, "entities": 1}])
def test_an_extended_topic_ends_with_a_question_for_all_that_was_told(steps, options):
    kinds = set()
    for row in episodes(60, steps=steps, topic="extend", **options):
        turns = [row, *row["interactions"]]
        assert len(turns) == steps + 1
        told: dict[tuple[str, str], str] = {}
        said: dict[tuple[str, str], int] = {}
        for number, turn in enumerate(turns[:-1]):
            if turn["answer"] == NOTED:
                more = {(subject, attribute): value for subject, attribute, value in stated(turn["query"])}
                assert not more.keys() & told.keys(), "each statement tells something new"
                told |= more
                said |= dict.fromkeys(more, number)
                kinds.add("told")
            else:
                keys = asked(turn["query"])
                assert turn["facts"] == [told[key] for key in keys]
                said |= dict.fromkeys(keys, number)
                kinds.add("asked")
        subjects = dict.fromkeys(subject for subject, _ in told)
        assert len({subject.split()[-1] for subject in subjects}) == 1, "one topic: a family or a kind of thing"
        last = turns[-1]
        names = last["query"].removeprefix("Tell me about ").removesuffix(".").split(" and ")
        assert [name.removeprefix("the ") for name in names] == list(subjects)
        profile = ["home", "job", "food", "pet", "wish", "place", "price", "colour"]
        order = sorted(told, key=lambda key: (list(subjects).index(key[0]), profile.index(key[1])))
        assert last["facts"] == [told[key] for key in order]
        assert last["answer"] == " and ".join(last["facts"])
        assert last["distance"] == steps - min(said.values())
    assert kinds == ({"told"} if steps == 1 or (steps < 8 and "facts" in options) else {"told", "asked"})


def test_without_questions_every_turn_of_an_extended_topic_tells_something_more():
    for row in episodes(40, steps=8, topic="extend", ask=0.0, pair=0.0, facts=40, split="train"):
        first, *middle, last = [row, *row["interactions"]]
        assert [turn["answer"] for turn in (first, *middle)] == [NOTED] * 8
        assert len(last["facts"]) == 8


@pytest.mark.parametrize("steps", [1, 2, 8, 16, 32])
def test_a_changed_topic_goes_back_to_the_first_turn_and_no_other(steps):
    kinds = set()
    for row in episodes(60, steps=steps, topic="change", pair=0.3):
        first, *middle, last = [row, *row["interactions"]]
        assert len(middle) == steps - 1
        told = {(subject, attribute): value for subject, attribute, value in stated(first["query"])}
        assert asked(last["query"]) == list(told)
        assert last["facts"] == list(told.values())
        assert last["answer"] == " and ".join(told.values())
        assert last["distance"] == steps
        subjects = {subject for subject, _ in told}
        small_talk = []
        for turn in middle:
            assert (turn["facts"], turn["distance"]) == ([], None)
            if turn["answer"] == NOTED:
                (subject,) = {subject for subject, _, _ in stated(turn["query"])}
                assert subject not in subjects, "every statement is about another one"
                subjects.add(subject)
                kinds.add("told")
            else:
                small_talk.append((turn["query"], turn["answer"]))
                kinds.add("small talk")
        assert set(small_talk) <= set(SMALL_TALK)
        assert len(small_talk) == len(set(small_talk))
    assert kinds == (set() if steps == 1 else {"told", "small talk"})


def test_mixed_rows_are_those_of_before_there_were_topics():
    rows = [*episodes(60, "train", 7), *episodes(60, "train", 7, steps=16, pair=0.5, rival=0.8, topic="mixed")]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "fc6f35cba7c18892"


def test_topics_say_nothing_that_mixed_episodes_dont_say():
    """So the quickstart's tokenizer, which reads mixed ones, has a token for every word."""

    def words(topic: str, **options) -> set[str]:
        rows = [row for seed in range(3) for row in episodes(400, "train", seed, topic=topic, steps=8, **options)]
        turns = [turn for row in rows for turn in (row, *row["interactions"])]
        return {word.strip(".,!?") for turn in turns for word in f"{turn['query']} {turn['answer']}".split()}

    mixed = words("mixed")
    assert words("extend") | words("change") <= mixed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": "wander"}, "topic: 'wander' is not one of"),
        ({"topic": "extend", "chat": 0.2}, "chat is 0.2, but topic: extend has no such turns"),
        ({"topic": "extend", "change": 0.2}, "change is 0.2"),
        ({"topic": "extend", "likeness": 0.1}, "likeness is 0.1, but with topic: extend whoever joins"),
        ({"topic": "change", "ask": 0.2}, "ask is 0.2, but topic: change"),
    ],
)
def test_keys_without_effect_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        generate(options, 5, "train", 0)
