"""Which local files a name, a subset and a split mean: one rule for blends, training, held-out rows and episodes.

A name is a folder, a file or a glob. Where a folder's card (README.md) declares its subsets and splits, as every built
blend's does, they are what it says. Elsewhere files say it themselves: by their names (data/sources/split_names.py) and
folders. What is ambiguous or unknown is refused with the list of what is there; nothing is guessed.
"""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from data.sources.folder_cards import METADATA, Declared, built_files, built_hash, declared_files
from data.sources.split_names import (
    CANONICAL,
    RowSlice,
    bare_name,
    folders_below,
    parse_split,
    said_by_words,
    same_split,
    split_of,
)
from pipeline.artifact import MANIFEST
from pipeline.config import nearest
from pipeline.errors import InputError

TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
TEXT = ".txt"
COMPRESSED = ("", ".gz", ".zst")
SUFFIXES = tuple(
    kind + packed for kind in (*TABLES, TEXT) for packed in (COMPRESSED if kind != ".parquet" else COMPRESSED[:1])
)
"""What can be read. A folder's .txt files count only where it holds nothing else."""
NOT_ROWS = frozenset(
    {METADATA, MANIFEST, "dataset_info.json", "dataset_infos.json", "state.json", "config.json", "metrics.json"}
)
ALL = "*"


@dataclass(frozen=True, kw_only=True)
class FileQuery:
    """What is asked for. `where` and `key` name the place in the YAML for messages: `datasets[0]` and `name`."""

    path: str
    subset: str | None = None
    """A subset's name, or `*` for all of them. Default: the only one."""
    split: str | None = None
    """One name, with a slice if wanted (`train[:10%]`). Default: `train` where there are splits, else all rows."""
    where: str = ""
    key: str = "name"

    def at(self, key: str | None = None) -> str:
        """The place of a key for messages."""
        return ".".join(part for part in (self.where, key or self.key) if part)


@dataclass(frozen=True)
class Selection:
    """The files that a query means, in order, and which of their rows."""

    query: FileQuery
    files: tuple[Path, ...]
    split: str | None = None
    """The split asked for, without its slice."""
    rows: RowSlice | None = None
    split_column: bool = False
    """The files don't say their split; rows are chosen by their column `split` (all, where they have none and the
    split is `train`)."""

    def fingerprint(self) -> str:
        """32 hexadecimal digits that stand for the bytes of the files and the part of them that is read.

        Raises InputError when a file of a built blend isn't what was built.
        """
        digest = xxhash.xxh3_128(repr((self.split if self.split_column else None, str(self.rows))).encode())
        for file, built in self._built_hashes():
            digest.update((built or hash_file(file)).encode())
        return digest.hexdigest()

    def check_built(self) -> None:
        """Raises InputError when a file of a built blend isn't what was built."""
        for _ in self._built_hashes():
            pass

    def _built_hashes(self) -> Iterator[tuple[Path, str | None]]:
        """Each file with its SHA-256, found to be that of the build; None for a file that isn't of one."""
        for file in self.files:
            built = built_hash(file)
            if built and hash_file(file, "sha256") != built:
                raise InputError(f"{self.query.at()}: {file} isn't what was built, see {METADATA}; build it again")
            yield file, built


def is_local(name: str) -> bool:
    """Whether a name is a path and not an id of the Hub (`owner/name`)."""
    return (
        name.startswith((".", "/", "~"))
        or glob.has_magic(name)
        or name.endswith(SUFFIXES)
        or name.count("/") > 1
        or Path(name).exists()
    )


