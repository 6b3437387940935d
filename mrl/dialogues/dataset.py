"""Rows on disk become conversations: lists of exchanges, each checked, with the place named where one is wrong.

Row forms: `{query, answer, think?, interactions: [{query, answer, think?, facts?, distance?}]}` (the MRL format),
`{messages: [{role, content}]}` and, for pre-training alone, `{text}`.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.sources.folds import check_fold, in_fold
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
SPLITS = ("train", "validation", "valid", "dev", "test", "held_out", "eval")
NOT_ROWS = {"manifest.json", "dataset_metadata.json", "config.json", "metrics.json", "dataset_infos.json", "state.json"}


@dataclass(frozen=True)
class Exchange:
    """One interaction in words. `facts`: strings that its answer has to contain; `distance`: turns back to where the
    farthest of them was given (0: none needed). `query` is None for plain text."""

    query: str | None
    answer: str
    think: str = ""
    facts: tuple[str, ...] = ()
    distance: int = 0


@dataclass(frozen=True)
class Conversation:
    """The exchanges of one row and where it came from."""

    exchanges: tuple[Exchange, ...]
    where: str
    group: str = ""


@dataclass(kw_only=True, frozen=True)
class RowSource:
    """Where rows are: a folder made by data_collection.py, a Parquet or JSON-lines file, or a dataset of the Hub."""

    path: str
    subset: str | None = None
    """Folder below `path` (or configuration on the Hub). Default: everything below."""
    split: str | None = None
    """Kept: files named after this split, or rows whose `split` column has it. Default: all."""
    where: dict[str, list[str]] = field(default_factory=dict)
    """Kept: rows whose column has one of the listed values."""
    group_by: str | None = None
    """Column whose value names a group; figures are given for each group as well (bAbI: task)."""
    fold: int | None = None
    """Kept: each tenth of the rows that the other keys keep, beginning with this one (0 to 9): a part to validate on
    where the data has none (data/generators/name_permutation.py leaves the same rows out with `without_fold`)."""
    limit: int | None = None
    """Most rows."""

    def __post_init__(self) -> None:
        """Refuse a limit that keeps nothing."""
        check_fold(self.fold, "fold")
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit must be at least 1; leave it out to read everything")


def read_conversations(source: RowSource) -> list[Conversation]:
    """All conversations of a source. Raises InputError with file, row and key where a row can't be used."""
    found: list[Conversation] = []
    kept = 0
    for where, row in _rows(source):
        if source.limit is not None and len(found) >= source.limit:
            break
        if all(str(row.get(column)) in wanted for column, wanted in source.where.items()):
            kept += 1
            if source.fold is not None and not in_fold(kept - 1, source.fold):
                continue
            group = str(row.get(source.group_by, "")) if source.group_by else ""
            found.append(Conversation(parse_row(row, where), where, group))
    if not found:
        raise InputError(f"{_shown(source)}: no rows; check path, subset, split and where")
    return found


def fingerprint(conversations: Sequence[Conversation]) -> str:
    """Twelve hexadecimal digits that change with any word of the data."""
    digest = hashlib.sha256()
    for conversation in conversations:
        digest.update(repr([(e.query, e.answer, e.think, e.facts) for e in conversation.exchanges]).encode())
    return digest.hexdigest()[:12]


def _shown(source: RowSource) -> str:
    parts = [source.path, source.subset, f"split {source.split}" if source.split else None]
    return ", ".join(p for p in parts if p)


def _rows(source: RowSource) -> Iterator[tuple[str, dict[str, Any]]]:
    path = Path(source.path)
    if not path.exists():
        if source.path.count("/") == 1 and not source.path.startswith((".", "/")) and path.suffix == "":
            yield from _hub_rows(source)
            return
        raise InputError(f"{source.path}: no such file or folder; build it with data/data_collection.py")
    root = path if path.is_file() or source.subset is None else _subset_folder(path, source.subset)
    files = [root] if root.is_file() else _data_files(root)
    named = {f: _split_of(f, root) for f in files}
    by_name = source.split is not None and any(named.values())
    for file in files:
        if by_name and not _same_split(named[file], source.split):
            continue
        for number, row in _file_rows(file):
            if source.split and not by_name and not _same_split(str(row.get("split", source.split)), source.split):
                continue
            yield f"{file}: row {number}", row


def _subset_folder(path: Path, subset: str) -> Path:
    for candidate in (path / subset, path / "data" / subset):
        if candidate.is_dir():
            return candidate
    known = sorted(p.name for p in path.iterdir() if p.is_dir())
    raise InputError(f"{path}: no subset {subset!r}; there is {', '.join(known) or 'no folder at all'}")


