"""Memory episodes: every answer follows from what was said before, and held-out splits share nothing with training."""

import re
from collections import Counter

import pytest

from data.generators.episode_topics import generate, generate_chats
from data.generators.episode_world import NOTED, PERSON, SMALL_TALK, THING, Attribute, pairs
from data.generators.episodes import SCHEMA, Names
from pipeline.errors import InputError

NAME = r"(?P<{}>[A-Za-z]+ [A-Za-z]+)"
VALUE = r"(?P<v>[A-Za-z]+(?: [A-Za-z]+)?)"


def episodes(entries: int, split: str = "test", seed: int = 3, **options) -> list[dict]:
    return [row for batch in generate(options, entries, split, seed) for row in batch.to_pylist()]


def matching(template: str, text: str) -> dict[str, str] | None:
    """The words in a template's places, None where the text isn't of its form."""
    pattern = re.escape(template).replace(r"\{v\}", VALUE)
    for place in "sab":
        pattern = pattern.replace(rf"\{{{place}\}}", NAME.format(place))
    found = re.fullmatch(pattern, text)
    return found.groupdict() if found else None


def first_match(kind: str, text: str) -> tuple[Attribute, dict[str, str]] | None:
    forms = ((a, t) for a in (*PERSON, *THING) for t in getattr(a, kind))
    return next(((a, found) for a, t in forms if (found := matching(t, text))), None)


def stated(text: str) -> list[tuple[str, str, str]]:
    """(subject, attribute, value) of every fact in a statement; the second of two has no subject of its own."""
    head, joined, rest = text.partition(" and ")
    found = first_match("tell", f"{head.removesuffix('.')}.") or first_match("change", text)
    assert found, text
    attribute, words = found
    facts = [(words["s"], attribute.name, words["v"])]
    if joined:
        more = first_match("tell", f"{words['s']} {rest}") or first_match("tell", f"The {words['s']} {rest}")
        assert more, text
        facts.append((words["s"], more[0].name, more[1]["v"]))
    return facts


def asked(text: str) -> list[tuple[str, str]]:
    """(subject, attribute) of every fact that a question is about."""
    if found := first_match("ask", text):
        return [(found[1]["s"], found[0].name)]
    for attribute in (*PERSON, *THING):
        if found := matching(attribute.ask_both, text):
            return [(found["a"], attribute.name), (found["b"], attribute.name)]
    one, other, subject = re.fullmatch(r"What are the (\w+) and the (\w+) of (?:the )?(\w+ \w+)\?", text).groups()
    return [(subject, one), (subject, other)]


@pytest.mark.parametrize("steps", [1, 3, 8, 32])
def test_answers_facts_and_distances_follow_from_what_was_said(steps):
    kinds: Counter[str] = Counter()
    for row in episodes(150, steps=steps, pair=0.3):
        turns = [row, *row["interactions"]]
        assert len(turns) == steps + 1
        value, said = {}, {}
        for number, turn in enumerate(turns):
            if turn["answer"] == NOTED:
                for subject, attribute, word in stated(turn["query"]):
                    kinds["changed"] += value.get((subject, attribute), word) != word
                    value[subject, attribute], said[subject, attribute] = word, number
                assert (turn["facts"], turn["distance"]) == ([], None)
            elif (turn["query"], turn["answer"]) in SMALL_TALK:
                kinds["small talk"] += 1
                assert (turn["facts"], turn["distance"]) == ([], None)
            else:
                keys = asked(turn["query"])
                assert turn["facts"] == [value[key] for key in keys]
                assert turn["answer"] == " and ".join(turn["facts"])
                assert turn["distance"] == max(number - said[key] for key in keys)
                said |= dict.fromkeys(keys, number)  # the answer says it again
                kinds["asked for two" if len(keys) > 1 else "asked"] += 1
        assert turns[-1]["facts"], "an episode ends with a question"
    wanted = {"asked"} if steps == 1 else {"asked", "asked for two", "small talk", "changed"}
    assert wanted <= {kind for kind, times in kinds.items() if times}


def test_last_questions_reach_back_equally_often():
    last = Counter(row["interactions"][-1]["distance"] for row in episodes(800, steps=8))
    assert set(last) == set(range(1, 9))
    assert all(120 < last[power] < 240 for power in (1, 2, 4, 8)), last  # 800 x (0.8 / 4 + 0.2 / 8) = 180


def test_splits_share_no_person_and_no_thing():
    splits = {split: Names.of(split) for split in ("train", "validation", "test")}
    for kind in ("people", "things"):
        held = [set(getattr(names, kind)) for names in splits.values()]
        assert all(held)
        assert sum(map(len, held)) == len(set.union(*held)) == 24 * 24
    spoken = {turn["query"] for row in episodes(200, "test") for turn in [row, *row["interactions"]]}
    assert not [name for name in splits["train"].people for query in spoken if name in query]
    assert pairs("test", ("Alba",), ("Arden",)) + pairs("train", ("Alba",), ("Arden",)) + pairs(
        "validation", ("Alba",), ("Arden",)
    ) == ["Alba Arden"]


