"""What a folder of data says of itself: the metadata of a build, or the card (README.md) of a dataset of the Hub."""

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import InputError

METADATA = "dataset_metadata.json"
Declared = dict[str, dict[str, list[Path]]]
"""Files by subset and split."""


def built_files(folder: Path) -> Declared:
    """The shards of a build, whether they are there or not; empty where the folder is none."""
    metadata = _metadata(folder)
    blends = metadata.get("blends", {}) if metadata else {}
    return {
        "default" if name == "data" else name: {
            split: [folder / path for path in paths] for split, paths in blend["splits"].items()
        }
        for name, blend in blends.items()
    }


def built_hash(file: Path) -> str | None:
    """The SHA-256 that a build wrote down for one of its files, None for a file of no build.

    Raises InputError for a file among a build's that it didn't make.
    """
    metadata = _metadata(file.parent.parent)
    if metadata is None or file.parent.name not in metadata.get("blends", {}):
        return None
    name = f"{file.parent.name}/{file.name}"
    found = next((str(shard["sha256"]) for shard in metadata["files"] if shard["path"] == name), None)
    if found is None:
        raise InputError(f"{file}: is no file of the build that it lies in; move it elsewhere")
    return found


def _metadata(folder: Path) -> dict[str, Any] | None:
    path = folder / METADATA
    if not path.is_file():
        return None
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(metadata["blends"], dict) and isinstance(metadata["files"], list):
            return metadata
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path}: isn't the metadata of a build; build the blend again")


def declared_files(folder: Path) -> Declared:
    """What the folder's card says: empty where it has none or names no files."""
    card = folder / "README.md"
    try:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        head = yaml.safe_load(text.split("\n---", 1)[0].removeprefix("---")) if text.startswith("---\n") else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    configs = head.get("configs") if isinstance(head, dict) else None
    found: Declared = {}
    for config in configs if isinstance(configs, list) else []:
        entries = config.get("data_files") if isinstance(config, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and {"split", "path"} <= set(entry):
                files = sorted({f for p in _patterns(entry["path"]) for f in folder.glob(p) if f.is_file()})
                found.setdefault(str(config.get("config_name", "default")), {})[str(entry["split"])] = files
    return found


def _patterns(path: Any) -> list[str]:
    paths = path if isinstance(path, list) else [path]
    return [p for p in map(str, paths) if p and not p.startswith("/") and "://" not in p]


__all__ = ["METADATA", "Declared", "built_files", "built_hash", "declared_files"]
