"""From a build's metadata to the README that the Hub shows and loaders read."""

import json
from typing import Any

from pipeline.card import dataset_card


def generate_dataset_card(metadata: dict[str, Any]) -> str:
    """The dataset card of a build: files, columns and sizes of each configuration in its YAML head, sources in both.

    `datasets.load_dataset` reads the head: it finds the files by it and takes column types from it, not from guesses.
    """
    blends = metadata["blends"]
    names = {folder: "default" if folder == "data" else folder for folder in blends}
    configs = [
        {
            "config_name": names[folder],
            "data_files": [
                {"split": split, "path": f"{folder}/{split}-*{paths[0][paths[0].rindex('.') :]}"}
                for split, paths in blend["splits"].items()
            ],
        }
        for folder, blend in blends.items()
    ]
    info = [
        {
            "config_name": names[folder],
            "features": blend["features"],
            "splits": [
                {"name": split, "num_bytes": blend["split_bytes"][split], "num_examples": rows}
                for split, rows in blend["split_rows"].items()
            ],
            "dataset_size": sum(blend["split_bytes"].values()),
        }
        for folder, blend in blends.items()
    ]
    sources = [
        {
            "dataset": source["name"],
            "subset": source["subset"],
            "split": source["split"],
            "requested": source["requested_entries"],
            "actual": source["actual_entries"],
            "share": round(source["percentage_of_total"] / 100, 4),
        }
        for source in metadata["dataset_sources"]
    ]
    return dataset_card(
        name=metadata["name"],
        description=metadata["description"] or "A blend made by trlm's data/data_collection.py.",
        sources=sources,
        configs=configs,
        dataset_info=info if len(info) > 1 else info[0],
        rows=metadata["total_entries"],
        license=metadata["license"],
        tags=sorted({blend["kind"] for blend in blends.values()} - {"other"}),
        notes=_notes(metadata),
    )


def _notes(metadata: dict[str, Any]) -> list[str]:
    short = [f"- {line}" for line in metadata["warnings"]]
    traced = (
        "Every row says where it is from: `_source_dataset`, `_source_subset`, `_source_split`. The rows are shuffled"
        f" with seed {metadata['seed']}; `dataset_metadata.json` holds the exact configuration (hash"
        f" `{metadata['config_hash']}`), versions and checksums."
    )
    if any('"dtype": "json"' in json.dumps(blend["features"]) for blend in metadata["blends"].values()):
        traced += (
            " Columns of the feature `Json` hold values whose form differs from row to row, as JSON text in the files;"
            " `datasets.load_dataset` gives the values back."
        )
    return [traced, *_left_out(metadata), *(["## Fewer rows than asked for", "\n".join(short)] if short else [])]


def _left_out(metadata: dict[str, Any]) -> list[str]:
    lines = [
        f"- {source['label']}: {', '.join(f'{count:,} {reason}' for reason, count in source['left_out'].items())}"
        f" of {source['rows_read']:,} rows read"
        for source in metadata["dataset_sources"]
        if source.get("left_out")
    ]
    return ["## Left out", "\n".join(lines)] if lines else []


__all__ = ["generate_dataset_card"]
