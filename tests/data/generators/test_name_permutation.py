"""Renamed episodes: the same story about other people and places, the same answers by the same exchange of names."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.generators.name_permutation import generate
from mrl.dialogues.dataset import RowSource, read_conversations
from pipeline.errors import InputError

ROWS = [
    {
        "query": "Mary went to the kitchen. Where is Mary?", "answer": "kitchen", "split": split, "task": task,
        "interactions": [{"query": "Johnny met John in the hall. Where is John?", "answer": "hall", "facts": ["hall"]}],
    }
    for split, task in (("train", "a"), ("train", "b"), ("test", "a"))
]  # fmt: skip
NAMES = [["Mary", "John"], ["kitchen", "hall", "park"]]


@pytest.fixture
def options(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return {"path": str(tmp_path / "rows.parquet"), "split": "train", "where": {"task": ["a"]}, "names": NAMES}


def test_names_change_alike_everywhere_and_nothing_else_does(options):
    made = [row for batch in generate(options, 600, "train", 1) for row in batch]
    assert len(made) == 600
    seen = set()
    for row in made:
        later = row["interactions"][0]
        who, place, other = row["query"].split()[0], row["answer"], later["answer"]
        friend = {"Mary": "John", "John": "Mary"}[who]
        assert row["query"] == f"{who} went to the {place}. Where is {who}?"
        assert later["query"] == f"Johnny met {friend} in the {other}. Where is {friend}?"
        assert later["facts"] == [other] != [place]
        assert (row["task"], row["split"]) == ("a", "train")
        seen.add((who, place, other))
    assert len(seen) == 2 * 3 * 2  # every exchange comes up


def test_equal_arguments_make_equal_rows_and_more_rows_keep_the_first(options):
    rows = lambda n, seed: [row for batch in generate(options, n, "train", seed) for row in batch]  # noqa: E731
    assert rows(20, 1) == rows(700, 1)[:20]
    assert rows(20, 1) != rows(20, 2)


@pytest.mark.parametrize(
    ("change", "entries", "message"),
    [
        ({"path": "none.parquet"}, 5, "none.parquet"),
        ({"where": {"task": ["c"]}}, 5, "no row"),
        ({"names": [["Mary"], ["Mary"]]}, 5, "one list only"),
        ({}, None, "entries"),
    ],
)
def test_bad_options_are_refused_by_name(options, change, entries, message):
    with pytest.raises(InputError, match=message):
        generate({**options, **change}, entries, "train", 0)


def test_a_fold_is_left_out_for_validation(tmp_path):
    rows = [{"query": f"Mary has {i}", "answer": "Mary", "interactions": []} for i in range(25)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    options = {"path": str(tmp_path / "rows.parquet"), "names": NAMES, "without_fold": 3}
    made = {int(row["query"].split()[-1]) for batch in generate(options, 60, "train", 1) for row in batch}
    assert made == set(range(25)) - {3, 13, 23}
    kept = read_conversations(RowSource(path=str(tmp_path / "rows.parquet"), fold=3))
    assert [c.exchanges[0].query for c in kept] == ["Mary has 3", "Mary has 13", "Mary has 23"]
