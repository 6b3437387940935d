"""Where blends get rows that are made instead of read: `generator: {kind: ..., ...options}` in a blend's YAML.

A module that makes rows (`puzzle_chat`, `episodes`, `name_permutation`) has a dict `GENERATORS: dict[str, Generator]`
with its kinds. It is imported only when a blend asks for a generator, so that other builds start without it.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa

from pipeline.config import nearest
from pipeline.errors import InputError

Rows = pa.RecordBatch | list[dict[str, Any]]

MODULES = ("data.generators.puzzle_chat", "data.generators.episodes", "data.generators.name_permutation")
"""Modules that are asked for their `GENERATORS`."""


class Generator(Protocol):
    """Makes the rows of one blend entry.

    options: the keys of the YAML's `generator:` section except `kind`, as plain YAML values. Bad ones raise InputError,
        at the call or before the first batch (the blender asks for one batch of every generator before it works).
    entries: how many rows the blend will take at most, None when the YAML gives no cap; a generator of endless rows
        has to refuse None. Making more does no harm, making fewer is a warning in the blend.
    split: the YAML's `split` ("train" when it gives none). The content of two splits must not overlap.
    seed: the blend's seed and nothing else, so that equal arguments make equal rows in equal order: a killed build is
        taken up by calling again.
    Yields batches of any size, all with the same columns.
    """

    def __call__(self, options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[Rows]: ...


def registry() -> dict[str, Generator]:
    """Every kind of generator by name. Imports the modules that make rows."""
    found: dict[str, Generator] = {}
    for module in MODULES:
        if importlib.util.find_spec(module) is not None:
            found.update(importlib.import_module(module).GENERATORS)
    return found


def find_generator(kind: str, where: str) -> Generator:
    """The generator of that name. Raises InputError with the nearest kind; `where` is its place in the YAML."""
    known = registry()
    if kind not in known:
        raise InputError(f"{where}.kind: {kind!r} is not a generator{nearest(kind, sorted(known))}")
    return known[kind]


def code_of(generator: Generator) -> str:
    """The source text of the generator's module, so that a build can tell when its rows would come out differently."""
    return inspect.getsource(inspect.getmodule(generator))


__all__ = ["Generator", "Rows", "code_of", "find_generator", "registry"]
