"""Where rows come from: local files, the Hugging Face Hub, generators. Checked first, then streamed as Arrow batches.

`check` looks at a source without reading its rows: files and their columns, the Hub's list of subsets and splits, a
generator's first batch. `stream` then yields record batches with plain types (see data.schema), columns dropped and
renamed, in the order of the source; a fault of the network costs a pause and neither loses nor repeats a row.
"""

import glob
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.generators import Rows, code_of, find_generator
from data.interactions import InteractionsConfig, to_interactions
from data.json_lines import JSON_SUFFIXES, read_json_lines
from data.schema import TRACE, plain_batch
from pipeline.config import nearest
from pipeline.errors import InputError
from pipeline.hub import retrying

logger = logging.getLogger(__name__)
SUFFIXES = (".parquet", *JSON_SUFFIXES)


@dataclass(kw_only=True)
class SourceConfig:
    """One entry of a blend's `datasets`."""

    name: str | None = None
    """A dataset of the Hub (`owner/name`), or a local file, folder or glob: anything that ends in .parquet, .jsonl,
    .json or their .gz, has a `*`, or begins with `.`, `/` or `~`. Relative paths start where the command is run."""
    generator: dict[str, Any] | None = None
    """Instead of `name`: `{kind: ..., ...options}`, rows made by the project itself (data/generators.py)."""
    subset: str | None = None
    """Configuration of a Hub dataset, sub-folder of a local folder, otherwise only a label."""
    split: str | None = None
    """Split of a Hub dataset (has to be given), file prefix in a local folder; `train` where it isn't given."""
    entries: int | None = None
    """At most so many rows, counted after filters and de-duplication; all when not given."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """Rows to keep: those whose column (by its old name, dropped or not) has one of the values."""
    drop_columns: list[str] = field(default_factory=list)
    """Columns to leave out; done before renaming. One that isn't there is a warning."""
    rename_columns: dict[str, str] = field(default_factory=dict)
    """Old name to new name."""
    interactions: InteractionsConfig | None = None
    """Make memory episodes of the rows, which are dialogues (data/interactions.py)."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.generator is None):
            raise ValueError("give either name (a Hub dataset or a local path) or generator")
        if self.name is not None and not self.name.strip():
            raise ValueError("name is empty; give a Hub dataset or a local path")
        if self.generator is not None and not isinstance(self.generator.get("kind"), str):
            raise ValueError("generator.kind is missing; add the name of a generator")
        if self.entries is not None and self.entries < 1:
            raise ValueError(f"entries is {self.entries}; give at least 1, or leave it out for all rows")
        if self.is_hub and self.split is None:
            raise ValueError(f"split is missing; add the split of {self.name} to read, for example split: train")
        if both := sorted(set(self.drop_columns) & set(self.rename_columns)):
            raise ValueError(f"{both[0]} is in drop_columns and in rename_columns; keep one")
        targets = list(self.rename_columns.values())
        if twice := next((t for t in targets if targets.count(t) > 1), None):
            raise ValueError(f"rename_columns gives the name {twice} to two columns; choose another for one")

    @property
    def is_hub(self) -> bool:
        return self.name is not None and not is_local(self.name)

    @property
    def dataset(self) -> str:
        """What stands in `_source_dataset`."""
        return self.name if self.name is not None else f"generator:{(self.generator or {})['kind']}"

    @property
    def label(self) -> str:
        """For people: dataset, subset and split."""
        name = Path(self.dataset).name if is_local(self.dataset) else self.dataset
        return "/".join(part for part in (name, self.subset, self.split_name) if part)

    @property
    def split_name(self) -> str:
        return self.split or "train"


def is_local(name: str) -> bool:
    """Whether a source's name is a path and not a Hub id."""
    return name.startswith((".", "/", "~")) or "*" in name or name.endswith(SUFFIXES)


