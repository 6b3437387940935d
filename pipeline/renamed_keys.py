"""Old names of settings: accepted, with a warning that names today's.

A configuration class says which names its keys had before:

    @dataclass(kw_only=True)
    class UpdateConfig:
        RENAMED: ClassVar[Mapping[str, str]] = {"turns_at_once": "micro_batch_turns"}

    @dataclass(kw_only=True)
    class MRLStage:
        RENAMED: ClassVar[Mapping[str, str]] = {"replay": "update", "trainer.max_prompt_length": "data.longest_prompt"}

Both sides are dotted keys as seen from the class that declares them. A whole section may be renamed, and a key may move
to another section. An inner class declares its own keys, wherever it stands (in a list, in a mapping by name, in a
renamed section); subclasses inherit. Outer names are replaced before inner ones. The old and the new name together are
refused. `--set` and `with_changes` take old names too.
"""

import dataclasses
import logging
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import InputError
from pipeline.yaml_document import Document, Key, dotted_path

logger = logging.getLogger(__name__)


def renames_of(cls: type) -> dict[str, str]:
    """Old dotted key to new one, of a class and those that it inherits from."""
    return {old: new for c in reversed(cls.__mro__) for old, new in vars(c).get("RENAMED", {}).items()}


def sections(annotation: Any, data: Any, path: Key = ()) -> Iterator[tuple[Any, dict[str, Any], Key]]:
    """Each mapping in `data` that a dataclass will read: (the class, the mapping, where it lies), outer before inner.

    The caller may change a mapping before it asks for the next one.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if dataclasses.is_dataclass(annotation):
        if isinstance(data, dict):
            yield annotation, data, path
            hints = typing.get_type_hints(annotation)
            for name in [n for n in data if n in hints]:
                yield from sections(hints[name], data[name], (*path, name))
    elif origin is typing.Annotated:
        yield from sections(arguments[0], data, path)
    elif origin in (typing.Union, types.UnionType):
        for member in _of_kind(arguments, data):
            yield from sections(member, data, path)
    elif origin in (list, tuple) and isinstance(data, list):
        for i, item in enumerate(data):
            yield from sections(arguments[0], item, (*path, i))
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(data, dict):
        for name, inner in data.items():
            yield from sections(arguments[1], inner, (*path, name))


def _of_kind(members: tuple[Any, ...], data: Any) -> list[Any]:
    """Members of a union that `data` may be: those with its `kind`, where they have kinds."""
    kind = data.get("kind") if isinstance(data, dict) else None
    tagged = [m for m in members if dataclasses.is_dataclass(m) and "kind" in typing.get_type_hints(m)]
    same = [m for m in tagged if kind in typing.get_args(typing.get_type_hints(m)["kind"])]
    return same or [m for m in members if m is not type(None)]


def replace_old_names(cls: type, document: Document) -> None:
    """Put today's names into the document, with a warning for each old one. Raises InputError where both are given."""
    for section, data, path in sections(cls, document.data):
        for old, new in renames_of(section).items():
            _replace(document, data, path, (*old.split("."),), (*new.split("."),))


def _replace(document: Document, data: dict[str, Any], path: Key, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    holders = [data]
    for part in old[:-1]:
        inner = holders[-1].get(part)
        if not isinstance(inner, dict):
            return
        holders.append(inner)
    if old[-1] not in holders[-1]:
        return
    where, given, current = document.where((*path, *old)), dotted_path((*path, *old)), dotted_path((*path, *new))
    target = data
    for part in new[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise InputError(f"{where}: {given} is now called {current}, but {part} is not a section here")
    if new[-1] in target:
        raise InputError(f"{where}: {given} is the old name of {current}, which is given as well; keep {current}")
    logger.warning("%s: %s is now called %s; write that", where, given, current)
    target[new[-1]] = holders[-1].pop(old[-1])
    document.moved((*path, *old), (*path, *new))
    for holder, part in zip(reversed(holders[:-1]), reversed(old[:-1]), strict=True):
        if not holder[part] and part != new[0]:  # a section that held nothing but the old key
            del holder[part]


def current_path(cls: type, path: Key, value: Any, where: str) -> Key:
    """The path of a key in today's names; old names inside `value`, where it is a section, are replaced as well."""
    tree: Any = value
    for part in reversed(path):
        tree = [*[None] * part, tree] if isinstance(part, int) else {part: tree}
    document = Document("", where)
    document.data = tree
    replace_old_names(cls, document)
    found: list[str | int] = []
    node: Any = document.data
    while isinstance(node, dict | list) and node is not value and node:
        part = next(iter(node)) if isinstance(node, dict) else len(node) - 1
        node = node[part]
        found.append(part)
    return tuple(found)


def wrong_renames(cls: type) -> list[str]:
    """What is wrong with the declarations of a class and of the classes in it, for tests: [] where all is well."""
    wrong, seen, waiting = [], set(), [cls]
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        hints = typing.get_type_hints(section)
        waiting += [inner for hint in hints.values() for inner in dataclasses_in(hint)]
        for old, new in renames_of(section).items():
            if _is_setting(section, old, in_open_sections=False):
                wrong.append(f"{section.__name__}: {old} is a setting of today")
            if not _is_setting(section, new, in_open_sections=True):
                wrong.append(f"{section.__name__}: {new} is no setting")
    return wrong


def _is_setting(cls: Any, dotted: str, *, in_open_sections: bool) -> bool:
    """Whether a dotted key leads to a field; a section without a class of its own (`dict[str, Any]`) takes any key."""
    head, _, rest = dotted.partition(".")
    if head not in {f.name for f in dataclasses.fields(cls)}:
        return False
    inner = dataclasses_in(typing.get_type_hints(cls)[head])
    if rest and not inner:
        return in_open_sections
    return not rest or any(_is_setting(c, rest, in_open_sections=in_open_sections) for c in inner)


def dataclasses_in(annotation: Any) -> list[Any]:
    """The dataclasses that an annotation names, however deep."""
    if dataclasses.is_dataclass(annotation):
        return [annotation]
    return [c for argument in typing.get_args(annotation) for c in dataclasses_in(argument)]


__all__ = ["current_path", "dataclasses_in", "renames_of", "replace_old_names", "sections", "wrong_renames"]
