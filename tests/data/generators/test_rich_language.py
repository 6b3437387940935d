"""Rich episodes: every answer follows from what was told, each question says of which kind it is; invented words."""

import itertools
import re

import pytest

from data.generators.episode_topics import generate
from data.generators.episode_world import share_of
from data.generators.invented_words import CONTENT
from data.generators.rich_language.dialogue import ABSTENTION, KINDS, SCHEMA
from data.generators.rich_language.world import CHAT, CORRECTIONS, LEADS, NOUNS, OPENERS, OWN, PEOPLE, THINGS
from pipeline.errors import InputError


def rows(entries: int = 120, split: str = "test", seed: int = 3, **options) -> list[dict]:
    options = {"language": "rich", "steps": 12, "entities": 3, "facts": 5, **options}
    return [row for batch in generate(options, entries, split, seed) for row in batch.to_pylist()]


def turns_of(row: dict) -> list[dict]:
    return [row, *row["interactions"]]


def holds(text: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("invented", [0.0, 1.0])
def test_told_questions_are_answered_by_what_was_last_said_of_it(invented):
    for row in rows(invented=invented):
        turns = turns_of(row)
        for place, turn in enumerate(turns):
            if turn["kind"] is None:
                assert turn["facts"] == []
                assert turn["distance"] is None
            elif turn["kind"] != "untold":
                said = [place - turn["distance"]]
                for fact in turn["facts"]:
                    assert holds(turn["answer"], fact)
                    last = max(k for k in range(place) if holds(f"{turns[k]['query']}\n{turns[k]['answer']}", fact))
                    assert last >= said[0]
                assert len(turn["facts"]) == (2 if turn["kind"] == "two_facts" else 1)


def test_nothing_answers_an_untold_question():
    untold = 0
    for row in rows(untold=0.5):
        told = ""
        for turn in turns_of(row):
            if turn["kind"] == "untold":
                untold += 1
                assert turn["answer"] == ABSTENTION
                assert turn["distance"] is None
                assert turn["facts"] == [ABSTENTION.removesuffix(".")]
                question = next(q for lead in LEADS for q in _unled(turn["query"], lead))
                assert question not in _answerable(told), row
            told += f"\n{turn['query']}"
    assert untold > 100


def _unled(query: str, lead: str) -> list[str]:
    head = lead.removesuffix("{q}")
    return [query.removeprefix(head)] if query.startswith(head) and (head or query.endswith("?")) else []


def _answerable(told: str) -> set[str]:
    """Every question that some sentence of what was told answers."""
    answered = set()
    for attribute in (*PEOPLE, *THINGS, *OWN):
        for form in attribute.tell:
            pattern = re.escape(form.removesuffix(".")).replace(r"\{v\}", r"[^\n]+?")
            pattern = pattern.replace(r"\{s\}", r"(?P<s>\w+ \w+)", 1)
            for found in re.finditer(pattern, told, re.IGNORECASE):
                name = found.groupdict().get("s") or "me"
                answered |= {question.format(s=name) for question in attribute.ask}
    return answered


def test_all_kinds_occur_and_the_last_turn_asks():
    made = rows()
    kinds = {turn["kind"] for row in made for turn in turns_of(row)}
    assert kinds == {*KINDS, None}
    assert all(row["interactions"][-1]["distance"] for row in made)


def test_the_chance_of_untold_questions_can_be_set_to_nothing():
    assert not any(turn["kind"] == "untold" for row in rows(untold=0) for turn in turns_of(row))


def test_forms_name_what_they_are_about_and_hold_no_word_that_values_are_made_of():
    for attribute in (*PEOPLE, *THINGS, *OWN):
        assert len(attribute.tell) >= 3
        assert len(attribute.ask) == len(attribute.answers) >= 2
        assert all("{v}" in form for form in (*attribute.tell, *attribute.answers))
        assert all(("{s}" in form) == (attribute not in OWN) for form in (*attribute.tell, *attribute.ask))
    forms = [f for a in (*PEOPLE, *THINGS, *OWN) for f in (*a.tell, *a.ask, *a.answers)]
    forms += [*NOUNS.values(), *LEADS, *itertools.chain.from_iterable((*OPENERS, *CORRECTIONS, *CHAT))]
    assert not {word for form in forms for word in re.findall(r"\w+", form.lower())} & {w.lower() for w in CONTENT}


def test_invented_words_are_of_their_split_and_of_no_list():
    made = {}
    for split in ("train", "test"):
        facts = [
            f
            for row in rows(split=split, invented=1.0)
            for t in turns_of(row)
            if t["kind"] == "word"
            for f in t["facts"]
        ]
        made[split] = {fact.lower() for fact in facts}
        assert made[split]
        assert all(share_of(word) == split for word in made[split])
        assert not made[split] & {word.lower() for word in CONTENT}
    assert not made["train"] & made["test"]


def test_a_share_of_episodes_has_invented_words_and_the_others_stay_as_they_were():
    plain, mixed = rows(60), rows(60, invented=0.5)
    kept = [one == other for one, other in zip(plain, mixed, strict=True)]
    assert 15 < sum(kept) < 45


def test_rows_have_the_columns_of_the_schema_and_are_the_same_again():
    assert rows(5) == rows(8)[:5]
    [batch] = generate({"language": "rich"}, 2, "train", 1)
    assert batch.schema == SCHEMA


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"language": "plain", "untold": 0.1}, "untold"),
        ({"topic": "extend"}, "topic"),
        ({"rival": 0.5}, "rival"),
        ({"language": "fancy"}, "language"),
        ({"invented": 1.5}, "invented"),
    ],
)
def test_options_without_effect_are_refused(options, key):
    with pytest.raises(InputError, match=key):
        rows(1, **options)


def test_too_few_sorts_of_facts_for_what_is_to_be_told_are_one_line():
    with pytest.raises(InputError, match=r"^generator\.attributes is 2, .*; raise attributes$"):
        rows(400, attributes=2, facts=10)
    assert len(rows(400, split="train", attributes=9, facts=10)) == 400
