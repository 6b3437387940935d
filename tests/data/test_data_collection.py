"""The script as users run it, against local files and the stand-in Hub; and what it must refuse before any download."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data import data_collection
from mrl.dialogues.dataset import RowSource, read_conversations
from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data" / "data_collection.py"
TRACE = ("_source_dataset", "_source_subset", "_source_split")


def chats(count: int, mark: str, **extra: list) -> pa.Table:
    """Conversations whose first message names its source and number."""
    messages = [
        [{"role": "user", "content": f"{mark} {i}"}, {"role": "assistant", "content": "word " * (i % 7)}]
        for i in range(count)
    ]
    return pa.table({"messages": messages, **extra})


def blend(path: Path, **content: object) -> Path:
    """Write a blend's YAML."""
    path.write_text(yaml.safe_dump({"name": "me/made", "seed": 3, **content}))
    return path


def run(config: Path, output: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), "--config-path", str(config), "--output-dir", str(output), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **(env or {})})


def rows_of(folder: Path) -> list[dict]:
    """All rows in file order, JSON lines or parquet."""
    made: list[dict] = []
    for file in sorted(folder.rglob("*-of-*")):
        if file.suffix == ".jsonl":
            made += [json.loads(line) for line in file.read_text().splitlines()]
        else:
            made += pq.read_table(file).to_pylist()
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """The data files, byte by byte."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*-of-*"))}


def firsts(rows: list[dict]) -> Counter:
    return Counter(row["messages"][0]["content"] for row in rows)


@pytest.mark.slow
def test_a_blend_from_the_hub_is_streamed_shuffled_traced_and_pushed_through_faults(hub, tmp_path):
    hub.add_dataset(
        "org/chat",
        {
            "SFT": {"calm": [chats(40, "calm"), chats(40, "more")]},
            "Mid": {"lively": chats(30, "lively", note=["x"] * 30)},
        },
    )
    config = blend(
        tmp_path / "b.yaml",
        datasets=[
            {"name": "org/chat", "subset": "SFT", "split": "calm", "entries": 60, "revision": "main"},
            {"name": "org/chat", "subset": "Mid", "split": "lively", "entries": 50, "rename_columns": {"note": "kind"}},
        ],
    )
    hub.fail(2, status=503, match="GET .*parquet")
    hub.cut(1, match="GET .*parquet", after_bytes=50)
    hub.fail(1, status=429, match="POST .*commit", retry_after=0)
    env = {**hub.env(tmp_path / "home", token="hf_standin"), "TRLM_RETRY_BASE_S": "0.05"}
    done = run(config, tmp_path / "out", "--upload-to-hub", env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = rows_of(tmp_path / "out")
    # No row lost or doubled in spite of the faults: the first 60 of one split, all 30 of the other.
    expected = Counter([f"calm {i}" for i in range(40)] + [f"more {i}" for i in range(20)])
    expected += Counter(f"lively {i}" for i in range(30))
    assert firsts(rows) == expected
    assert Counter(tuple(row[c] for c in TRACE) for row in rows) == {
        ("org/chat", "SFT", "calm"): 60,
        ("org/chat", "Mid", "lively"): 30,
    }
    assert [row["_source_split"] for row in rows[:60]] != ["calm"] * 60  # shuffled
    assert {row["kind"] for row in rows} == {None, "x"}  # aligned: null where a source has no such column
    assert "gave 30 rows, 50 were asked for" in done.stderr
    metadata = json.loads((tmp_path / "out" / "dataset_metadata.json").read_text())
    assert [s["actual_entries"] for s in metadata["dataset_sources"]] == [60, 30]
    assert [s["percentage_of_total"] for s in metadata["dataset_sources"]] == [66.67, 33.33]
    assert len(metadata["warnings"]) == 1
    assert metadata["config_hash"]
    assert 0 < metadata["start_s"] < 60
    # Pushed: the same rows, and a card whose head names size and sources. The token is nowhere.
    repo = hub.repo("me/made")
    pushed = [json.loads(x) for n in sorted(repo.files) if n.endswith(".jsonl") for x in repo.files[n].splitlines()]
    assert firsts(pushed) == expected
    card = repo.files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["size_categories"] == ["n<1K"]
    assert "org/chat" in card
    assert all(b"hf_standin" not in content for content in repo.files.values())
    statuses = Counter(r.status for r in hub.requests)
    assert statuses[503] >= 2
    assert statuses[429] == 1


@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_stopped_and_ends_the_same(hub, tmp_path):
    hub.add_dataset("org/a", {"default": {"train": chats(50, "a")}})
    hub.add_dataset("org/b", {"default": {"train": chats(50, "b")}})
    config = blend(
        tmp_path / "b.yaml",
        datasets=[{"name": "org/a", "split": "train"}, {"name": "org/b", "split": "train"}],
    )
    env = hub.env(tmp_path / "home")
    whole = tmp_path / "whole"
    assert run(config, whole, env=env).returncode == 0
    # Killed: org/b's file never comes; the process dies while it waits for another try.
    hub.fail(100, status=503, match="GET .*org/b/resolve")
    slow = {**os.environ, **env, "TRLM_RETRY_BASE_S": "20"}
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--config-path", str(config), "--output-dir", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=slow)
    for _ in range(600):
        if list(out.glob(".build/sources/*/done.json")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    hub.mend()
    before = len(hub.requests)
    done = run(config, out, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    fetched = [
        r for r in hub.requests[before:] if r.method == "GET" and "org/a/resolve" in r.path and "parquet" in r.path
    ]
    assert not fetched  # the finished source isn't fetched again
    assert contents(out) == contents(whole)
    assert not (out / ".build").exists()


@pytest.mark.slow
def test_a_build_that_is_told_to_end_keeps_its_finished_sources(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    endless = {"generator": {"kind": "episodes", "steps": 8}, "entries": 10_000_000}
    config = blend(tmp_path / "b.yaml", datasets=[{"name": str(tmp_path / "a.jsonl")}, endless])
    command = [sys.executable, str(SCRIPT), "--config-path", str(config), "--output-dir", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out/.build/sources/*/done.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.splitlines()[-1] == "interrupted"
    assert len(list(tmp_path.glob("out/.build/sources/*/done.json"))) == 1


@pytest.mark.slow
def test_local_sources_filters_formats_and_a_complete_output(tmp_path):
    for i in range(3):
        pq.write_table(chats(300, f"p{i}"), tmp_path / f"p{i}.parquet")
    lines = [json.dumps({"dialogue": m, "n": 1}) for m in chats(20, "p0")["messages"].to_pylist()]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    config = blend(
        tmp_path / "b.yaml",
        datasets=[
            {"name": str(tmp_path / "p*.parquet"), "entries": 700},
            {"name": str(tmp_path / "x.jsonl"), "drop_columns": ["n"], "rename_columns": {"dialogue": "messages"}},
        ],
        deduplicate=["messages"],
        length={"min": 12, "max": 40},
        held_out=50,
    )
    out = tmp_path / "out"
    done = run(config, out)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    # 5 letters a "word "; the user's message is "p0 17": i % 7 words make 5·(i % 7) characters.
    sizes = [sum(len(m["content"]) for m in row["messages"]) for row in rows]
    assert min(sizes) >= 12
    assert max(sizes) <= 40
    assert max(firsts(rows).values()) == 1
    metadata = json.loads((out / "dataset_metadata.json").read_text())
    facts = metadata["dataset_sources"][1]
    assert facts["rows_read"] == 20
    assert facts["actual_entries"] == 0
    assert sum(facts["left_out"].values()) == 20
    assert set(facts["left_out"]) == {"length", "duplicates"}
    assert metadata["blends"]["data"]["split_rows"] == {"validation": 50, "train": len(rows) - 50}
    # Complete: the same command leaves it alone, another configuration is refused.
    before = contents(out)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert "nothing to do" in run(config, out).stderr
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    other = run(config, out, "--set", "seed=4")
    assert other.returncode == 2
    assert "--output-dir" in other.stderr
    assert contents(out) == before
    # The seed alone decides the order, whatever the batch size.
    again = run(config, tmp_path / "again", "--batch-size", "37")
    assert again.returncode == 0
    assert contents(tmp_path / "again") == before


@pytest.mark.slow
def test_large_blends_are_parquet_unless_told_otherwise(tmp_path):
    pq.write_table(chats(50_001, "many"), tmp_path / "many.parquet")
    config = blend(tmp_path / "b.yaml", datasets=[{"name": str(tmp_path / "many.parquet")}])
    assert run(config, tmp_path / "parquet").returncode == 0
    assert run(config, tmp_path / "json", "--disable-parquet-optimization").returncode == 0
    assert {Path(f).suffix for f in contents(tmp_path / "parquet")} == {".parquet"}
    assert {Path(f).suffix for f in contents(tmp_path / "json")} == {".jsonl"}
    first, second = rows_of(tmp_path / "parquet"), rows_of(tmp_path / "json")
    assert len(first) == 50_001
    assert first == second


@pytest.mark.parametrize("drop", [[], ["kind"]])
def test_only_rows_with_the_values_asked_for_are_kept(tmp_path, drop):
    from data.blending.check_sources import check_sources
    from data.sources.config import SourceConfig
    from data.sources.stream import Tally

    kinds = ["train", "test", None] * 4
    pq.write_table(chats(12, "p", kind=kinds), tmp_path / "p.parquet")
    lines = [
        json.dumps({"messages": m, "kind": k})
        for m, k in zip(chats(12, "j")["messages"].to_pylist(), kinds, strict=True)
    ]
    (tmp_path / "j.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("p.parquet", "j.jsonl"):
        config = SourceConfig(name=str(tmp_path / name), only={"kind": ["train", "dev"]}, drop_columns=drop)
        (source,) = check_sources([("here", config)], 0)
        rows = [row for batch in source.stream(5, Tally()) for row in batch.to_pylist()]
        assert firsts(rows) == Counter(f"{name[0]} {i}" for i in range(0, 12, 3))
        assert ("kind" in rows[0]) != bool(drop)


def test_only_of_a_column_that_is_missing_is_refused_with_the_nearest(tmp_path):
    from data.blending.check_sources import check_sources
    from data.sources.config import SourceConfig
    from data.sources.stream import Tally
    from pipeline.errors import InputError

    pq.write_table(chats(2, "p", kind=["a", "b"]), tmp_path / "p.parquet")
    (tmp_path / "j.jsonl").write_text('{"text": "x", "kind": "a"}\n')
    for name in ("p.parquet", "j.jsonl"):
        config = SourceConfig(name=str(tmp_path / name), only={"kinds": ["a"]})
        with pytest.raises(InputError, match=r"here\.only: .* has no column kinds; did you mean kind\?"):
            [_ for source in check_sources([("here", config)], 0) for _ in source.stream(5, Tally())]


GOOD = {"name": "somewhere/set", "split": "train"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"datasets": [{**GOOD, "entires": 5}]}, "entries"),
        ({"datasets": [{**GOOD, "entries": "many"}]}, "datasets"),
        ({"datasets": [{"name": "somewhere/set"}]}, "split is missing"),
        ({"datasets": [{**GOOD, "rename_columns": {"a": "c", "b": "c"}}]}, "rename_columns"),
        ({"datasets": [{**GOOD, "drop_columns": ["a"], "rename_columns": {"a": "c"}}]}, "drop_columns"),
        ({"datasets": []}, "datasets"),
        ({"datasets": [{"name": "./nothing/*.parquet"}]}, "no file matches"),
        ({"datasets": [GOOD], "sed": 1}, "seed"),
    ],
)
def test_bad_blends_get_one_line_before_any_download(content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # a download would fail differently
    config = blend(tmp_path / "b.yaml", **content)
    options = data_collection.parse_options(["--config-path", str(config), "--output-dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended, data_collection.exit_status():
        data_collection.main(options)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert "b.yaml" in error or "nothing" in error
    assert not (tmp_path / "out").exists()


def test_an_upload_into_somebody_elses_repository_is_refused_before_any_source_is_looked_at(at_standin, tmp_path):
    from data import data_collection
    from pipeline.errors import InputError

    at_standin.add_dataset("other/made", {"default": {"train": chats(3, "a")}})
    config = blend(tmp_path / "b.yaml", name="other/made", datasets=[{"name": "./nothing/*.parquet"}])
    output = ["--output-dir", str(tmp_path / "out"), "--upload-to-hub"]
    with pytest.raises(InputError, match="name: the token is of tester, who can't write into other/made"):
        data_collection.main(data_collection.parse_options(["--config-path", str(config), *output]))
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_somebody_elses_is_refused(tmp_path):
    from data import data_collection
    from pipeline.errors import InputError

    pq.write_table(chats(3, "x"), tmp_path / "x.parquet")
    config = blend(tmp_path / "b.yaml", datasets=[{"name": str(tmp_path / "x.parquet")}])
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    options = data_collection.parse_options(["--config-path", str(config), "--output-dir", str(out)])
    with pytest.raises(InputError, match="output-dir|not empty"):
        data_collection.main(options)
    assert (out / "thesis.txt").read_text() == "mine"
    blocked = tmp_path / "file"
    blocked.write_text("")
    options = data_collection.parse_options(["--config-path", str(config), "--output-dir", str(blocked / "out")])
    with pytest.raises(InputError):
        data_collection.main(options)


def test_a_rename_onto_a_column_and_schemas_that_clash_are_refused_by_name(tmp_path):
    from data import data_collection
    from pipeline.errors import InputError

    pq.write_table(chats(3, "x", note=["a"] * 3), tmp_path / "x.parquet")
    pq.write_table(pa.table({"messages": [1, 2, 3]}), tmp_path / "numbers.parquet")

    def build(name: str, *sources: dict) -> None:
        config = blend(tmp_path / f"{name}.yaml", datasets=list(sources))
        data_collection.main(
            data_collection.parse_options(["--config-path", str(config), "--output-dir", str(tmp_path / name)])
        )

    with pytest.raises(InputError, match=r"rename_columns: note can't become messages"):
        build("renamed", {"name": str(tmp_path / "x.parquet"), "rename_columns": {"note": "messages"}})
    with pytest.raises(InputError, match="messages") as refused:
        build("clash", {"name": str(tmp_path / "x.parquet")}, {"name": str(tmp_path / "numbers.parquet")})
    assert "numbers" in str(refused.value)
    assert not (tmp_path / "clash" / "manifest.json").exists()


TOLD = [{"role": "user", "content": "Ann has the cat."}, {"role": "assistant", "content": "noted"}]
ASKED = {"role": "user", "content": "what has Ann"}
CAT, DOG = ({"role": "assistant", "content": text} for text in ("cat", "dog"))


def test_pairs_of_any_format_become_interactions_and_others_are_refused_or_counted(tmp_path):
    whole = {"prompt": None, "chosen": [*TOLD, ASKED, CAT], "rejected": [*TOLD, ASKED, DOG], "id": "implicit"}
    given = {"prompt": [*TOLD, ASKED], "chosen": [CAT], "rejected": [DOG], "id": "explicit"}
    same = {"prompt": [ASKED], "chosen": [CAT], "rejected": [CAT], "id": "same"}
    later = {"prompt": [ASKED], "chosen": [CAT, ASKED, CAT], "rejected": [DOG, ASKED, CAT], "id": "later"}
    pq.write_table(pa.Table.from_pylist([whole, given, same, later]), tmp_path / "pairs.parquet")

    def made(name: str, bad_rows: str, **preferences: int) -> list[dict]:
        source = {"name": str(tmp_path / "pairs.parquet"), "preferences": preferences, "bad_rows": bad_rows}
        config = blend(tmp_path / f"{name}.yaml", datasets=[source])
        output = tmp_path / name
        data_collection.main(data_collection.parse_options(["--config-path", str(config), "--output-dir", str(output)]))
        return sorted(rows_of(output), key=lambda row: row["id"])

    rows = made("kept", "drop")
    assert [row["id"] for row in rows] == ["explicit", "implicit"]
    for row in rows:
        (last,) = row["interactions"]
        assert (row["query"], row["answer"], row["rejected"]) == ("Ann has the cat.", "noted", None)
        assert (last["query"], last["answer"], last["rejected"]) == ("what has Ann", "cat", "dog")
    assert not {"chosen", "prompt"} & rows[0].keys()
    (read, _) = read_conversations(RowSource(path=str(tmp_path / "kept")))
    assert [exchange.rejected for exchange in read.exchanges] == ["", "dog"], "what mrl/dpo.py reads"
    assert [row["interactions"] for row in made("short", "drop", max_turns=1)] == [[], []]
    with pytest.raises(InputError, match="pairs.parquet:3: chosen and rejected are the same"):
        made("refused", "refuse")
