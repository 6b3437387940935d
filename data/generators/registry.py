"""Where blends get rows that are made instead of read: `generator: {kind: ..., ...options}` in a blend's YAML.

A module that makes rows (`puzzle_chat`, `episode_topics`, `derivations`, …) has a dict
`GENERATORS: dict[str, Generator]` with its kinds. It is imported only when a blend asks for a generator, so that other
builds start without it.
"""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from data.sources.files import hash_file, is_local
from pipeline.config import nearest
from pipeline.errors import InputError

Rows = pa.RecordBatch | list[dict[str, Any]]

MODULES = (
    "data.generators.puzzle_chat",
    "data.generators.episode_topics",
    "data.generators.derivations",
    "data.generators.hard_episodes",
    "data.generators.dialogue_preferences",
    "data.generators.name_permutation",
    "data.generators.puzzle_episodes",
)
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


def content_of(generator: Generator, options: Mapping[str, Any]) -> list[str]:
    """What a generator's rows come from: the source of its module and of all modules of data/ that it imports, and the
    files that its options name. A build tells by it when the rows would come out differently."""
    modules: dict[str, str] = {}
    _gather(inspect.getmodule(generator).__name__, modules)
    return [*(modules[name] for name in sorted(modules)), *(hash_file(file) for file in _files_in(dict(options)))]


def _gather(name: str, sources: dict[str, str]) -> None:
    """The source of a module of data/ and, from there on, of those that it imports."""
    spec = importlib.util.find_spec(name) if name not in sources else None
    if spec is None or spec.origin is None or not name.startswith("data."):
        return
    sources[name] = Path(spec.origin).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(sources[name])):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for imported in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if _is_module(imported):
                    _gather(imported, sources)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_module(alias.name):
                    _gather(alias.name, sources)


def _is_module(name: str) -> bool:
    try:
        return name.startswith("data.") and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a function of a module isn't a module in a package
        return False


def _files_in(value: Any) -> Iterator[Path]:
    if isinstance(value, str | Path) and str(value) and is_local(str(value)):
        path = Path(value)
        yield from sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else filter(Path.is_file, [path])
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _files_in(inner)


__all__ = ["Generator", "Rows", "content_of", "find_generator", "registry"]
