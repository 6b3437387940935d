"""A blend: the order of events that makes a dataset folder of what the YAML asks for.

Sources are collected one after the other into `.build` (a killed build keeps the finished ones), their schemas are
brought together, the rows are shuffled by the seed and written as shards with the facts beside them. All of it runs
on Arrow batches; memory doesn't grow with the number of rows.
"""

import itertools
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.blending.build_dir import BuildDir
from data.blending.config import LABELS, BlendConfig
from data.blending.contamination import Contamination
from data.blending.dataset_card import generate_dataset_card
from data.blending.metadata import describe
from data.blending.row_filters import RowFilters
from data.blending.source_cache import Collected, collect
from data.blending.writing import write_blend
from data.sources.files import METADATA
from data.sources.stream import Source
from pipeline.artifact import seal, write_json, write_text
from pipeline.config import config_hash, to_dict
from pipeline.provenance import peak_memory_mb, process_seconds
from pipeline.redaction import redact

logger = logging.getLogger(__name__)


def build_key(config: BlendConfig, sources: Sequence[Source], parquet: bool) -> str:
    """Changes when the data would come out differently; the labels of a dataset don't count."""
    asked = {key: value for key, value in to_dict(config).items() if key not in LABELS}
    benchmarks = config.decontaminate.fingerprint() if config.decontaminate else []
    return config_hash([asked, [s.fingerprint for s in sources], benchmarks, parquet])


def build(
    config: BlendConfig, sources: Sequence[Source], output: Path, *, batch_size: int = 1000, parquet: bool = True
) -> dict[str, Any]:
    """Make the dataset folder `output` from checked sources and return its metadata.

    sources: of all blends, in the order of `config.placed_sources()`. parquet: False writes JSON whatever the size.
    Raises InputError for what only the rows can show (schemas that don't go together, nothing left after filters).
    """
    started, start_s = time.monotonic(), round(process_seconds(), 2)
    directory = BuildDir(output)
    if not directory.finish_publishing():
        collected = _collect_all(config, sources, directory.sources(), batch_size)
        scratch = directory.start_over()
        blends = {
            name: write_blend(parts, config, directory.out / name, scratch / name, parquet)
            for name, parts in collected.items()
        }
        metadata = redact(describe(config, blends))  # it goes to the Hub with the rows
        wall_s = round(time.monotonic() - started, 2)
        metadata |= {"wall_s": wall_s, "start_s": start_s, "peak_mb": round(peak_memory_mb(), 1)}
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
    benchmarks = config.decontaminate.fingerprint() if config.decontaminate else []
    contamination = Contamination(config.decontaminate) if config.decontaminate else None
    waiting = iter(sources)
    collected: dict[str, list[tuple[Source, Collected]]] = {}
    for name, configs in config.blends().items():
        filters = RowFilters(config, contamination)
        asked = [to_dict(c) for c in (config.length, config.deduplicate, config.near_duplicates, config.decontaminate)]
        before: list[Any] = []
        collected[name] = []
        for source in itertools.islice(waiting, len(configs)):
            # a source's weight and what is drawn of it are no matter of its collected rows
            own = {k: v for k, v in to_dict(source.config).items() if k != "weight"}
            # with de-duplication, the rows that a source gives depend on the sources before it
            before = [*before, [own, source.fingerprint]] if filters.memories else [[own, source.fingerprint]]
            kept_under = config_hash([asked, benchmarks, before])
            rows = collect(source, folder / kept_under, batch_size=batch_size, filters=filters)
            collected[name].append((source, rows))
            wanted = source.config.entries
            if wanted is not None and rows.rows < wanted:
                logger.warning("%s gave %d rows, %d were asked for", source.label, rows.rows, wanted)
    return collected


__all__ = ["BlendConfig", "build", "build_key", "relabel"]
