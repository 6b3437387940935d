"""Things on disk that are either whole or not there.

An artefact is a folder whose `manifest.json` was written last and says what each file holds. Work goes into a temporary
sibling; a rename makes it visible. A folder without a manifest is the remains of a killed run and is never taken for a
result; one whose files aren't what its manifest says is damaged and is passed over.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
FOR_PEOPLE = {"README.md"}
"""Files that may be edited in a finished artefact."""


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Let an error of the disk name `path`: a full one names no file, and libraries in Rust raise errors of their own.

    Raises OSError with number and file name in place of those.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        if not (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Raises OSError naming it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with writing(path), os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes private files; a result is for everybody to read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Atomic `write_text` of indented JSON with a final newline; what is no finite number becomes null."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same data with None for each NaN and infinity, which JSON doesn't have."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a complete artefact, None where there is none or it can't be read."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_complete(path: Path) -> bool:
    """Whether `path` is a folder that was finished."""
    return read_manifest(path) is not None


def seal(path: Path, manifest: Mapping[str, Any], digests: Mapping[str, str] | None = None) -> None:
    """Flush every file of a finished folder to disk, then write its manifest: from here on it counts.

    The manifest gets `files`: size and SHA-256 of each, read while the disk is busy flushing. `digests` holds those
    that are known already, by path in the folder.
    """
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file != path / MANIFEST]
    names = [file.relative_to(path).as_posix() for file in files]
    with ThreadPoolExecutor(2) as pool:
        flushed = pool.map(_fsync, files)
        known = [(digests or {}).get(name) or _digest(file) for name, file in zip(names, files, strict=True)]
        list(flushed)
    contents = {
        name: {"bytes": file.stat().st_size, "sha256": digest}
        for name, file, digest in zip(names, files, known, strict=True)
    }
    write_json(path / MANIFEST, {**manifest, "files": contents})
    _fsync(path)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def contents_digest(path: Path, pattern: str) -> str:
    """SHA-256 that stands for the files of a folder whose names match `pattern`, by name and content.

    A finished folder's manifest has their contents already; whether they are still those, `verify` tells.
    """
    told = (read_manifest(path) or {}).get("files", {})
    files = sorted(path.glob(pattern))
    lines = (f"{file.name} {told[file.name]['sha256'] if file.name in told else _digest(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def damage(path: Path) -> str | None:
    """What is wrong with a finished folder, None where every file holds what its manifest says.

    Each file is read once, about a second for a gigabyte. Manifests without contents tell of no damage.
    """
    manifest = read_manifest(path)
    if manifest is None:
        return f"{path} is incomplete (no readable {MANIFEST})"
    files = manifest.get("files")
    for name, expected in files.items() if isinstance(files, dict) else ():
        if isinstance(expected, dict) and (found := _damaged(path / name, name in FOR_PEOPLE, expected)):
            return found
    return None


def _damaged(file: Path, may_differ: bool, expected: Mapping[str, Any]) -> str | None:
    try:
        size = file.stat().st_size
        if may_differ:
            return None
        if size != expected.get("bytes"):
            return f"{file} is damaged: {size} bytes instead of {expected.get('bytes')}"
        return None if _digest(file) == expected.get("sha256") else f"{file} is damaged: its content has changed"
    except FileNotFoundError:
        return f"{file} is missing"
    except OSError as error:
        return f"{file} can't be read ({error.strerror})"


def verify(path: Path) -> None:
    """Raise InputError naming the file where a finished folder is damaged."""
    if found := damage(path):
        raise InputError(f"{found}; restore it from a copy or make {path} anew")


@contextmanager
def atomic_dir(path: Path, manifest: dict[str, Any]) -> Generator[Path]:
    """Yield a temporary sibling of `path`; on success seal it with `manifest` and put it in place.

    `manifest` is read at the end, so the caller may fill it while working. An older folder at `path` is replaced only
    once the new one is whole. On an exception the temporary folder goes and `path` stays as it was; where the disk is
    to blame, it is an OSError that names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    temporary.chmod(0o755)
    try:
        with writing(path):
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
    """Wait until a file or the entries of a folder are on the disk."""
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
    """The newest sound checkpoint in `parent`; half-written and damaged ones are passed over, these with a warning."""
    _restore_replaced(parent)
    for path in reversed(checkpoints(parent, pattern)):
        if not (found := damage(path)):
            return path
        logger.warning("passing over %s: %s", path.name, found)
    return None


def _restore_replaced(parent: Path) -> None:
    for old in parent.glob(".*.replaced"):
        original = old.with_name(old.name.removeprefix(".").removesuffix(".replaced"))
        if not original.exists() and is_complete(old):
            old.rename(original)


def remove_partial(parent: Path, pattern: str = "checkpoint-*") -> None:
    """Clear away what killed runs left in `parent`: temporary files and folders, and halves of replacements.

    Checkpoints that are newer than the newest sound one are damaged: they get the suffix `.damaged`, so that none of
    them is ever gone on from or kept in place of a sound one. For the one process that writes to `parent`.
    """
    _restore_replaced(parent)
    for leftover in [*parent.glob(".*.partial"), *parent.glob(".*.replaced")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in parent.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in reversed(checkpoints(parent, pattern)):
        if not (found := damage(path)):
            break
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        logger.warning("passing over %s, from now on %s: %s", path.name, aside.name, found)


def rotate(parent: Path, keep: int, protect: Collection[Path] = (), pattern: str = "checkpoint-*") -> None:
    """Delete the oldest complete checkpoints beyond `keep`, never one in `protect`, never the only good one."""
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    guarded = {p.resolve() for p in protect}
    for path in checkpoints(parent, pattern)[:-keep]:
        if path.resolve() not in guarded:
            # Renamed first: a kill while deleting leaves what the next start clears away, nothing like a checkpoint.
            going = path.with_name(f".{path.name}.rotated.partial")
            shutil.rmtree(going, ignore_errors=True)
            path.rename(going)
            shutil.rmtree(going, ignore_errors=True)
