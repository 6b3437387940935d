"""Rows become conversations, or are refused with their place."""

import json
from collections import Counter

import pytest

from mrl.dialogues.dataset import RowSource, parse_row, read_conversations
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": " ", "answer": "x"}, "query is empty"),
        ({"query": "x", "answer": "y", "interactions": [{"query": "z"}]}, r"interactions\[0\]\.answer is missing"),
        ({"query": "x", "answer": 3}, "answer is a int"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "no question of the conversation is answered"),
        ({"title": "x"}, "has title; expected query"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(row, message):
    with pytest.raises(InputError, match=r"f\.jsonl: row 3: .*" + message):
        parse_row(row, "f.jsonl: row 3")


def test_messages_and_episodes_give_the_same_conversation():
    messages = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    from_chat = parse_row({"messages": [{"role": r, "content": c} for r, c in messages]}, "")
    from_episode = parse_row({"query": "a", "answer": "b", "interactions": [{"query": "c", "answer": "d"}]}, "")
    assert from_chat == from_episode


def test_splits_and_subsets_are_found_by_their_names(episodes):
    assert len(read_conversations(RowSource(path=str(episodes), subset="*", split="train"))) == 80
    assert len(read_conversations(RowSource(path=str(episodes), subset="steps-3", split="test"))) == 12
    with pytest.raises(InputError, match="no subset 'steps-9'; did you mean steps-"):
        read_conversations(RowSource(path=str(episodes), subset="steps-9"))


def test_a_file_that_is_not_json_is_refused_by_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"query": "a", "answer": "b"}) + "\n{broken\n")
    with pytest.raises(InputError, match=r"rows.jsonl:2: isn't JSON"):
        read_conversations(RowSource(path=str(file)))


@pytest.mark.parametrize("facts", ["cat", [3], [""], {"cat": 1}])
def test_facts_are_a_list_of_words(facts):
    with pytest.raises(InputError, match=r"row 3: interactions\[0\]\.facts must be a list of strings"):
        parse_row(
            {"query": "a", "answer": "b", "interactions": [{"query": "c", "answer": "d", "facts": facts}]}, "row 3"
        )


def test_rows_are_counted_with_what_became_of_them(tmp_path):
    rows = [{"task": str(i % 2), "query": "a", "answer": "b"} for i in range(44)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    counts: Counter[str] = Counter()
    source = RowSource(path=str(tmp_path / "rows.jsonl"), where={"task": ["1"]}, fold=0)
    assert len(read_conversations(source, counts)) == 3
    assert dict(counts) == {"read": 44, "kept": 3, "left out by where": 22, "left out by fold": 19}


def test_bare_rows_get_their_facts_read_off_the_words(tmp_path):
    turns = [("Where?", "To Little Hunan."), ("How many?", "Table for 4."), ("And?", "Little Hunan, 4 people.")]
    first, *rest = [{"query": query, "answer": answer} for query, answer in turns]
    (tmp_path / "rows.jsonl").write_text(json.dumps({**first, "interactions": rest}) + "\n")
    path = str(tmp_path / "rows.jsonl")
    (plain,) = read_conversations(RowSource(path=path))
    assert [(e.facts, e.distance, e.asks) for e in plain.exchanges] == [((), 0, True)] * 3
    (marked,) = read_conversations(RowSource(path=path, facts="carried"))
    carried = (("Little Hunan", "4"), 2, True)
    assert [(e.facts, e.distance, e.asks) for e in marked.exchanges] == [((), 0, False), ((), 0, False), carried]


def test_marks_that_a_row_brings_are_kept():
    row = {
        "query": "Who?",
        "answer": "Ann Lee.",
        "interactions": [{"query": "Who?", "answer": "Ann Lee.", "facts": ["Ann"]}],
    }
    given = parse_row(row, "here", facts="carried")
    assert [e.facts for e in given] == [(), ("Ann",)]


def test_rows_of_every_form_may_stand_in_one_file(tmp_path):
    rows = [
        {"query": "a", "answer": "b", "facts": [], "interactions": [{"query": "c", "answer": "b", "facts": ["b"]}]},
        {"messages": [{"role": role, "content": text} for role, text in
                      (("user", "a"), ("user", "and"), ("assistant", "b"), ("assistant", "so"))]},
        {"query": "a", "answer": "b", "interactions": [{"query": "c", "answer": "d"}]},
        {"text": "once"},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_conversations(RowSource(path=str(tmp_path / "rows.jsonl")))
    turns = [[(e.query, e.answer, e.asks) for e in conversation.exchanges] for conversation in read]
    assert turns == [
        [("a", "b", False), ("c", "b", True)],
        [("a\nand", "b\nso", True)],  # neighbours of one role are joined, as where data are built
        [("a", "b", True), ("c", "d", True)],
        [(None, "once", True)],
    ]


def test_rows_left_out_are_counted_by_what_they_lack(tmp_path):
    turn = {"query": "a", "answer": "b"}
    rows = [
        turn, {**turn, "query": " "}, {**turn, "facts": "b"}, {**turn, "interactions": [{**turn, "distance": 9}]},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts: Counter[str] = Counter()
    read = read_conversations(RowSource(path=str(tmp_path / "rows.jsonl"), bad_rows="drop"), counts)
    assert len(read) == 1
    assert {what: n for what, n in counts.items() if n} == {
        "read": 4, "kept": 1, "left out: without words in query": 1, "left out: with facts of another form": 1,
        "left out: with a distance that can't be": 1,
    }  # fmt: skip


def test_a_kind_is_that_of_the_turn_or_of_the_row():
    turn = {"query": "a", "answer": "b"}
    kinds = lambda row, column="kind": [e.kind for e in parse_row(row, "f", kind_column=column)]  # noqa: E731
    assert kinds({**turn, "kind": "told", "interactions": [{**turn, "kind": "name"}, turn]}) == ["told", "name", ""]
    assert kinds({**turn, "task": 3, "interactions": [turn]}, "task") == ["3", "3"]


def test_explicit_lists_without_facts_are_marks(tmp_path):
    told = {"query": "Ann lives in Oslo", "answer": "Noted", "facts": []}
    asked = {"query": "Where?", "answer": "That is Oslo.", "facts": []}
    explicit = parse_row({**told, "interactions": [asked]}, "f", facts="carried")
    assert [e.facts for e in explicit] == [(), ()]
    for turn in (told, asked):
        turn.pop("facts")
    assert [e.facts for e in parse_row({**told, "interactions": [asked]}, "f", facts="carried")] == [(), ("Oslo",)]
