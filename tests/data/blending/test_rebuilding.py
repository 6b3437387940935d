"""What a second start of a build makes of what is there: finished, damaged, renamed, lost in a race."""

import json
import os
import threading
from pathlib import Path

import pytest

from data import data_collection
from data.blending.build_dir import AlreadyBuiltError, BuildDir
from data.generators.episode_topics import generate as episodes
from data.generators.name_permutation import generate as renamed
from data.generators.registry import content_of
from pipeline.errors import InputError


def start(folder: Path, **more: object) -> Path:
    """Build in this process; returns the output folder."""
    (folder / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n') if not (
        folder / "rows.jsonl"
    ).exists() else None
    config, out = folder / "blend.yaml", folder / "out"
    config.write_text(json.dumps({"name": "made", "datasets": [{"name": str(folder / "rows.jsonl")}], **more}))
    data_collection.main(data_collection.parse_options(["--config-path", str(config), "--output-dir", str(out)]))
    return out


def test_a_shard_that_is_missing_or_changed_is_noticed(tmp_path):
    out = start(tmp_path)
    (shard,) = out.glob("data/*.jsonl")
    good = shard.read_bytes()
    shard.write_bytes(good.replace(b'"a"', b'"c"'))
    with pytest.raises(InputError, match=rf"{shard.name} is damaged: its content has changed"):
        start(tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard.name} is missing"):
        start(tmp_path)
    shard.write_bytes(good)
    assert start(tmp_path) == out


def test_the_labels_of_a_dataset_are_brought_up_to_date_and_its_rows_stay(tmp_path):
    out = start(tmp_path)
    (shard,) = out.glob("data/*.jsonl")
    made = shard.stat().st_mtime_ns
    start(tmp_path, name="other", description="Two letters.", license="mit")
    assert json.loads((out / "dataset_metadata.json").read_text())["name"] == "other"
    assert json.loads((out / "manifest.json").read_text())["name"] == "other"
    assert "Two letters." in (out / "README.md").read_text()
    assert shard.stat().st_mtime_ns == made
    start(tmp_path, name="other", description="Two letters.", license="mit")  # and is sound
    with pytest.raises(InputError, match="other data or settings"):
        start(tmp_path, seed=7)


def test_changed_rows_are_other_data_even_under_their_old_time(tmp_path):
    out = start(tmp_path)
    file = tmp_path / "rows.jsonl"
    status = file.stat()
    file.write_text(file.read_text().replace('"a"', '"c"'))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputError, match=f"{out} was built from other data"):
        start(tmp_path)


def test_who_loses_a_race_finds_the_result_and_leaves_it_alone(tmp_path, monkeypatch):
    waits, goes_on = threading.Event(), threading.Event()
    checked = data_collection.check_sources

    def slow(*arguments):
        found = checked(*arguments)
        if threading.current_thread().name == "second":
            waits.set()
            goes_on.wait(20)
        return found

    monkeypatch.setattr(data_collection, "check_sources", slow)
    outcome: list[object] = []

    def second() -> None:
        try:
            outcome.append(start(tmp_path))
        except Exception as error:
            outcome.append(error)

    loser = threading.Thread(target=second, name="second")
    loser.start()
    assert waits.wait(20)
    out = start(tmp_path)  # from looking to building, another one has come in between
    goes_on.set()
    loser.join(20)
    assert outcome == [out]
    assert not (out / ".build").exists()
    with pytest.raises(AlreadyBuiltError):
        BuildDir(out)


def test_a_generator_s_content_covers_the_modules_and_files_behind_it(tmp_path, monkeypatch):
    import data.generators.episode_world as world

    before = content_of(episodes, {"kind": "episodes"})
    assert Path(world.__file__).read_text() in before
    file = tmp_path / "rows.jsonl"
    file.write_text('{"query": "a"}\n')
    one = content_of(renamed, {"path": str(file), "names": [["a"]]})
    file.write_text('{"query": "b"}\n')
    assert content_of(renamed, {"path": str(file), "names": [["a"]]}) != one


def test_nothing_that_goes_to_the_hub_holds_a_secret(tmp_path):
    secret = "hf_abcdefghijklmnopqrst"
    out = start(tmp_path, name=f"made-{secret}", description=f"With {secret}.")
    assert start(tmp_path, name=f"made-{secret}", description=f"Again with {secret}.") == out
    written = [p.read_text() for p in out.rglob("*") if p.is_file()]
    assert "Again with ***." in "".join(written)
    assert secret not in "".join(written)