@dataclass
class Source:
    """A checked source, ready to stream."""

    config: SourceConfig
    where: str
    """`file: datasets[2]`, for messages."""
    batches: Callable[[int], Iterator[pa.RecordBatch]]
    """Raw batches of about so many rows from the start; may be called again."""
    fingerprint: str
    """Changes when the rows would come out differently, as far as that can be told without reading them."""
    revision: str | None = None
    """Commit of a Hub dataset."""
    columns_known: bool = False
    """All columns were seen, and edits of absent ones reported, when the source was checked."""

    @property
    def label(self) -> str:
        return self.config.label

    def stream(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        """Batches with columns dropped and renamed and plain types. Raises InputError naming what can't be done."""
        edit = _ColumnEdit(self.config, self.where)
        for batch in _resuming(lambda: self.batches(batch_size), self.label):
            edited = plain_batch(edit(only_rows(batch, self.config)))
            if self.config.interactions is None:
                yield edited
            elif len(episodes := to_interactions(edited, self.config.interactions, self.where)):
                yield episodes
        if not self.columns_known:
            edit.finish()


def only_rows(batch: pa.RecordBatch, config: SourceConfig) -> pa.RecordBatch:
    """The rows of a batch that `only` keeps: none where uneven rows (JSON) lack the column just here. A column that the
    whole source lacks is refused by `check_columns`."""
    for name, values in config.only.items():
        if name not in batch.schema.names:
            return batch.slice(0, 0)
        batch = batch.filter(pc.is_in(batch.column(name).cast(pa.string()), pa.array(values, pa.string())))
    return batch


class _ColumnEdit:
    """Drops and renames columns; what a source of uneven rows (JSON) lacks is only known at its end."""

    def __init__(self, config: SourceConfig, where: str) -> None:
        self.config, self.where = config, where
        self.seen: dict[str, None] = {}

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.schema.names
        check_columns(self.config, names, self.where)
        self.seen.update(dict.fromkeys(names))
        kept = [n for n in names if n not in self.config.drop_columns]
        return batch.select(kept).rename_columns([self.config.rename_columns.get(n, n) for n in kept])

    def finish(self) -> None:
        if self.seen:
            check_columns(self.config, list(self.seen), self.where, absent=True)


def check_columns(config: SourceConfig, names: Sequence[str], where: str, *, absent: bool = False) -> None:
    """Refuse edits that clash with the columns `names`; with `absent`, also edits of columns that aren't there."""
    if doubled := next((n for n in names if list(names).count(n) > 1), None):
        raise InputError(
            f"{where}: {config.label} has two columns called {doubled}; only one name a column can be kept"
        )
    kept = [n for n in names if n not in config.drop_columns]
    for old, new in config.rename_columns.items():
        if new in kept and old in kept and new not in config.rename_columns:
            raise InputError(
                f"{where}.rename_columns: {old} can't become {new}, {config.label} already has a column {new};"
                f" choose another name or add {new} to drop_columns"
            )
        if absent and old not in names:
            raise InputError(f"{where}.rename_columns: {config.label} has no column {old}{nearest(old, list(names))}")
    final = [config.rename_columns.get(n, n) for n in kept]
    if clash := next((n for n in final if n in TRACE), None):
        raise InputError(
            f"{where}: {config.label} already has a column {clash}, which the blend adds itself; add it to"
            " drop_columns or rename it"
        )
    if not final:
        raise InputError(f"{where}.drop_columns leaves no column of {config.label} ({', '.join(names)}); keep one")
    if absent:
        if unknown := next((n for n in config.only if n not in names), None):
            raise InputError(f"{where}.only: {config.label} has no column {unknown}{nearest(unknown, list(names))}")
        for name in config.drop_columns:
            if name not in names:
                logger.warning(
                    "%s.drop_columns: %s has no column %s%s", where, config.label, name, nearest(name, list(names))
                )


def _resuming(open_stream: Callable[[], Iterator[pa.RecordBatch]], label: str) -> Iterator[pa.RecordBatch]:
    """Batches of a stream that is opened again after a passing fault, without the rows that were already given out."""
    given = 0
    stream: Iterator[pa.RecordBatch] | None = None

    def advance() -> pa.RecordBatch | None:
        nonlocal stream
        if stream is None:
            stream = _without_first(open_stream(), given)
        try:
            return next(stream, None)
        except Exception:
            stream = None
            raise

    while (batch := retrying(advance, what=f"reading {label} at row {given}")) is not None:
        given += len(batch)
        yield batch


def _without_first(stream: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in stream:
        if rows < len(batch):
            yield batch.slice(rows)
        rows = max(0, rows - len(batch))


def check_sources(configs: Sequence[tuple[str, SourceConfig]], seed: int) -> list[Source]:
    """Check every source before any row is read, local ones first, the Hub (metadata only) last.

    `configs` are (place in the YAML, source). Raises InputError naming file, key and remedy.
    """
    found: dict[int, Source] = {}
    for i, (where, config) in enumerate(configs):
        if config.generator is not None:
            found[i] = _check_generator(config, where, seed)
        elif not config.is_hub:
            found[i] = _check_local(config, where)
    if len(found) < len(configs):
        from data.hub_source import HubChecker  # imports `datasets`, which takes seconds

        hub = HubChecker()
        for i, (where, config) in enumerate(configs):
            if config.is_hub:
                batches, revision = hub.check(config, where)
                found[i] = Source(config, where, batches, f"{config.name}@{revision}", revision)
    return [found[i] for i in range(len(configs))]


def _check_local(config: SourceConfig, where: str) -> Source:
    files = _local_files(config, where)
    facts = []
    for file in files:
        try:
            columns = _peek_columns(file)
            status = file.stat()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{where}.name: {file} can't be read: {error}; repair it or leave it out") from None
        check_columns(config, columns, where, absent=file.suffix == ".parquet")
        facts.append([str(file.resolve()), status.st_size, status.st_mtime_ns])

    def batches(batch_size: int) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _read_local(file, batch_size, config)

    known = all(file.suffix == ".parquet" for file in files)
    return Source(config, where, batches, _digest(facts), columns_known=known)


def _local_files(config: SourceConfig, where: str) -> list[Path]:
    path = Path(str(config.name)).expanduser()
    if path.is_dir():
        folder = path / config.subset if config.subset else path
        files = [p for p in folder.rglob(f"{config.split_name}*") if p.name.endswith(SUFFIXES)]
        if not files:
            raise InputError(
                f"{where}: {folder} holds no data file that begins with {config.split_name} (.parquet, .jsonl);"
                " give subset and split, or a path to the files"
            )
    else:
        files = [Path(p) for p in glob.glob(str(path), recursive=True)]
        if not files:
            raise InputError(f"{where}.name: no file matches {config.name} (looked in {Path.cwd()}); correct the path")
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise InputError(f"{where}.name: {file} is none of {', '.join(SUFFIXES)}; convert it or name other files")
    return sorted(files)


def _peek_columns(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return pq.read_schema(file).names
    return next(iter(read_json_lines(file, block_bytes=1 << 16, peek=True))).schema.names


def _read_local(file: Path, batch_size: int, config: SourceConfig) -> Iterator[pa.RecordBatch]:
    if file.suffix != ".parquet":
        for batch in read_json_lines(file):
            for start in range(0, len(batch), batch_size):
                yield batch.slice(start, batch_size)
        return
    # without pre-buffering a row group isn't held in memory whole beside the batches made from it
    with pq.ParquetFile(file, pre_buffer=False) as reader:
        columns = [n for n in reader.schema_arrow.names if n in config.only or n not in config.drop_columns]
        yield from reader.iter_batches(batch_size, columns=columns)


def _check_generator(config: SourceConfig, where: str, seed: int) -> Source:
    options = {k: v for k, v in (config.generator or {}).items() if k != "kind"}
    make = find_generator(str((config.generator or {})["kind"]), f"{where}.generator")

    def rows() -> Iterator[Rows]:
        return make(options, config.entries, config.split_name, seed)

    def batches(batch_size: int) -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, Any]] = []
        for made in rows():
            if isinstance(made, list):  # small lists are gathered, so that one schema covers a whole batch
                waiting += made
                while len(waiting) >= batch_size:
                    yield _from_rows(waiting[:batch_size], config, where)
                    del waiting[:batch_size]
            else:
                yield made
        if waiting:
            yield _from_rows(waiting, config, where)

    try:
        first = next(iter(rows()), None)
    except InputError as error:
        raise InputError(f"{where}.generator: {error}") from None
    if first is not None and len(first):
        columns = list(first[0]) if isinstance(first, list) else first.schema.names
        check_columns(config, columns, where, absent=True)
    return Source(config, where, batches, _digest([options, seed, code_of(make)]))


def _from_rows(rows: list[dict[str, Any]], config: SourceConfig, where: str) -> pa.RecordBatch:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return pa.RecordBatch.from_pydict({name: [row.get(name) for row in rows] for name in columns})
    except pa.ArrowException as error:
        raise InputError(f"{where}: the rows of {config.label} don't fit one type a column: {error}") from None


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


__all__ = ["Source", "SourceConfig", "check_columns", "check_sources", "is_local"]
