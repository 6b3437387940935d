"""A blend: what the YAML asks for, and the order of events that makes a dataset folder of it.

Sources are collected one after the other into `.build` (a killed build keeps the finished ones), their schemas are
brought together, the rows are shuffled by the seed and written as shards with the facts beside them. All of it runs
on Arrow batches; memory doesn't grow with the number of rows.
"""

import datetime
import hashlib
import itertools
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.blending.build_dir import BuildDir
from data.blending.dataset_card import generate_dataset_card
from data.blending.selection import Deduplicator, LengthFilter
from data.blending.shards import Format, Rows, Shard, write_split
from data.blending.shuffle import shuffled
from data.blending.source_cache import Collected, collect
from data.sources.arrow_types import TRACE
from data.sources.config import SourceConfig
from data.sources.files import METADATA
from data.sources.schema import align_batch, align_schemas, card_features, fits_json, row_kind
from data.sources.stream import Source
from pipeline.artifact import seal, write_json, write_text
from pipeline.config import config_hash, to_dict
from pipeline.errors import InputError, SettingError, shown
from pipeline.progress import progress_bar
from pipeline.provenance import git_commit, peak_memory_mb, versions
from pipeline.ranges import NonNegativeInt, Seed, Text
from pipeline.redaction import redact

logger = logging.getLogger(__name__)
JSON_ROWS = 50_000
SOURCE = "__source"
LABELS = ("name", "description", "license", "private")
"""Keys of the YAML that say nothing about the rows."""


@dataclass(kw_only=True, frozen=True)
class SubsetConfig:
    """One of several blends in a dataset."""

    datasets: list[SourceConfig]

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty; add at least one source")


@dataclass(kw_only=True, frozen=True)
class BlendConfig:
    """The YAML of a blend."""

    name: Text
    """Of the dataset; `owner/name` when it is to be pushed to the Hub."""
    description: str = ""
    seed: Seed = 42
    """Decides the order of the rows and what generators make."""
    datasets: list[SourceConfig] = field(default_factory=list)
    subsets: dict[str, SubsetConfig] = field(default_factory=dict)
    """Instead of `datasets`: several blends, each in a sub-folder, which loaders see as configurations."""
    length: LengthFilter | None = None
    deduplicate: bool | list[str] = False
    """Keep the first of equal rows of a blend: true compares whole rows, a list names the columns that count."""
    held_out: NonNegativeInt = 0
    """So many rows of the shuffled blend go to a second split, `validation`."""
    license: Text | None = None
    """For the card; an identifier that the Hub knows."""
    private: bool = True
    """Whether a repository that the push creates is private."""

    def __post_init__(self) -> None:
        if bool(self.datasets) == bool(self.subsets):
            raise ValueError("give either datasets (a list of sources) or subsets (name: {datasets: [...]})")
        for name in self.subsets:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise SettingError(
                    f"subsets.{name}", f"subsets: {shown(name)} can't be a folder name; use letters, digits, _, - and ."
                )
        if self.deduplicate == []:
            raise SettingError("deduplicate", "deduplicate names no column; give column names, or true for whole rows")

    def blends(self) -> dict[str, list[SourceConfig]]:
        """Sources by the folder that their rows go to."""
        return {n: s.datasets for n, s in self.subsets.items()} if self.subsets else {"data": self.datasets}

    def placed_sources(self) -> list[tuple[str, SourceConfig]]:
        """Every source with its place in the YAML, in the order of `blends`."""
        if self.subsets:
            return [
                (f"subsets.{name}.datasets[{i}]", source)
                for name, subset in self.subsets.items()
                for i, source in enumerate(subset.datasets)
            ]
        return [(f"datasets[{i}]", source) for i, source in enumerate(self.datasets)]


def build_key(config: BlendConfig, sources: Sequence[Source], parquet: bool) -> str:
    """Changes when the data would come out differently; the labels of a dataset don't count."""
    asked = {key: value for key, value in to_dict(config).items() if key not in LABELS}
    return config_hash([asked, [s.fingerprint for s in sources], parquet])


@dataclass
class Blend:
    """One blend of the dataset on disk."""

    sources: list[tuple[Source, Collected]]
    schema: pa.Schema
    form: Format
    splits: dict[str, list[Shard]]

    @property
    def rows(self) -> int:
        return sum(collected.rows for _, collected in self.sources)


