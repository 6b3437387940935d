"""Rows come out of files as they are written there, in every format, or are refused by file, row and column."""

import datetime
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.sources.arrow_types import DEEPEST, to_rows
from data.sources.json_lines import LONGEST_ROW, _through_arrow
from data.sources.reading import FileQuery, count_rows, find_files, read_rows, read_table
from pipeline.errors import InputError


def rows_of(file: Path) -> list[dict]:
    return [row for _, row in read_rows(find_files(FileQuery(path=str(file))))]


def written(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def packed(file: Path, data: bytes) -> Path:
    if file.suffix == ".zst":
        with pa.output_stream(str(file), compression="zstd") as stream:
            stream.write(data)
    else:
        file.write_bytes(gzip.compress(data))
    return file


CHAT = [{"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "ä"}]} for i in range(5)]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "array", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, kind, ending):
    if kind == "parquet":
        file = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(CHAT), file)
    else:
        array = kind == "array"
        text = json.dumps(CHAT, indent=1) if array else "\n".join(map(json.dumps, CHAT))
        file = tmp_path / f"rows.{'json' if array else kind}{ending}"
        packed(file, text.encode()) if ending else file.write_text(text)
    selection = find_files(FileQuery(path=str(file)))
    assert [row for _, row in read_rows(selection)] == CHAT
    assert [place for place, _ in read_rows(selection)] == [f"{file}:{i}" for i in range(1, 6)]
    assert count_rows(selection) == 5
    assert to_rows(read_table(selection)) == CHAT


def test_csv_is_text_and_text_is_lines(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffid,said\n007,"one,\n""two"""\n\n1e3,2020-01-01\n')
    assert rows_of(tmp_path / "a.csv") == [{"id": "007", "said": 'one,\n"two"'}, {"id": "1e3", "said": "2020-01-01"}]
    (tmp_path / "a.tsv").write_text("id\tsaid\n1\tNA\n")
    assert rows_of(tmp_path / "a.tsv") == [{"id": "1", "said": "NA"}]
    packed(tmp_path / "a.txt.gz", b"one\r\n\n  two\nthree")
    assert list(read_rows(find_files(FileQuery(path=str(tmp_path / "a.txt.gz"))))) == [
        (f"{tmp_path}/a.txt.gz:1", {"text": "one"}),
        (f"{tmp_path}/a.txt.gz:3", {"text": "  two"}),
        (f"{tmp_path}/a.txt.gz:4", {"text": "three"}),
    ]


@pytest.mark.parametrize(
    "values",
    [
        ["2020-01-01", "2020-01-02T10:00:00Z"],  # texts, not dates
        [12345678901234567890, 12345678901234567891],  # beyond int64, not one float
        [2**53 + 1, None],
        [None, [], [None], ["a"]],
        [{"a": 1}, {"b": 2}, {}, None],  # no key of another row, no null that wasn't there
        [{"a": 1, "b": None}, {"a": 1}],
        [[{"name": "f", "arguments": {"x": 1}}], [{"name": "g", "arguments": {"x": "one", "y": [1.0, 2]}}]],
        [{"a": {"x": 1}}, {"a": {"x": 1.0}}, {"a": {"x": "1"}}],
        ["\u0000", "\U0001f600", "\u2028"],
        [0.1, -0.0, 1e-320],
        [True, None],
        [*[None] * 3, [None, "x"], []],
        [*[None] * 3, [None, {"a": None}], [{"a": [None, 1]}]],
        [[[1]], [[]], []],
    ],
)
def test_values_are_kept_exactly(tmp_path, values):
    rows = [{"v": value} for value in values]
    read = rows_of(written(tmp_path / "v.jsonl", *rows))
    assert repr(read) == repr(rows)  # repr tells 1 from 1.0 and 0.0 from -0.0


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["2020-01-01", "5", "null"])
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["city", "unit", "n"]), values, max_size=3)
calls = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts, "tool_calls": st.lists(st.fixed_dictionaries({
        "function": st.fixed_dictionaries({"name": texts, "arguments": objects})}), max_size=2)}
)  # fmt: skip
plain = st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": texts})
chats = st.fixed_dictionaries(
    {"messages": st.lists(calls | plain, min_size=1, max_size=3), "score": st.integers(0, 5), "meta": objects}
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(chats, min_size=1, max_size=4), st.integers(1, 3))
def test_generated_rows_come_out_as_json_reads_them(tmp_path, rows, size):
    """In one table, whatever blocks the file is read in, and through parquet."""
    import data.sources.json_lines as module

    def exact(rows: object) -> str:  # tells 1 from 1.0, but not the order of keys
        return json.dumps(rows, sort_keys=True)

    file = written(tmp_path / "rows.jsonl", *rows)
    batches = [b.records for b in module.read_json_lines(file, block_bytes=40 * size)]
    assert exact([row for b in batches for row in to_rows(b)]) == exact(rows)
    table = read_table(find_files(FileQuery(path=str(file))))
    assert exact(to_rows(table)) == exact(rows)
    pq.write_table(table, tmp_path / "rows.parquet")
    assert exact(rows_of(tmp_path / "rows.parquet")) == exact(rows)


def test_plain_chats_take_the_fast_way_and_uncertain_blocks_do_not():
    def fast(*rows: object) -> bool:
        block = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return _through_arrow(block, len(rows)) is not None

    assert fast(*CHAT)
    assert fast({"score": 0.5, "day": "2020-01-01"}, {"score": 1, "day": "x"})
    assert not fast({"v": {"a": 1}}, {"v": {"b": 1}})
    assert not fast({"v": 2**64})
    assert not fast({"v": {"a": {"x": 1}}}, {"v": {"a": {"x": 1.5}}})


