"""What a blend does with rows beyond shuffling them: weights, random samples, near-duplicates, benchmarks, bad rows."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data import data_collection
from data.blending.near_duplicates import NearDuplicates, NearDuplicatesConfig
from data.sources.reading import FileQuery, find_files, read_rows
from pipeline.errors import InputError


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(path: Path, mark: str, count: int) -> str:
    return write(path, *({"text": f"{mark}{i}"} for i in range(count)))


def build(folder: Path, *sources: dict, name: str = "out", **more: object) -> tuple[Path, dict]:
    """A blend built in this process: its folder and metadata."""
    config, out = folder / f"{name}.yaml", folder / name
    config.write_text(json.dumps({"name": "made", "datasets": list(sources), **more}))
    data_collection.main(data_collection.parse_options(["--config-path", str(config), "--output-dir", str(out)]))
    return out, json.loads((out / "dataset_metadata.json").read_text())


def rows(out: Path, split: str | None = None) -> list[dict]:
    return [row for _, row in read_rows(find_files(FileQuery(path=str(out), split=split)))]


def said(out: Path, split: str | None = None) -> list[str]:
    return [row["text"] for row in rows(out, split)]


def test_weights_repeat_and_thin_rows_and_held_out_ones_are_not_trained(tmp_path):
    a, b, c = (texts(tmp_path / f"{mark}.jsonl", mark, 40) for mark in "abc")
    sources = [{"name": a, "weight": 2.5}, {"name": b, "weight": 0.25}, {"name": c}]
    out, metadata = build(tmp_path, *sources, held_out=12, seed=5)
    held_out, train = said(out, "validation"), said(out, "train")
    assert len(held_out) == len(set(held_out)) == 12
    assert not set(held_out) & set(train)
    counts = Counter(train)
    unheld = {mark: [counts[f"{mark}{i}"] for i in range(40) if f"{mark}{i}" not in held_out] for mark in "abc"}
    assert set(unheld["a"]) == {2, 3}
    assert set(unheld["b"]) == {0, 1}
    assert set(unheld["c"]) == {1}
    everything = Counter(text[0] for text in [*train, *held_out])
    assert everything["b"] == 10
    assert everything["c"] == 40
    held_of_a = [text for text in held_out if text[0] == "a"]
    assert 100 - 3 * len(held_of_a) <= everything["a"] - len(held_of_a) <= 100 - 2 * len(held_of_a)
    assert [s["actual_entries"] for s in metadata["dataset_sources"]] == [everything[mark] for mark in "abc"]
    assert metadata["total_entries"] == len(train) + 12
    assert train != sorted(train)
    again, _ = build(tmp_path, *sources, held_out=12, seed=5, name="again")
    assert said(again, "train") == train
    with pytest.raises(InputError, match="10 rows are left"):
        build(tmp_path, {"name": b, "weight": 0.25}, held_out=10, name="few")


def test_weights_of_one_change_nothing(tmp_path):
    a = texts(tmp_path / "a.jsonl", "a", 30)
    assert said(build(tmp_path, {"name": a})[0]) == said(build(tmp_path, {"name": a, "weight": 1}, name="one")[0])


def test_random_entries_are_drawn_from_the_whole_source_by_the_seed(tmp_path):
    a = texts(tmp_path / "a.jsonl", "a", 300)
    first = set(said(build(tmp_path, {"name": a, "entries": 30})[0]))
    assert first == {f"a{i}" for i in range(30)}
    out, metadata = build(tmp_path, {"name": a, "entries": 30, "sample": "random"}, name="drawn")
    drawn = said(out)
    assert len(set(drawn)) == len(drawn) == 30
    assert np.mean([int(text[1:]) for text in drawn]) > 100
    assert metadata["dataset_sources"][0]["rows_read"] == 300
    assert metadata["warnings"] == []
    other = said(build(tmp_path, {"name": a, "entries": 30, "sample": "random"}, seed=9, name="other")[0])
    assert set(other) != set(drawn)


STORY = "once upon a time there was a small grey mouse that lived below the floor of an old mill and was happy"


def test_rows_that_share_words_with_a_benchmark_are_left_out_and_counted(tmp_path):
    bench = tmp_path / "bench"
    bench.mkdir()
    write(bench / "gsm_test.jsonl", {"question": STORY, "n": 4, "choices": ["a", "b"]})
    (bench / "more.csv").write_text("q\ntoo short to count\n")
    source = write(
        tmp_path / "a.jsonl",
        {"text": "So: " + STORY.upper().replace(" mouse", ", mouse!")},
        {"text": " ".join(STORY.split()[:12]) + " cat"},
        {"text": "too short to count"},
    )
    out, metadata = build(tmp_path, {"name": source}, decontaminate={"against": [str(bench)]})
    assert sorted(said(out)) == sorted([" ".join(STORY.split()[:12]) + " cat", "too short to count"])
    assert metadata["left_out"] == {"contaminated": 1}
    assert "1 contaminated of 3 rows read" in (out / "README.md").read_text()
    few, _ = build(tmp_path, {"name": source}, decontaminate={"against": [str(bench)], "ngram": 12}, name="few")
    assert said(few) == ["too short to count"]
    write(bench / "gsm_test.jsonl", {"question": "nothing of this sort " * 5})
    with pytest.raises(InputError, match="other data"):
        build(tmp_path, {"name": source}, decontaminate={"against": [str(bench)]})
    with pytest.raises(InputError, match=r"against\[0\]: no data file matches"):
        build(tmp_path, {"name": source}, decontaminate={"against": ["none/*.csv"]}, name="none")


def test_the_first_of_nearly_equal_rows_is_kept(tmp_path):
    near = STORY.replace("happy", "glad")
    other = " ".join(reversed(STORY.split()))
    source = write(tmp_path / "a.jsonl", *({"text": text} for text in (STORY, near, other)))
    second = write(tmp_path / "b.jsonl", {"text": STORY + " ever after"}, {"text": "quite another text"})
    out, metadata = build(tmp_path, {"name": source}, {"name": second}, near_duplicates={"threshold": 0.7})
    assert sorted(said(out)) == sorted([STORY, other, "quite another text"])
    assert [s["left_out"] for s in metadata["dataset_sources"]] == [{"near duplicates": 1}] * 2


def test_near_duplicates_are_remembered_over_a_kill():
    config = NearDuplicatesConfig(threshold=0.7)
    first, later = NearDuplicates(config), NearDuplicates(config)
    batch = pa.RecordBatch.from_pydict({"text": [STORY, "one two three four five six seven"]})
    for key in first.keys(batch, "here"):
        assert not first.knows(key)
        first.remember(key)
    later.restore(first.take_fresh())
    near = pa.RecordBatch.from_pydict({"text": [STORY.replace("happy", "glad"), "new " * 9]})
    assert [later.knows(key) for key in later.keys(near, "here")] == [True, False]
    assert first.take_fresh() == later.take_fresh() == b""


SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def test_conversations_are_converted_and_bad_rows_dropped_and_counted(tmp_path):
    chat = write(
        tmp_path / "chat.jsonl",
        {"id": 1, "conversations": SHAREGPT},
        {"id": 2, "conversations": [*SHAREGPT, {"from": "human", "value": "bye"}]},
        {"id": 3, "conversations": [{"from": "nobody", "value": "q"}]},
        {"id": 4, "conversations": []},
    )
    with pytest.raises(InputError, match=r"chat\.jsonl:2: the last turn is the user's"):
        build(tmp_path, {"name": chat, "conversations": "sharegpt"})
    dropping = {"name": chat, "conversations": "sharegpt", "bad_rows": "drop"}
    out, metadata = build(tmp_path, dropping, name="dropped")
    (row,) = rows(out)
    assert row["messages"] == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert row["id"] == 1
    assert "conversations" not in row
    assert metadata["left_out"] == {"last turn": 1, "role": 1, "empty": 1}
    cut, _ = build(tmp_path, {**dropping, "last_turn": "cut", "roles": {"nobody": "assistant"}}, name="cut")
    assert sorted(row["id"] for row in rows(cut)) == [1, 2, 3]
    episodes = {"name": chat, "conversations": "sharegpt", "interactions": {"steps": 1}, "bad_rows": "drop"}
    with pytest.raises(InputError, match="0 rows are left"):
        build(tmp_path, episodes, name="episodes")


def test_short_dialogues_are_counted(tmp_path):
    turns = [m for i in range(2) for m in ({"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"})]
    chat = write(tmp_path / "chat.jsonl", {"messages": turns}, {"messages": turns[:2]})
    _, metadata = build(tmp_path, {"name": chat, "interactions": {"steps": 1}})
    (source,) = metadata["dataset_sources"]
    assert (source["rows_read"], source["left_out"]) == (2, {"of fewer than 2 exchanges": 1})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"bad_rows": "drop"}, "bad_rows has no effect"),
        ({"last_turn": "cut"}, "last_turn has no effect"),
        ({"conversations": "messages", "roles": {"x": "y"}}, "'y' is not one of"),
        ({"sample": "random"}, "say how many"),
        ({"weight": 0}, "weight"),
        ({"revision": "main"}, "revision"),
        ({"split": "validation"}, "no split 'validation'"),
        ({"subset": "x"}, "no folder and has no subsets"),
        ({"only": {"n": ["x"]}}, r"datasets\[0\]\.only\.n: the column is int64 and never 'x'"),
        ({"only": {"tags": ["x"]}}, r"only\.tags: the column is a list"),
    ],
)
def test_keys_that_can_have_no_effect_are_refused_by_name(tmp_path, source, message):
    file = write(tmp_path / "rows.jsonl", {"messages": "x", "n": 1, "tags": ["a"]})
    with pytest.raises(InputError, match=message):
        build(tmp_path, {"name": file, **source})


def test_only_compares_numbers_as_numbers(tmp_path):
    file = write(tmp_path / "rows.jsonl", *({"text": f"{n}", "stars": n / 2, "ok": n > 4} for n in range(10)))
    assert said(build(tmp_path, {"name": file, "only": {"stars": ["2", "4.5"]}})[0], "train") in (
        ["4", "9"],
        ["9", "4"],
    )
    assert len(said(build(tmp_path, {"name": file, "only": {"ok": ["true"]}}, name="ok")[0])) == 5


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (SHAREGPT, r"rows\.jsonl:1: messages are objects with from, value .* set conversations: sharegpt"),
        (json.dumps(SHAREGPT), r"rows\.jsonl:1: messages are string and not of role and content"),
        (["hi"], "messages are list<item: string>"),
    ],
)
def test_a_column_of_messages_that_are_none_is_refused(tmp_path, messages, said):
    file = write(tmp_path / "rows.jsonl", {"messages": messages})
    with pytest.raises(InputError, match=said):
        build(tmp_path, {"name": file})
