"""Whole or not there: what a kill or a full disk leaves behind is never taken for a result."""

import errno
import json

import pytest

from pipeline import artifact
from pipeline.artifact import (
    atomic_dir,
    checkpoints,
    is_complete,
    latest_complete,
    read_manifest,
    remove_partial,
    rotate,
    write_json,
    write_text,
)


def make(parent, number, text="x"):
    path = parent / f"checkpoint-{number}"
    with atomic_dir(path, {"step": number}) as folder:
        (folder / "weights").write_text(text)
    return path


def test_a_folder_appears_whole_with_its_manifest(tmp_path):
    manifest = {}
    with atomic_dir(tmp_path / "out", manifest) as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "out").exists()
        manifest["rows"] = 1  # what is learnt while working still gets in
    assert read_manifest(tmp_path / "out") == {"rows": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_failure_leaves_the_older_artefact_as_it_was(tmp_path):
    path = make(tmp_path, 1, "good")

    def fail():
        with atomic_dir(path, {}) as folder:
            (folder / "weights").write_text("half")
            raise OSError(errno.ENOSPC, "disk full")

    pytest.raises(OSError, fail)
    assert (path / "weights").read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_replacing_puts_the_new_content_in_place(tmp_path):
    make(tmp_path, 1, "old")
    path = make(tmp_path, 1, "new")
    assert (path / "weights").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    path = make(tmp_path, 7, "old")
    path.rename(tmp_path / ".checkpoint-7.replaced")  # the state in which that kill leaves the folder
    assert latest_complete(tmp_path) == path
    assert (path / "weights").read_text() == "old"


def test_latest_is_the_highest_number_with_a_manifest(tmp_path):
    for number in (9, 10, 100):
        make(tmp_path, number)
    (tmp_path / "checkpoint-101").mkdir()
    (tmp_path / "checkpoint-102").mkdir()
    (tmp_path / "checkpoint-102" / "manifest.json").write_text('{"step": ')  # cut in the middle
    assert latest_complete(tmp_path) == tmp_path / "checkpoint-100"
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert latest_complete(tmp_path / "absent") is None


def test_rotation_keeps_the_newest_and_the_protected(tmp_path):
    paths = [make(tmp_path, n) for n in range(1, 6)]
    rotate(tmp_path, keep=2, protect=[paths[1]])
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    with pytest.raises(ValueError, match="at least 1"):
        rotate(tmp_path, keep=0)


def test_remains_of_killed_runs_are_cleared(tmp_path):
    (tmp_path / ".checkpoint-3.abc.partial").mkdir()
    make(tmp_path, 2)
    remove_partial(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]


def test_text_is_replaced_in_one_go(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(artifact.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    pytest.raises(OSError, write_text, path, "half")
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert not is_complete(tmp_path)