def test_the_row_and_the_column_of_what_is_wrong_are_named(tmp_path):
    good = {"messages": [{"role": "user", "content": "q"}], "score": 0.5}
    lines = [json.dumps(good)] * 300
    for bad, said in [
        ('{"messages": [}', "isn't JSON (Expecting value at character 15)"),
        (json.dumps({**good, "score": "high"}), "column score is text here (high)"),
        (json.dumps({**good, "messages": "hi"}), "column messages is text here (hi)"),
        (json.dumps({**good, "messages": [{"role": "user", "content": 5}]}), "column messages is a list here"),
        ("[1]", "is no JSON object"),
        ('{"score": NaN}', "NaN is no number"),
        ('{"score": 1e999}', "column score holds what can't be kept: inf"),
        ('{"id": 1' + "0" * 40 + "}", "column id holds what can't be kept: the integer 1000"),
        ('{"messages": [{"role": "a\\ud800"}]}', "column messages holds half"),
        ('{"score": 1, "score": 2}', "the key 'score' is there twice"),
    ]:
        file = tmp_path / "x.jsonl"
        file.write_text("\n".join([*lines[:249], bad, *lines[250:]]) + "\n")
        with pytest.raises(InputError) as refused:
            rows_of(file)
        assert str(refused.value).startswith(f"{file}:250: "), (bad, str(refused.value))
        assert said in str(refused.value)


def test_a_column_that_changes_in_a_later_block_is_named_with_its_row(tmp_path):
    from data.sources.json_lines import read_json_lines

    file = written(tmp_path / "x.jsonl", *[{"score": 1}] * 50, {"score": "high"}, *[{"score": 1}] * 9)
    with pytest.raises(InputError, match=r"x\.jsonl:51: column score"):
        list(read_json_lines(file, block_bytes=64))


@pytest.mark.parametrize("levels", [300, 10_000, 100_000])
def test_deep_nesting_is_one_line(tmp_path, levels):
    file = tmp_path / "deep.jsonl"
    file.write_text('{"v": 1}\n{"v": ' + "[" * levels + "]" * levels + "}\n")
    with pytest.raises(InputError, match=rf"deep\.jsonl:2: .*nests deeper than {DEEPEST} levels"):
        rows_of(file)
    file.write_text(json.dumps({"v": "[" * levels}) + "\n")  # brackets in a text nest nothing
    assert len(rows_of(file)) == 1


def test_damaged_files_are_one_line(tmp_path):
    text = b"".join(json.dumps({"n": i, "text": f"{i * 7919}"}).encode() + b"\n" for i in range(5000))
    for ending in (".gz", ".zst"):
        whole = packed(tmp_path / f"whole.jsonl{ending}", text).read_bytes()
        (tmp_path / f"cut.jsonl{ending}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=r"cut\.jsonl.*is cut or damaged"):
            rows_of(tmp_path / f"cut.jsonl{ending}")
    flipped = bytearray(gzip.compress(text))
    flipped[len(flipped) // 2] ^= 0x55
    (tmp_path / "flipped.jsonl.gz").write_bytes(flipped)
    with pytest.raises(InputError, match=r"flipped\.jsonl\.gz"):
        rows_of(tmp_path / "flipped.jsonl.gz")
    (tmp_path / "bytes.jsonl").write_bytes(b'{"t": "a"}\n{"t": "\xff"}\n')
    with pytest.raises(InputError, match=r"bytes\.jsonl:2: isn't UTF-8"):
        rows_of(tmp_path / "bytes.jsonl")
    (tmp_path / "bytes.csv").write_bytes(b"t\na\n\xff\n")
    with pytest.raises(InputError, match=r"bytes\.csv:\d: isn't UTF-8"):
        rows_of(tmp_path / "bytes.csv")
    (tmp_path / "not.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match=r"not\.parquet: isn't readable as parquet"):
        rows_of(tmp_path / "not.parquet")
    for name in ("empty.jsonl", "empty.csv", "empty.txt", "empty.json"):
        (tmp_path / name).write_text("")
        with pytest.raises(InputError, match=rf"{name} has no rows"):
            rows_of(tmp_path / name)
    (tmp_path / "uneven.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(InputError, match=r"uneven\.csv:2: row 2 has 3 values"):
        rows_of(tmp_path / "uneven.csv")


@pytest.mark.parametrize("ending", ["jsonl", "txt", "csv"])
def test_a_row_that_is_too_long_is_named(tmp_path, ending):
    long = "x" * (LONGEST_ROW + 9)
    lines = {"jsonl": ['{"t": "a"}', json.dumps({"t": long})], "txt": ["a", long], "csv": ["t", "a", long]}[ending]
    (tmp_path / f"long.{ending}").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"long\.{ending}:2: "):
        rows_of(tmp_path / f"long.{ending}")


def test_parquet_types_come_out_plain(tmp_path):
    table = pa.table(
        {
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
            "word": pa.array(["x", None]).dictionary_encode(),
            "view": pa.array(["x", "y"], pa.string_view()),
            "day": pa.array([datetime.date(2020, 1, 1), None]),
            "big": pa.array([2**64 - 1, 0], pa.uint64()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    first, second = rows_of(tmp_path / "t.parquet")
    assert first == {
        "map": [{"key": "a", "value": 1}], "word": "x", "view": "x", "day": datetime.date(2020, 1, 1), "big": 2**64 - 1,
    }  # fmt: skip
    assert second == {"map": None, "word": None, "view": "y", "day": None, "big": 0}