def find_files(query: FileQuery) -> Selection:
    """The files of a query. Raises InputError with what is there where the query fits nothing, or more than one thing.

    Looks at names and cards only; no row is read.
    """
    name, rows = parse_split(query.split, query.at("split")) if query.split is not None else (None, None)
    path = Path(query.path).expanduser()
    if path.is_dir():
        files, split_column = _in_folder(query, path, name)
    else:
        if query.subset is not None:
            raise InputError(f"{query.at('subset')}: {query.path} is no folder and has no subsets; leave subset out")
        found = [path] if path.exists() else [Path(p) for p in glob.glob(str(path), recursive=True)]
        files = sorted(p for p in found if not p.is_dir())
        if not files:
            remedy = "correct the path, or build it with data/data_collection.py"
            raise InputError(f"{query.at()}: no file matches {query.path} (looked in {Path.cwd()}); {remedy}")
        if len(files) > 1:
            files = [f for f in files if f.name not in NOT_ROWS] or files
        _check_kinds(query, files)
        files, split_column = _of_split(query, files, _common_folder(files), name)
    _check_twins(query, files)
    for file in files:
        check_regular(file, query.at())
    return Selection(query, tuple(files), name, rows, split_column)


def all_files(name: str, where: str) -> list[Path]:
    """Every data file that a path, a folder or a glob names, whatever its split. Raises InputError for none."""
    path = Path(name).expanduser()
    named = [path] if path.exists() else [Path(p) for p in glob.glob(str(path), recursive=True)]
    found = sorted(f for p in named for f in (_data_files(p) if p.is_dir() else [p]))
    if not found:
        raise InputError(f"{where}: no data file matches {name} (looked in {Path.cwd()}); correct the path")
    for file in found:
        check_regular(file, where)
    return found


def check_regular(file: Path, where: str) -> None:
    """Raises InputError for what isn't an ordinary readable file, such as a pipe, which may never end."""
    try:
        ordinary = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        raise InputError(f"{where}: {file} can't be read ({error.strerror}); correct the path or its rights") from None
    if not ordinary:
        raise InputError(f"{where}: {file} is no ordinary file; write the rows to one")


def hash_file(file: Path, kind: str = "xxh3") -> str:
    """The hash of a file's bytes: xxh3 (fast) or sha256 (as in a build's metadata)."""
    digest = hashlib.sha256() if kind == "sha256" else xxhash.xxh3_128()
    try:
        buffer = memoryview(bytearray(1 << 18))  # one for all reads: fresh memory costs more than the hash
        with file.open("rb", buffering=0) as stream:
            while size := stream.readinto(buffer):
                digest.update(buffer[:size])
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror}); correct its rights or leave it out") from None
    return digest.hexdigest()


def _in_folder(query: FileQuery, folder: Path, split: str | None) -> tuple[list[Path], bool]:
    if ((folder / METADATA).exists() or (folder / ".build").exists()) and not (folder / MANIFEST).exists():
        raise InputError(f"{query.at()}: {folder} is an unfinished build; run data/data_collection.py again")
    if declared := built_files(folder) or declared_files(folder):
        return _of_declared(query, folder, declared, split), False
    root = _subset_folder(query, folder)
    files = _data_files(root)
    if not files:
        raise InputError(f"{query.at()}: {root} holds no data file ({', '.join((*TABLES, TEXT))}); correct the path")
    chosen, split_column = _of_split(query, files, root, split)
    parts = sorted({_subset_of(f, root) for f in chosen})
    if len(parts) > 1 and query.subset != ALL:
        raise InputError(
            f"{query.at('subset')}: {root} has these rows in several folders ({_listed(parts)}); name one as subset, or"
            f" all of them by '{ALL}'"
        )
    return chosen, split_column


def _of_declared(query: FileQuery, folder: Path, declared: Declared, split: str | None) -> list[Path]:
    subsets = list(declared)
    if query.subset == ALL:
        return [f for s in subsets for f in _of_declared(replace(query, subset=s), folder, declared, split)]
    if query.subset is None and len(subsets) > 1 and "default" not in declared:
        raise InputError(f"{query.at('subset')}: {folder} has the subsets {_listed(subsets)}; name one, or '{ALL}' all")
    subset = query.subset or ("default" if "default" in declared else subsets[0])
    if subset not in declared:
        raise InputError(f"{query.at('subset')}: {folder} has no subset {subset!r}{nearest(subset, subsets)}")
    splits = declared[subset]
    name = _pick(query, str(folder), list(splits), split)
    if not splits[name]:
        raise InputError(f"{query.at('split')}: the files of {name} are missing from {folder}; get or build it again")
    return splits[name]


