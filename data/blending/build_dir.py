"""The folder that a build writes into: refused when it isn't ours, taken up after a kill, published in one go.

Work happens in `OUTPUT/.build`, on the same file system as the result (which may be a mount point). Finished sources
lie in `.build/sources`, the result grows in `.build/out` and moves up at the end, its manifest last: a folder without
manifest.json is not a result. An output that is complete is never touched.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact import MANIFEST, read_manifest, seal
from pipeline.errors import InputError

WORK = ".build"


class AlreadyBuiltError(Exception):
    """The folder holds a finished build."""


class BuildDir:
    """An output folder that this process alone builds in."""

    def __init__(self, output: Path) -> None:
        """Make and lock the folder.

        Raises InputError when it holds something else, can't be written or is being built in, AlreadyBuiltError when it
        is finished already.
        """
        self.output, self.work = output, output / WORK
        if read_manifest(output) is not None:
            raise AlreadyBuiltError
        check_output(output)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = (self.work / "lock").open("w")
        except OSError as error:
            raise InputError(f"--output-dir: {output} can't be written ({error.strerror}); choose another") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"--output-dir: another build is writing {output}; wait for it or choose another"
            ) from None
        if read_manifest(output) is not None:  # finished while this process was taking the lock
            shutil.rmtree(self.work, ignore_errors=True)
            raise AlreadyBuiltError
        check_output(output)

    @property
    def out(self) -> Path:
        """Where the result is put together."""
        return self.work / "out"

    def sources(self) -> Path:
        """Where finished sources are kept until the build is done."""
        return self.work / "sources"

    def start_over(self) -> Path:
        """An empty `out`, and an empty folder for scratch files beside it."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.work / "scratch", ignore_errors=True)
        self.out.mkdir()
        (self.work / "scratch").mkdir()
        return self.work / "scratch"

    def publish(self, manifest: Mapping[str, Any], digests: Mapping[str, str]) -> None:
        """Seal the result and move it up. digests: SHA-256 of files that were hashed when written, by path in `out`."""
        seal(self.out, manifest, digests)
        self._move_up()

    def finish_publishing(self) -> bool:
        """Go on where a build was killed while moving its sealed result up. False when there was none."""
        if read_manifest(self.out) is None:
            return False
        self._move_up()
        return True

    def _move_up(self) -> None:
        for entry in sorted(self.out.iterdir(), key=lambda p: p.name == MANIFEST):
            entry.rename(self.output / entry.name)
        directory = os.open(self.output, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        shutil.rmtree(self.work, ignore_errors=True)
        self._lock.close()


def check_output(output: Path) -> None:
    """Refuse an output folder that holds something else than the remains of a killed build, or can't be written."""
    remedy = "remove it or choose another"
    if output.exists() and not output.is_dir():
        raise InputError(f"--output-dir: {output} is a file; {remedy}")
    nearest_folder = next(p for p in [output, *output.absolute().parents] if p.exists())
    if not nearest_folder.is_dir() or not os.access(nearest_folder, os.W_OK | os.X_OK):
        raise InputError(f"--output-dir: {output} can't be written ({nearest_folder} is read-only); choose another")
    if not output.exists():
        return
    others = [p.name for p in output.iterdir() if p.name != WORK]
    publishing = (output / WORK / "out" / MANIFEST).exists()
    if others and not publishing:
        raise InputError(f"--output-dir: {output} is not empty ({', '.join(sorted(others)[:3])}); {remedy}")


__all__ = ["AlreadyBuiltError", "BuildDir", "check_output"]