def _data_files(root: Path) -> list[Path]:
    return sorted(
        f
        for f in root.rglob("*")
        if f.suffix in (".parquet", ".jsonl", ".json") and f.name not in NOT_ROWS and not f.name.startswith(".")
    )


def _split_of(file: Path, root: Path) -> str | None:
    inside = file.relative_to(root).parts if file != root else (file.name,)
    for part in (*inside[:-1], inside[-1].split(".")[0].split("-")[0]):
        if part in SPLITS:
            return part
    return None


def _same_split(given: str | None, wanted: str | None) -> bool:
    alike = {"valid": "validation", "dev": "validation", "held_out": "test", "eval": "test"}
    return alike.get(given or "", given) == alike.get(wanted or "", wanted)


def _file_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if file.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            batches = pyarrow.parquet.ParquetFile(file).iter_batches(4096)
            yield from enumerate(row for batch in batches for row in batch.to_pylist())
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: not a readable Parquet file ({error}); build it again") from None
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{file}: row {number} is not JSON ({error}); one object a line is expected") from None
            if not isinstance(row, dict):
                raise InputError(f"{file}: row {number} is a {type(row).__name__}, expected an object")
            yield number, row


def _hub_rows(source: RowSource) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset  # slow to import, and needed for the Hub alone

    from pipeline.hub import retrying

    try:
        rows = retrying(
            lambda: load_dataset(source.path, source.subset, split=source.split or "train"),
            what=f"reading {source.path}",
        )
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{source.path}: neither a local path nor a readable Hub dataset ({reason})") from None
    yield from ((f"{source.path}: row {i}", dict(row)) for i, row in enumerate(rows))


def parse_row(row: Mapping[str, Any], where: str) -> tuple[Exchange, ...]:
    """The exchanges of one row. Raises InputError naming the key that is missing, empty or of another kind."""
    if row.get("interactions") is not None or "query" in row:
        rest = row.get("interactions")
        rest = [] if rest is None else rest
        if not isinstance(rest, list):
            raise InputError(f"{where}: interactions is a {type(rest).__name__}, expected a list")
        return (_exchange(row, where, ""), *(_exchange(r, where, f"interactions[{i}].") for i, r in enumerate(rest)))
    if row.get("messages") is not None:
        return _from_messages(row["messages"], where)
    if row.get("text") is not None:
        return (Exchange(None, _text(row, "text", where, "")),)
    raise InputError(
        f"{where}: has {', '.join(sorted(row)) or 'no columns'}; expected query, answer and interactions, or messages, "
        "or text"
    )


def _text(record: Any, key: str, where: str, prefix: str) -> str:
    if not isinstance(record, Mapping):
        raise InputError(f"{where}: {prefix.rstrip('.')} is a {type(record).__name__}, expected an object")
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        shown = "missing" if value is None else "empty" if isinstance(value, str) else f"a {type(value).__name__}"
        raise InputError(f"{where}: {prefix}{key} is {shown}; give it words or drop the row")
    return value


def _exchange(record: Any, where: str, prefix: str) -> Exchange:
    query, answer = (_text(record, key, where, prefix) for key in ("query", "answer"))
    facts = record.get("facts") or ()
    if isinstance(facts, str) or not all(isinstance(f, str) for f in facts):
        raise InputError(f"{where}: {prefix}facts must be a list of strings that the answer has to contain")
    return Exchange(query, answer, record.get("think") or "", tuple(facts), int(record.get("distance") or 0))


def _from_messages(messages: Any, where: str) -> tuple[Exchange, ...]:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: messages is empty or no list; give it user and assistant turns")
    system, asked, made = "", None, []
    for index, message in enumerate(messages):
        content = _text(message, "content", where, f"messages[{index}].")
        role = message.get("role")
        if role == "system":
            system = content + "\n"
        elif role == "user":
            # Two questions in a row are one interaction; a system prompt belongs to the first query, as the chat
            # template of the model renders it.
            asked = f"{asked}\n{content}" if asked else system + content
            system = ""
        elif role == "assistant" and asked:
            think = message.get("think") or message.get("reasoning_content") or ""
            made.append(Exchange(asked, content, think))
            asked = None
        elif role != "tool":
            raise InputError(f"{where}: messages[{index}] of role {role!r} has no user message before it")
    if not made:
        raise InputError(f"{where}: messages holds no answered question")
    return tuple(made)
