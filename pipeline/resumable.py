"""Which settings may change between a checkpoint and the run that goes on from it: declared beside the fields."""

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipeline.config import to_dict
from pipeline.renamed_keys import dataclasses_in

RESUMABLE: Mapping[str, bool] = MappingProxyType({"resumable": True})
"""Metadata of a field that may differ: what it says changes no weights, or is meant to be changed (a longer run)."""
WHOLE_RUN: Mapping[str, bool] = MappingProxyType({"whole_run": True})
"""Metadata of a field that is read once, when a run is built: a curriculum's stages have no values of their own."""


def differing_keys(cls: type, old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of two configurations of the dataclass `cls`, as `to_dict` gives them, on which a result depends and
    whose values differ. A key that `old` lacks, being older than the setting, stands for the setting's default."""
    fields = {f.name: f for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    hints = typing.get_type_hints(cls) if fields else {}
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        field = fields.get(key)
        if field is not None and field.metadata.get("resumable"):
            continue
        before = old.get(key) if key in old or field is None else _default(field)
        after = new.get(key)
        if before == after:
            continue
        inner = dataclasses_in(hints.get(key))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differing_keys(inner[0] if len(inner) == 1 else dict, before, after, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return to_dict(field.default_factory())
    return None if field.default is dataclasses.MISSING else to_dict(field.default)


__all__ = ["RESUMABLE", "WHOLE_RUN", "differing_keys"]