def test_chance_is_low_and_turns_are_short():
    assert all(len(a.values or Names.of("test").things) >= 16 for a in (*PERSON, *THING))
    rows = episodes(300, steps=8)
    longest = max(len(f"{t['query']} {t['answer']}".split()) for r in rows for t in [r, *r["interactions"]])
    assert longest <= 20


def test_equal_arguments_make_equal_rows_and_more_rows_keep_the_first():
    assert episodes(40) == episodes(600)[:40]
    assert episodes(40) != episodes(40, seed=4)
    assert next(iter(generate({}, 3, "train", 0))).schema == SCHEMA


@pytest.mark.parametrize(
    ("options", "entries", "split", "message"),
    [
        ({"stepps": 3}, 5, "train", "steps"),
        ({"steps": 0}, 5, "train", "at least 1"),
        ({"pair": 2}, 5, "train", "pair should be at most 1"),
        ({"tell": 0, "ask": 0}, 5, "train", "tell and ask are both 0"),
        ({"attributes": 0}, 5, "train", "attributes should be at least 1"),
        ({}, None, "train", "entries"),
        ({}, 5, "dev", "dev"),
    ],
)
def test_bad_options_are_refused_by_name(options, entries, split, message):
    with pytest.raises(InputError, match=message):
        generate(options, entries, split, 0)


def attributes_told(**options) -> list[Counter]:
    """How often each attribute is told of somebody or something, for each of 300 episodes."""
    options = {"steps": 8, "entities": 3, "facts": 4, "pair": 0, "change": 0, **options}
    rows = [row for batch in generate(options, 300, "train", 5) for row in batch.to_pylist()]
    told = [[turn["query"] for turn in (row, *row["interactions"]) if turn["answer"] == NOTED] for row in rows]
    return [
        Counter(
            attribute.name
            for query in queries
            for attribute in (*PERSON, *THING)
            if any(re.fullmatch(form.format(s=".+", v=".+"), query) for form in attribute.tell)
        )
        for queries in told
    ]


def test_rival_facts_can_only_be_told_apart_by_whose_they_are():
    def rivals(share: float) -> float:
        return sum(max(kinds.values()) > 1 for kinds in attributes_told(rival=share)) / 300

    assert rivals(1.0) > rivals(0.0) + 0.2


@pytest.mark.parametrize("most", [1, 2])
def test_an_episode_of_few_attributes_tells_no_others(most):
    told = attributes_told(attributes=most)
    assert {len(kinds) for kinds in told} == set(range(1, most + 1))
    every = Counter(name for kinds in told for name in kinds)
    assert set(every) == {attribute.name for attribute in (*PERSON, *THING)}


def test_chats_are_the_same_episodes():
    arguments = ({"steps": 3}, 5, "train", 9)
    episodes, chats = (
        [row for batch in make(*arguments) for row in batch.to_pylist()] for make in (generate, generate_chats)
    )
    for episode, chat in zip(episodes, chats, strict=True):
        turns = [episode, *episode["interactions"]]
        assert [m["role"] for m in chat["messages"]] == ["user", "assistant"] * 4
        assert [m["content"] for m in chat["messages"][::2]] == [turn["query"] for turn in turns]
        assert [m["content"] for m in chat["messages"][1::2]] == [turn["answer"] for turn in turns]


@pytest.mark.parametrize(
    ("options", "key", "lower"),
    [
        ({"facts": 30, "attributes": 1, "steps": 32}, "facts", 3),
        ({"facts": 60, "attributes": 9, "steps": 64, "language": "rich"}, "facts", 2),
        ({"facts": 30, "entities": 30, "steps": 16, "topic": "change"}, "facts", 2),
        ({"facts": 2, "entities": 30, "steps": 64, "topic": "change"}, "steps", 16),
    ],
)
def test_more_to_tell_than_there_are_names_is_one_line_and_no_endless_search(options, key, lower):
    begins = rf"^generator\.{key} is {options[key]}, but .* of a world of 6 words has no more than [47] names of a kind"
    with pytest.raises(InputError, match=rf"{begins}, .*; lower {key}, or raise words$"):
        episodes(200, words=6, **options)
    assert len(episodes(200, words=6, **options | {key: lower})) == 200, "what the line says helps"


def test_a_world_of_all_words_is_not_to_be_raised():
    with pytest.raises(InputError, match="; lower facts$"):
        episodes(1, steps=255, facts=200, entities=200, attributes=1, tell=1, ask=0, chat=0, change=0)
