"""What dataset_metadata.json says of a build."""

import datetime
import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from data.blending.config import BlendConfig
from data.blending.shards import Format, Shard
from data.blending.source_cache import Collected
from data.sources.schema import card_features, row_kind
from data.sources.stream import Source
from pipeline.config import config_hash, to_dict
from pipeline.provenance import git_commit, versions


@dataclass
class Blend:
    """One blend of the dataset on disk."""

    sources: list[tuple[Source, Collected]]
    rows_of: list[int]
    """Rows of each source, copies counted."""
    schema: pa.Schema
    form: Format
    splits: dict[str, list[Shard]]

    @property
    def rows(self) -> int:
        return sum(self.rows_of)


def describe(config: BlendConfig, blends: dict[str, Blend]) -> dict[str, Any]:
    """What dataset_metadata.json holds, apart from the cost of the build."""
    total = sum(b.rows for b in blends.values())
    sources = [
        _describe_source(source, collected, rows, name, total)
        for name, b in blends.items()
        for (source, collected), rows in zip(b.sources, b.rows_of, strict=True)
    ]
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
            f"{s['label']}: {s['collected_entries']:,} rows, {s['requested_entries']:,} were asked for"
            for s in sources
            if s["requested_entries"] is not None and s["collected_entries"] < s["requested_entries"]
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
        "left_out": dict(sum((Counter(s["left_out"]) for s in sources), Counter())),
        "files": files,
        "fingerprint": hashlib.sha256("".join(f["sha256"] for f in files).encode()).hexdigest()[:16],
        "seed": config.seed,
        "license": config.license,
        "config": to_dict(config),
        "config_hash": config_hash(config),
        "git_commit": git_commit(),
        "versions": {**versions(), "pyarrow": pa.__version__},
    }


def _describe_source(source: Source, collected: Collected, rows: int, blend: str, total: int) -> dict[str, Any]:
    return {
        "name": source.config.dataset,
        "subset": source.config.subset,
        "split": source.config.split_name,
        "label": source.label,
        "blend": blend,
        "revision": collected.revision,
        "requested_entries": source.config.entries,
        "actual_entries": rows,
        "collected_entries": collected.rows,
        "weight": source.config.weight,
        "rows_read": collected.read,
        "left_out": collected.left_out,
        "percentage_of_total": round(100 * rows / total, 2),
    }


__all__ = ["Blend", "describe"]