def build(
    config: BlendConfig, sources: Sequence[Source], output: Path, *, batch_size: int = 1000, parquet: bool = True
) -> dict[str, Any]:
    """Make the dataset folder `output` from checked sources and return its metadata.

    sources: of all blends, in the order of `config.placed_sources()`. parquet: False writes JSON whatever the size.
    Raises InputError for what only the rows can show (schemas that don't go together, nothing left after filters).
    """
    started = time.monotonic()
    directory = BuildDir(output)
    if not directory.finish_publishing():
        collected = _collect_all(config, sources, directory.sources(), batch_size)
        scratch = directory.start_over()
        blends = {
            name: _write_blend(parts, config, directory.out / name, scratch / name, parquet)
            for name, parts in collected.items()
        }
        metadata = redact(describe(config, blends))  # it goes to the Hub with the rows
        metadata |= {"wall_s": round(time.monotonic() - started, 2), "peak_mb": round(peak_memory_mb(), 1)}
        write_json(directory.out / METADATA, metadata)
        write_text(directory.out / "README.md", generate_dataset_card(metadata))
        key = build_key(config, sources, parquet)
        directory.publish(_manifest(metadata, key), {shard["path"]: shard["sha256"] for shard in metadata["files"]})
    return json.loads((output / METADATA).read_text(encoding="utf-8"))


def relabel(output: Path, config: BlendConfig, key: str) -> None:
    """Bring name, description and licence of a finished dataset up to date; its rows stay as they are."""
    metadata = json.loads((output / METADATA).read_text(encoding="utf-8"))
    labels = {"name": config.name, "description": config.description, "license": config.license}
    labels = redact(labels | {"config": to_dict(config), "config_hash": config_hash(config)})
    if any(metadata.get(name) != value for name, value in labels.items()):
        metadata |= labels
        write_json(output / METADATA, metadata)
        write_text(output / "README.md", generate_dataset_card(metadata))
        seal(output, _manifest(metadata, key), {shard["path"]: shard["sha256"] for shard in metadata["files"]})


def _manifest(metadata: dict[str, Any], key: str) -> dict[str, Any]:
    facts = {name: metadata[name] for name in ("name", "total_entries", "config_hash", "fingerprint")}
    return {"kind": "dataset", "build_key": key, **facts}


def _collect_all(
    config: BlendConfig, sources: Sequence[Source], folder: Path, batch_size: int
) -> dict[str, list[tuple[Source, Collected]]]:
    """The rows of every source on disk, by blend."""
    length = config.length.open("length") if config.length else None
    columns = None if config.deduplicate is True else config.deduplicate or None
    waiting = iter(sources)
    collected: dict[str, list[tuple[Source, Collected]]] = {}
    for name, configs in config.blends().items():
        unique = Deduplicator(columns) if config.deduplicate else None
        before: list[Any] = []
        collected[name] = []
        for source in itertools.islice(waiting, len(configs)):
            own = [to_dict(source.config), source.fingerprint]
            # with de-duplication, the rows that a source gives depend on the sources before it
            before = [*before, own] if unique is not None else [own]
            kept_under = config_hash([to_dict(config.length), config.deduplicate, before])
            rows = collect(source, folder / kept_under, batch_size=batch_size, length=length, unique=unique)
            collected[name].append((source, rows))
            asked = source.config.entries
            if asked is not None and rows.rows < asked:
                logger.warning("%s gave %d rows, %d were asked for", source.label, rows.rows, asked)
    return collected


def _write_blend(
    parts: list[tuple[Source, Collected]], config: BlendConfig, folder: Path, scratch: Path, parquet: bool
) -> Blend:
    """Align, shuffle and write the rows of one blend."""
    total = sum(c.rows for _, c in parts)
    if total <= config.held_out:
        raise InputError(
            f"{config.name}: {total} rows are left for {folder.name}, with held_out {config.held_out}; ask for more"
            " entries or loosen length and deduplicate"
        )
    schema = align_schemas((s.label, kind) for s, c in parts for kind in c.schemas())
    plain = fits_json(schema) and all(c.finite for _, c in parts)
    if not parquet and not plain:
        raise InputError(
            "--disable-parquet-optimization: JSON can't hold every value of these columns"
            f" ({', '.join(f'{f.name}: {f.type}' for f in schema)}); leave the flag out"
        )
    form: Format = "json" if plain and (total <= JSON_ROWS or not parquet) else "parquet"
    traced = pa.schema([*schema, *(pa.field(name, pa.string()) for name in TRACE)])
    size = sum(c.bytes for _, c in parts)
    ordered = shuffled(_numbered(parts, schema), config.seed, size, scratch)
    with progress_bar(total=total, desc=f"writing {folder.name}", unit="rows") as bar:
        rows = Rows(_traced(ordered, [s.config for s, _ in parts], traced, bar))
        splits = {}
        for split, count in (("validation", config.held_out), ("train", total - config.held_out)):
            if count:
                share = size * count // total
                splits[split] = write_split(
                    rows, rows=count, size=share, schema=traced, folder=folder, split=split, form=form
                )
    return Blend(parts, traced, form, splits)


