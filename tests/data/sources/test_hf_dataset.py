"""Local rows as a Dataset, and every Arrow type through a blend and every reader of it."""

import datetime
import decimal
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from data import data_collection
from data.sources.hf_dataset import load_local
from data.sources.reading import FileQuery, find_files, read_rows
from pipeline.errors import InputError
from tests.data.sources.test_reading import chats, written


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def chosen(path: Path, split: str | None = None):
    return find_files(FileQuery(path=str(path), split=split))


def build(folder: Path, *sources: Path, **more: object) -> Path:
    """A blend of the files, built in this process."""
    out = folder / "out"
    config = folder / "blend.yaml"
    config.write_text(json.dumps({"name": "made", "datasets": [{"name": str(s)} for s in sources], **more}))
    data_collection.main(data_collection.parse_options(["--config-path", str(config), "--output-dir", str(out)]))
    return out


def test_a_replaced_file_is_read_anew_even_under_its_old_time(tmp_path):
    file = written(tmp_path / "a.jsonl", {"n": 1})
    before, status = load_local(chosen(file)), file.stat()
    assert before[0] == {"n": 1}
    written(file, {"n": 2})
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load_local(chosen(file))
    assert after[0] == {"n": 2}
    assert after._fingerprint != before._fingerprint
    assert load_local(chosen(file), "place")[0] == {"n": 2, "place": f"{file}:1"}


MOMENT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
COLUMNS = [
    pa.array(["a", None]),
    pa.array(["a", "b"], pa.large_string()),
    pa.array(["a", "b"], pa.string_view()),
    pa.array(["a", "b"]).dictionary_encode(),
    pa.array([b"a", None]),
    pa.array([b"abcd", b"efgh"], pa.binary(4)),
    pa.array([True, None]),
    pa.array([1, None], pa.int8()),
    pa.array([2**63 - 1, -(2**63)], pa.int64()),
    pa.array([2**32 - 1, 0], pa.uint32()),
    pa.array([2**64 - 1, 0], pa.uint64()),
    pa.array([1.5, None], pa.float32()),
    pa.array([0.1, float("nan")], pa.float64()),
    pa.array([None, None], pa.null()),
    pa.array([MOMENT.date(), None], pa.date32()),
    pa.array([MOMENT.date(), None], pa.date64()),
    pa.array([MOMENT.time(), None], pa.time64("us")),
    pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
    pa.array([datetime.timedelta(1), None], pa.duration("s")),
    pa.array([decimal.Decimal("1.25"), None], pa.decimal128(5, 2)),
    pa.array([decimal.Decimal("1.25"), None], pa.decimal64(5, 2)),
    pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    pa.array([[1, None], None], pa.list_(pa.int32())),
    pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
    pa.array([["a"], None], pa.large_list(pa.large_string())),
    pa.array([{"x": 1, "y": [{"z": "a"}]}, None]),
    pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": [1, "x", null]}', "5"])),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: str(c.type)[:30])
def test_every_type_is_the_same_in_every_reader(tmp_path, column):
    pq.write_table(pa.table({"id": ["0", "1"], "v": column}), tmp_path / "rows.parquet")
    out = build(tmp_path, tmp_path / "rows.parquet")

    def by_id(rows) -> str:
        return repr([row["v"] for row in sorted(rows, key=lambda row: row["id"])])

    read = by_id(row for _, row in read_rows(chosen(out)))
    direct = by_id(row for _, row in read_rows(chosen(tmp_path / "rows.parquet")))
    assert read == direct
    assert by_id(load_local(chosen(out))) == read
    assert by_id(datasets.load_dataset(str(out), split="train")) == read


TOOLS = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1.1}}}]}


def test_a_blend_of_plain_and_tool_rows_gives_each_row_back(tmp_path):
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    other = json.loads(json.dumps(TOOLS).replace('"a": 1.1', '"to": "ann", "urgent": true'))
    rows = [{"messages": [user, answer]}, {"messages": [user, TOOLS]}, {"messages": [user, other], "score": 1}]
    first, second = written(tmp_path / "plain.jsonl", rows[0]), written(tmp_path / "tools.jsonl", *rows[1:])
    out = build(tmp_path, first, second, deduplicate=["messages"], length={"min": 1})
    wanted = sorted(json.dumps(row["messages"]) for row in rows)
    for made in (load_local(chosen(out)), [row for _, row in read_rows(chosen(out))]):
        assert sorted(json.dumps(row["messages"]) for row in made) == wanted
    loaded = datasets.load_dataset(str(out), split="train")
    assert sorted(json.dumps(row["messages"]) for row in loaded) == wanted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chats, chats, chats)
