"""Derived questions: the answer follows from two facts that were told, and no single turn says it."""

import re
from collections import Counter

import pytest

from data.generators.derivations import SCHEMA, generate
from data.generators.episode_world import NOTED
from pipeline.errors import InputError

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
).split()
STATEMENTS = {
    "wish": (r"(.+) wants a (.+)\.", r"The wish of (.+) is a (.+)\.", r"(.+) now wants a (.+)\."),
    "place": (r"The (.+) (?:is|lies) in the (.+)\.", r"The (.+) is now in the (.+)\."),
    "price": (r"The (.+?) (?:now )?costs (.+) coins\.", r"The price of the (.+) is (.+)\."),
}
DENSE = {"steps": 9, "derive": 0.9, "facts": 6, "ask": 0.8, "pair": 0, "change": 0.1, "chat": 0.1}


def episodes(entries: int, **options) -> list[dict]:
    rows = [row for batch in generate({**DENSE, **options}, entries, "test", 3) for row in batch.to_pylist()]
    return [[row, *row["interactions"]] for row in rows]


def stated(text: str) -> tuple[str, str, str]:
    """(subject, attribute, value), nothing of what no derivation takes; the forms with `now` come first, for `is in`
    would swallow them."""
    for attribute, forms in STATEMENTS.items():
        for form in reversed(forms):
            if found := re.fullmatch(form, text):
                return found[1], attribute, found[2]
    return "", text, ""


def derived(query: str, value: dict) -> tuple[str, list[tuple[str, str]], str]:
    """Answer, the two facts it takes and the sort, worked out from the words of the question."""
    if found := re.fullmatch(r"What do the (.+) and the (.+) cost together\?", query):
        keys = [(found[1], "price"), (found[2], "price")]
        return NUMBERS[sum(NUMBERS.index(value[key]) for key in keys)], keys, "together"
    if found := re.fullmatch(r"Which costs more, the (.+) or the (.+)\?", query):
        keys = [(found[1], "price"), (found[2], "price")]
        return max(keys, key=lambda key: NUMBERS.index(value[key]))[0], keys, "more"
    (who,) = re.findall(r"wish of (\w+ \w+)", query)
    last = "price" if "cost" in query or "price" in query else "place"
    keys = [(who, "wish"), (value[who, "wish"], last)]
    return value[keys[1]], keys, "hop"


def test_answers_and_distances_follow_from_two_facts_and_thoughts_recite_them():
    sorts: Counter[str] = Counter()
    for turns in episodes(100) + episodes(60, sorts=["together", "more"]):
        value, said, seen = {}, {}, set()
        for number, turn in enumerate(turns):
            if turn["answer"] == NOTED:
                subject, attribute, word = stated(turn["query"])
                value[subject, attribute], said[subject, attribute] = word, number
            elif turn["think"]:
                answer, keys, sort = derived(turn["query"], value)
                sorts[sort] += 1
                assert (turn["answer"], turn["facts"]) == (answer, [answer])
                assert turn["distance"] == max(number - said[key] for key in keys)
                rivals = {subject for subject, attribute in value if attribute == keys[1][1]}
                assert len(rivals) >= (3 if sort == "hop" else 2), "it can't be guessed"
                first, second, *rest = turn["think"].removesuffix(".").split(". ")
                assert [stated(f"{text}.") for text in (first, second)] == [(*key, value[key]) for key in keys]
                assert len(rest) == (sort != "hop"), "what follows from the two is said last"
                question = (answer, *sorted((*key, value[key]) for key in keys))
                assert question not in seen, "once answered it could be remembered whole"
                seen.add(question)
            elif turn["facts"]:
                (fact,) = turn["facts"]
                asked = [key for key, v in value.items() if v == fact and key[0] in turn["query"]]
                if asked:  # the answer says it again
                    said[min(asked, key=lambda key: abs(number - said[key] - turn["distance"]))] = number
    assert min(sorts[sort] for sort in ("hop", "together", "more")) > 30, sorts


def test_without_thoughts_the_rows_are_the_same():
    thinking, direct = episodes(30), episodes(30, think=False)
    assert any(turn["think"] for turns in thinking for turn in turns)
    assert [[turn | {"think": None, "interactions": 0} for turn in turns] for turns in thinking] == [
        [turn | {"interactions": 0} for turn in turns] for turns in direct
    ]


def test_only_the_sorts_asked_for_are_derived():
    queries = [turn["query"] for turns in episodes(60, sorts=["hop"]) for turn in turns if turn["think"]]
    assert len(queries) > 50
    assert all("wish of" in query for query in queries)
    assert next(iter(generate({}, 3, "train", 0))).schema == SCHEMA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sorts": []}, "sorts is empty"),
        ({"sorts": ["hops"]}, "sorts"),
        ({"derive": 2}, "derive"),
        ({"among": 1}, "among"),
        ({"x": 1}, "x"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        generate(options, 5, "train", 0)