def _subset_folder(query: FileQuery, folder: Path) -> Path:
    if query.subset in (None, ALL):
        return folder
    for candidate in (folder / query.subset, folder / "data" / query.subset):
        if candidate.is_dir() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    known = sorted({_subset_of(f, folder) for f in _data_files(folder)} - {""})
    there = nearest(query.subset, known) if known else "; it has none, leave subset out"
    raise InputError(f"{query.at('subset')}: {folder} has no subset {query.subset!r}{there}")


def _data_files(root: Path) -> list[Path]:
    """Data files below a folder, hidden ones and those about the data left out."""
    inside = [
        f
        for f in sorted(root.rglob("*"))
        if f.name.endswith(SUFFIXES)
        and f.name not in NOT_ROWS
        and not any(part.startswith(".") for part in f.relative_to(root).parts)
        and not f.is_dir()
    ]
    return [f for f in inside if TEXT not in f.suffixes] or inside


def _subset_of(file: Path, root: Path) -> str:
    return "/".join(part for part in folders_below(file, root) if part not in CANONICAL and part != "data")


def _of_split(query: FileQuery, files: list[Path], root: Path, split: str | None) -> tuple[list[Path], bool]:
    """Files of a split by their names; and whether the rows have to say it because no file does."""
    named = {file: split_of(file, root) for file in files}
    if split is not None and not any(named.values()):
        own = [f for f in files if split in (bare_name(f), *folders_below(f, root))]
        return (own, False) if own else (files, True)
    if split is None and len(set(named.values())) == 1:
        return files, False
    if len(files) == 1 and split is not None and said_by_words(files[0]) == CANONICAL.get(split):
        return files, False  # a file that was named, `gsm8k_train.parquet`, needs no second naming by its whole stem
    names = list(dict.fromkeys(name or bare_name(file) for file, name in named.items()))
    chosen = _pick(query, query.path, names, split)
    return [file for file, name in named.items() if (name or bare_name(file)) == chosen], False


def _pick(query: FileQuery, shown: str, names: Sequence[str], split: str | None) -> str:
    """One of the splits that are there."""
    if split in names:
        return str(split)
    if split is None and len(names) == 1:
        return names[0]
    alike = [name for name in names if same_split(name, split or "train")]
    if len(alike) == 1:
        return alike[0]
    if split is None:
        raise InputError(f"{query.at('split')}: {shown} has the splits {_listed(names)}; name one")
    if alike:
        raise InputError(f"{query.at('split')}: {shown} has several splits for {split} ({_listed(alike)}); name one")
    raise InputError(f"{query.at('split')}: {shown} has no split {split!r}; it has {_listed(names)}")


def _check_kinds(query: FileQuery, files: Sequence[Path]) -> None:
    for file in files:
        if not file.name.endswith(SUFFIXES):
            kinds = ", ".join((*TABLES, TEXT))
            raise InputError(f"{query.at()}: {file} is none of {kinds} (or their .gz, .zst); convert it")


def _check_twins(query: FileQuery, files: Sequence[Path]) -> None:
    """The same rows in two formats side by side would be read twice."""
    seen: dict[tuple[Path, str], Path] = {}
    for file in files:
        stem = file.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0]
        other = seen.setdefault((file.parent, stem), file)
        if other != file:
            raise InputError(f"{query.at()}: {other} and {file.name} are one name in two formats; name one by a glob")


def _common_folder(files: Sequence[Path]) -> Path:
    """The innermost folder that all files are in."""
    return Path(os.path.commonpath([file.absolute().parent for file in files]))


def _listed(names: Sequence[str]) -> str:
    shown = [name or "(top)" for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


__all__ = [
    "METADATA",
    "SUFFIXES",
    "FileQuery",
    "Selection",
    "all_files",
    "check_regular",
    "find_files",
    "hash_file",
    "is_local",
]
