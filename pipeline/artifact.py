"""Things on disk that are either whole or not there.

An artefact is a folder whose `manifest.json` was written last. Work goes into a temporary sibling; a rename makes it
visible. A folder without a manifest is the remains of a killed run and is never taken for a result.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes private files; a result is for everybody to read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Atomic `write_text` of indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a complete artefact, None where there is none or it can't be read."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_complete(path: Path) -> bool:
    """Whether `path` is a folder that was finished."""
    return read_manifest(path) is not None


def seal(path: Path, manifest: Mapping[str, Any]) -> None:
    """Flush every file of a finished folder to disk, then write its manifest: from here on it counts."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            _fsync(file)
    write_json(path / MANIFEST, dict(manifest))
    _fsync(path)


@contextmanager
def atomic_dir(path: Path, manifest: dict[str, Any]) -> Generator[Path]:
    """Yield a temporary sibling of `path`; on success seal it with `manifest` and put it in place.

    `manifest` is read at the end, so the caller may fill it while working. An older folder at `path` is replaced only
    once the new one is whole. On an exception the temporary folder goes and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        seal(temporary, manifest)
        _swap(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
    else:
        # A folder can't be renamed over a full one. Between these two renames only the old name is missing: the old
        # content still lies beside it under a name that `latest_complete` finds again after a kill.
        old = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoints(parent: Path, pattern: str = "checkpoint-*") -> list[Path]:
    """Complete numbered artefacts in `parent`, oldest first by their trailing number."""
    found = [(int(m[1]), p) for p in parent.glob(pattern) if (m := re.search(r"(\d+)$", p.name)) and is_complete(p)]
    return [path for _, path in sorted(found)]


def latest_complete(parent: Path, pattern: str = "checkpoint-*") -> Path | None:
    """The newest complete checkpoint in `parent`; half-written ones are passed over."""
    _restore_replaced(parent)
    found = checkpoints(parent, pattern)
    return found[-1] if found else None


def _restore_replaced(parent: Path) -> None:
    for old in parent.glob(".*.replaced"):
        original = old.with_name(old.name.removeprefix(".").removesuffix(".replaced"))
        if not original.exists() and is_complete(old):
            old.rename(original)


def remove_partial(parent: Path) -> None:
    """Clear away temporary folders that killed runs left in `parent`."""
    _restore_replaced(parent)
    for leftover in parent.glob(".*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)


def rotate(parent: Path, keep: int, protect: Collection[Path] = (), pattern: str = "checkpoint-*") -> None:
    """Delete the oldest complete checkpoints beyond `keep`, never one in `protect`, never the only good one."""
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    guarded = {p.resolve() for p in protect}
    for path in checkpoints(parent, pattern)[:-keep]:
        if path.resolve() not in guarded:
            (path / MANIFEST).unlink()  # first, so that a kill while deleting leaves no folder that looks whole
            shutil.rmtree(path, ignore_errors=True)
