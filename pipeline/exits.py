"""How a script ends: what a person can mend is one line on stderr and an exit status, the rest a traceback."""

import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from pipeline.errors import InputError, shortened
from pipeline.redaction import redact_text

_STORAGE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.ENAMETOOLONG,
}
_STORAGE_TEXTS = [  # what torch and safetensors make of an OSError
    (r"No space left on device|PytorchStreamWriter failed|unexpected pos \d+ vs \d+", "the disk is full"),
    (r"Read-only file system", "the disk is read-only"),
    (r"Disk quota exceeded", "the disk's quota is used up"),
]
_MEMORY_TEXTS = r"can't allocate memory|Cannot allocate memory|not enough memory"


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same clean end as Ctrl-C, with another exit status."""


def storage_problem(error: BaseException | None) -> str | None:
    """What is wrong with the disk where an error, or one behind it, tells of that: a full or read-only one, one that
    can't be read. None for all other errors."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return f"the disk is full ({error.filename})" if error.filename else "the disk is full"
        if isinstance(error, OSError) and error.errno in _STORAGE:
            return f"{error.filename or 'a file'} can't be used: {error.strerror}"
        for pattern, problem in _STORAGE_TEXTS:
            if re.search(pattern, str(error)):
                return problem
        error = error.__cause__
    return None


@contextmanager
def exit_status() -> Generator[None]:
    """Turn what a person can mend into one line on stderr and an exit status.

    2 bad input; 1 a disk that is full or can't be written, memory that is used up; 130 Ctrl-C, 143 SIGTERM. Anything
    else is a bug: a traceback, without secrets.
    """
    before = _end_cleanly_on_sigterm()
    sys.excepthook = _excepthook
    try:
        yield
    except InputError as error:
        _end(f"error: {error}", 2)
    except Terminated:
        _end("interrupted", 143)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except Exception as error:
        if problem := storage_problem(error):
            _end(f"error: {shortened(problem, 300)}; earlier checkpoints are untouched", 1)
        if not _out_of_memory(error):
            raise
        where = "accelerator " if type(error).__name__ == "OutOfMemoryError" else ""
        remedy = "halve the per-device batch size and double the accumulation steps"
        _end(f"error: out of {where}memory; {remedy}", 1)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end(line: str, status: int) -> None:
    print(redact_text(line.replace("\n", " ")), file=sys.stderr)
    sys.exit(status)


def _out_of_memory(error: BaseException) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and re.search(_MEMORY_TEXTS, str(error)) is not None)


def _end_cleanly_on_sigterm() -> Any:
    """Let SIGTERM raise `Terminated`; returns the handler before it, None where there is no need for one: several
    processes end through their launcher, which kills those that wait for each other."""
    if os.environ.get("WORLD_SIZE", "1") != "1" or threading.current_thread() is not threading.main_thread():
        return None
    own = os.getpid()

    def terminate(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:  # a worker that inherited the handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated

    return signal.signal(signal.SIGTERM, terminate)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(redact_text("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


__all__ = ["Terminated", "exit_status", "storage_problem"]