def _numbered(parts: list[tuple[Source, Collected]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows in the common schema, in the order of the sources, with the number of the source."""
    for i, (source, collected) in enumerate(parts):
        for batch in collected.batches():
            aligned = align_batch(batch, schema, source.label)
            yield aligned.append_column(SOURCE, pa.array(np.full(len(batch), i, dtype=np.int16)))


def _traced(
    batches: Iterator[pa.RecordBatch], sources: list[SourceConfig], schema: pa.Schema, bar: Any
) -> Iterator[pa.RecordBatch]:
    """The rows with the names of their source instead of its number."""
    names = [
        pa.array([s.dataset for s in sources], pa.string()),
        pa.array([s.subset for s in sources], pa.string()),
        pa.array([s.split_name for s in sources], pa.string()),
    ]
    for batch in batches:
        number = batch.column(SOURCE)
        columns = batch.drop_columns([SOURCE]).columns
        yield pa.RecordBatch.from_arrays([*columns, *(n.take(number) for n in names)], schema=schema)
        bar.update(len(batch))


def describe(config: BlendConfig, blends: dict[str, Blend]) -> dict[str, Any]:
    """What dataset_metadata.json holds, apart from the cost of the build."""
    total = sum(b.rows for b in blends.values())
    sources = [_describe_source(s, c, name, total) for name, b in blends.items() for s, c in b.sources]
    asked = [s["requested_entries"] for s in sources]
    files = [asdict(shard) for b in blends.values() for shards in b.splits.values() for shard in shards]
    return {
        "name": config.name,
        "description": config.description,
        "creation_date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "total_entries": total,
        "requested_entries": None if None in asked else sum(asked),
        "source_datasets_count": len({s["name"] for s in sources}),
        "dataset_sources": sources,
        "warnings": [
            f"{s['label']}: {s['actual_entries']:,} rows, {s['requested_entries']:,} were asked for"
            for s in sources
            if s["requested_entries"] is not None and s["actual_entries"] < s["requested_entries"]
        ],
        "blends": {
            name: {
                "rows": b.rows,
                "format": b.form,
                "kind": row_kind(b.schema.names),
                "splits": {split: [s.path for s in shards] for split, shards in b.splits.items()},
                "split_rows": {split: sum(s.rows for s in shards) for split, shards in b.splits.items()},
                "split_bytes": {split: sum(s.bytes for s in shards) for split, shards in b.splits.items()},
                "features": card_features(b.schema),
            }
            for name, b in blends.items()
        },
        "files": files,
        "fingerprint": hashlib.sha256("".join(f["sha256"] for f in files).encode()).hexdigest()[:16],
        "seed": config.seed,
        "license": config.license,
        "config": to_dict(config),
        "config_hash": config_hash(config),
        "git_commit": git_commit(),
        "versions": {**versions(), "pyarrow": pa.__version__},
    }


def _describe_source(source: Source, collected: Collected, blend: str, total: int) -> dict[str, Any]:
    return {
        "name": source.config.dataset,
        "subset": source.config.subset,
        "split": source.config.split_name,
        "label": source.label,
        "blend": blend,
        "revision": collected.revision,
        "requested_entries": source.config.entries,
        "actual_entries": collected.rows,
        "rows_read": collected.read,
        "left_out_by_length": collected.too_short_or_long,
        "left_out_as_duplicates": collected.duplicates,
        "percentage_of_total": round(100 * collected.rows / total, 2),
    }


__all__ = ["METADATA", "BlendConfig", "SubsetConfig", "build", "build_key", "describe", "relabel"]
