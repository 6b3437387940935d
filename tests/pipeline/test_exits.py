"""What ends a script: one line and a status for what a person can mend, and only for that."""

import errno

import pytest

from pipeline.errors import InputError
from pipeline.exits import exit_status, storage_problem


class SafetensorError(Exception):
    """Named as the library's, which imports slowly."""


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.yaml:3: seed is missing\nadd it"), 2, "error: a.yaml:3: seed is missing add it"),
        (OSError(errno.ENOSPC, "No space", "w.bin"), 1, "error: the disk is full (w.bin); earlier"),
        (OSError(errno.ENOSPC, "No space"), 1, "error: the disk is full; earlier"),
        (OSError(errno.EROFS, "Read-only file system", "m"), 1, "error: m can't be used: Read-only file system; "),
        (PermissionError(errno.EACCES, "Permission denied", "m"), 1, "error: m can't be used: Permission denied; "),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/3"), 1, "error: the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), 1, "error: the disk is full; "),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), 1, "error: the disk is read-only; "),
        (caused(ValueError("saving"), OSError(errno.ENOSPC, "No space", "w")), 1, "error: the disk is full (w); "),
        (MemoryError(), 1, "error: out of memory; halve the per-device batch size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "error: out of memory; "),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_person_can_mend_is_one_line(capsys, error, status, line):
    with pytest.raises(SystemExit) as ended, exit_status():
        raise error
    printed = capsys.readouterr().err
    assert ended.value.code == status
    assert printed.startswith(line)
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        RuntimeError("PytorchStreamReader failed reading zip archive: inline_container.cc"),
    ],
)
def test_a_bug_stays_a_bug(error):
    assert storage_problem(error) is None
    with pytest.raises(type(error)), exit_status():
        raise error
