"""Whole or not there: what a kill or a full disk leaves behind is never taken for a result."""

import errno
import json

import pytest

from pipeline import artifact
from pipeline.artifact import (
    atomic_dir,
    checkpoints,
    contents_digest,
    damage,
    is_complete,
    latest_complete,
    read_manifest,
    remove_partial,
    rotate,
    seal,
    verify,
    write_json,
    write_text,
    writing,
)
from pipeline.errors import InputError


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
    manifest = read_manifest(tmp_path / "out")
    digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # of the one byte `1`
    assert manifest == {"rows": 1, "files": {"a": {"bytes": 1, "sha256": digest}}}
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


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_what_was_damaged_is_named(tmp_path):
    path = tmp_path / "model"
    with atomic_dir(path, {}) as folder:
        (folder / "README.md").write_text("card")
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_bytes(bytes(1000))
        (folder / "tokenizer").write_text("words")
    assert damage(path) is None
    (path / "README.md").write_text("a card that somebody went over")
    assert damage(path) is None
    flip_a_bit(path / "deep" / "weights")
    assert damage(path) == f"{path}/deep/weights is damaged: its content has changed"
    (path / "deep" / "weights").write_bytes(bytes(1000))
    verify(path)
    (path / "tokenizer").write_text("word")
    with pytest.raises(InputError, match=r"tokenizer is damaged: 4 bytes instead of 5; restore it from a copy"):
        verify(path)
    (path / "tokenizer").unlink()
    assert damage(path) == f"{path}/tokenizer is missing"
    (path / "manifest.json").write_text("[" * 100_000)
    assert damage(path) == f"{path} is incomplete (no readable manifest.json)"


def test_known_digests_are_taken_over(tmp_path):
    (tmp_path / "shard").write_text("rows")
    seal(tmp_path, {}, {"shard": "0" * 64})
    assert read_manifest(tmp_path)["files"]["shard"]["sha256"] == "0" * 64
    write_json(tmp_path / "manifest.json", {"files": {"shard": 4}})  # an older form
    assert damage(tmp_path) is None


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    paths = [make(tmp_path, n, "weights") for n in (1, 2, 3)]
    flip_a_bit(paths[2] / "weights")
    assert latest_complete(tmp_path) == paths[1]
    assert "passing over checkpoint-3" in caplog.text
    remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2", "checkpoint-3.damaged"]
    make(tmp_path, 3)
    rotate(tmp_path, keep=1)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-3"]  # the new one, not the damaged one
    for path in checkpoints(tmp_path):
        flip_a_bit(path / "weights")
    assert latest_complete(tmp_path) is None


class Killed(BaseException):
    """SIGKILL: nothing after it runs, no clean-up either."""


def killed_at(monkeypatch, step):
    """Let the `step`-th change to the disk that pipeline.artifact makes, and all after it, not happen."""
    count = 0

    def guarded(real):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count >= step:
                raise Killed
            return real(*arguments, **keywords)

        return call

    for owner, name in [
        (artifact.Path, "rename"), (artifact.Path, "replace"), (artifact.Path, "unlink"), (artifact.Path, "chmod"),
        (artifact.shutil, "rmtree"), (artifact.tempfile, "mkstemp"), (artifact.tempfile, "mkdtemp"),
        (artifact, "_fsync"), (artifact, "_digest"),
    ]:  # fmt: skip
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))
    return lambda: count


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_a_kill_at_any_step_of_a_save_leaves_the_old_or_the_new(tmp_path, monkeypatch, replacing):
    step, ended = 1, False
    while not ended:
        parent = tmp_path / str(step)
        make(parent, 1, "first")
        if replacing:
            make(parent, 2, "old")
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            try:
                make(parent, 2, "new")
                rotate(parent, keep=1)
                ended = True
            except Killed:
                pass
        remove_partial(parent)
        left = latest_complete(parent)
        expected = {"new"} if ended else {"new", "old" if replacing else "first"}
        assert (left / "weights").read_text() in expected
        assert [p.name for p in parent.iterdir() if p not in checkpoints(parent)] == []
        step += 1
    assert step > 10


def test_a_kill_at_any_step_of_a_rewritten_file_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    step, ended = 1, False
    while not ended:
        path = tmp_path / str(step) / "metrics.json"
        write_text(path, "old")
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            try:
                write_text(path, "new")
                ended = True
            except Killed:
                pass
        remove_partial(path.parent)
        assert path.read_text() in ({"new"} if ended else {"old", "new"})
        assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]
        step += 1
    assert step > 3


def test_json_never_holds_what_json_does_not_have(tmp_path):
    write_json(tmp_path / "m.json", {"loss": float("nan"), "all": [1.5, float("inf")], "fine": (1, None)})
    assert json.loads((tmp_path / "m.json").read_text()) == {"loss": None, "all": [1.5, None], "fine": [1, None]}


class RustError(Exception):
    """As safetensors and tokenizers raise it."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (RustError("I/O error: Read-only file system (os error 30)"), errno.EROFS),
    ],
)
def test_a_disk_that_fails_names_the_file(tmp_path, error, number):
    def fails(path):
        with atomic_dir(path, {}):
            raise error

    with pytest.raises(OSError, match="model") as caught:
        fails(tmp_path / "model")
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_text_file(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")

    def fills():
        with writing(tmp_path / "metrics.jsonl"), (tmp_path / "full").open("w") as file:
            file.write("x" * 100_000)

    with pytest.raises(OSError, match="metrics") as caught:
        fills()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "metrics.jsonl"))


def test_a_digest_stands_for_names_and_contents_and_is_the_same_with_and_without_a_manifest(tmp_path):
    finished = make(tmp_path, 1, "red")
    (tmp_path / "plain").mkdir()
    plain = tmp_path / "plain" / "weights"
    plain.write_text("red")
    told = contents_digest(finished, "w*")
    assert told == contents_digest(tmp_path / "plain", "w*")
    plain.write_text("blue")
    assert told != contents_digest(tmp_path / "plain", "w*")
    plain.write_text("red")
    plain.rename(tmp_path / "plain" / "words")
    assert told != contents_digest(tmp_path / "plain", "w*")
    assert contents_digest(finished, "none*") != told
