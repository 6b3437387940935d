"""One process at a time writes into a folder."""

import errno
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

from pipeline.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no such locks; two runs in one folder then aren't noticed
    fcntl = None

logger = logging.getLogger(__name__)
LOCK = ".lock"


class FolderLock:
    """The right to write into a folder, held until `release` or the end of the process, however it ends.

    A record lock of the operating system: no child process inherits it, a kill lifts it. (So does any closing of
    another handle of the file in this process: nothing else opens it.)
    """

    def __init__(self, folder: Path, key: str = "output_dir") -> None:
        """Take the lock of an existing folder. `key` names the setting in the refusal.

        Raises InputError naming the process that holds it.
        """
        self.path = folder / LOCK
        self._file: TextIO | None = None
        while fcntl is not None and self._file is None:
            file = self.path.open("a+", encoding="utf-8")
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    file.close()
                    logger.warning(
                        "%s: no locks here (%s); mind that no other run writes there", folder, error.strerror
                    )
                    return
                raise InputError(
                    f"{key}: {folder} is in use by {_holder(file)}; wait for it or choose another"
                ) from None
            if _is_same(file, self.path):  # else its holder has just removed it: a lock on it says nothing
                self._file = file
                self._sign(file)

    @staticmethod
    def _sign(file: TextIO) -> None:
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "script": sys.argv[0], "since": started}, file)
        file.flush()

    def release(self) -> None:
        """Give the folder free and leave no trace. Does nothing the second time."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _is_same(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: TextIO) -> str:
    try:
        file.seek(0)
        signed = json.load(file)
        return f"process {signed['pid']} on {signed['host']} ({signed['script']}, since {signed['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


__all__ = ["LOCK", "FolderLock"]