def test_generated_rows_survive_a_blend(tmp_path_factory, one, other, third):
    """From two files through a build to what training sees; a column that a row lacks is null there."""
    folder = tmp_path_factory.mktemp("blend")
    out = build(folder, written(folder / "a.jsonl", one, other), written(folder / "b.jsonl", third))
    names = ("messages", "score", "meta")

    def exact(rows) -> list[str]:
        return sorted(json.dumps({name: row[name] for name in names}, sort_keys=True) for row in rows)

    assert exact(load_local(chosen(out))) == exact([one, other, third])
    assert exact(row for _, row in read_rows(chosen(out))) == exact([one, other, third])


def test_subsets_and_splits_of_a_blend_are_named(tmp_path):
    sources = {mark: written(tmp_path / f"{mark}.jsonl", *({"text": f"{mark}{i}"} for i in range(9))) for mark in "ab"}
    subsets = {mark: {"datasets": [{"name": str(file)}]} for mark, file in sources.items()}
    config = tmp_path / "two.yaml"
    config.write_text(json.dumps({"name": "two", "subsets": subsets, "held_out": 2}))
    out = tmp_path / "two"
    data_collection.main(data_collection.parse_options(["--config-path", str(config), "--output-dir", str(out)]))

    def texts(path: object, **asked: str) -> set[str]:
        return {row["text"] for _, row in read_rows(find_files(FileQuery(path=str(path), **asked)))}

    train, held_out = texts(out, subset="a"), texts(out, subset="a", split="validation")
    assert train | held_out == {f"a{i}" for i in range(9)}
    assert (len(train), len(held_out)) == (7, 2)
    assert texts(out / "a" / "*.jsonl") == train
    assert texts(out / "a" / "*.jsonl", split="validation") == held_out
    assert texts(out, subset="*") == train | texts(out, subset="b")
    assert {row["text"] for row in datasets.load_dataset(str(out), "a", split="validation")} == held_out
    for subset, said in (("c", "no subset 'c'"), (None, "has the subsets a, b; name one")):
        with pytest.raises(InputError, match=said):
            texts(out, **({"subset": subset} if subset else {}))
    with pytest.raises(InputError, match="has no split 'validation'; it has train"):
        texts(next((out / "a").glob("train*")), split="validation")


def test_files_of_a_blend_that_are_missing_changed_or_strange_are_refused(tmp_path):
    out = build(tmp_path, written(tmp_path / "a.jsonl", *({"text": "a", "n": i} for i in range(9))))
    (shard,) = (out / "data").glob("*.jsonl")
    content = shard.read_bytes()
    (out / "data" / "train-copy.jsonl").write_bytes(content)
    assert len(list(read_rows(chosen(out)))) == 9  # of the build's own files
    with pytest.raises(InputError, match="is no file of the build"):
        list(read_rows(chosen(out / "data" / "train-copy.jsonl")))
    for damaged in (content.replace(b'"a"', b'"b"', 1), content[: content.rindex(b"{")]):
        shard.write_bytes(damaged)
        for reader in (lambda: list(read_rows(chosen(out))), lambda: load_local(chosen(shard))):
            with pytest.raises(InputError, match="isn't what was built"):
                reader()
    shard.unlink()
    with pytest.raises(InputError, match="can't be read"):
        chosen(out)
    (out / "manifest.json").unlink()
    with pytest.raises(InputError, match="unfinished build"):
        chosen(out)


def test_long_integers_are_told_apart(tmp_path):
    ids = [12345678901234567890 + i for i in range(4)]
    out = build(tmp_path, written(tmp_path / "a.jsonl", *({"id": i} for i in ids)), deduplicate=["id"])
    assert sorted(row["id"] for row in load_local(chosen(out))) == ids
