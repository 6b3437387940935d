"""A YAML file as plain data, with the line of each key for messages.

PyYAML follows YAML 1.1, where `3e-4` is a string, `no` is False and a doubled key silently wins. The loader here
resolves scalars as YAML 1.2 does, refuses doubled keys, and knows only what JSON knows: no binary, no dates, no sets.
"""

import re
import typing
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from pipeline.errors import InputError, shortened, shown

Key = tuple[str | int, ...]
MOST_VALUES = 100_000
"""Values in a file, aliases written out: what a person writes has a few hundred, ten lines of aliases of aliases have
billions."""
MOST_DIGITS = 19


class _Yaml12Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of the YAML 1.2 core schema and its types alone."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}  # ty: ignore[incompatible-attribute-override]
    yaml_constructors: typing.ClassVar[dict[str | None, Any]] = {  # ty: ignore[incompatible-attribute-override]
        f"tag:yaml.org,2002:{name}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{name}"]
        for name in ("null", "bool", "int", "float", "str", "seq", "map")
    }


for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("merge", "<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
]:
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = node.value.replace("_", "")
    if len(digits.lstrip("-+")) > MOST_DIGITS:
        raise ConstructorError(
            problem=f"a number of {len(digits)} digits; write at most {MOST_DIGITS}", problem_mark=node.start_mark
        )
    return int(digits, 16 if digits.startswith("0x") else 10)


_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", _integer)


class Document:
    """A YAML text as plain data (`data`), with the line of each key (`lines`) and the keys given by --set."""

    def __init__(self, text: str, source: str) -> None:
        """Parse `text`; `source` names it in messages. Raises InputError with file and line."""
        self.source = source
        self.lines: dict[Key, int] = {}
        self.overridden: dict[Key, str] = {}
        self._flattened: set[yaml.Node] = set()
        self._values = 0
        try:
            self.data = self._parse(text)
        except RecursionError:
            raise InputError(
                f"{source}: nested too deeply, or an alias (*name) contains itself; write the value out"
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
            raise InputError(f"{source}{at}: not valid YAML: {shortened(problem, 200)}") from None
        except ValueError as error:  # `!!int x`, `!!float x`
            raise InputError(f"{source}: not valid YAML: {shortened(str(error), 200)}") from None
        if not isinstance(self.data, dict):
            raise InputError(
                f"{source}: expected `key: value` lines at the top level, found a {type(self.data).__name__}"
            )

    @classmethod
    def read(cls, path: Path) -> "Document":
        """The document in a file. Raises InputError."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"{path}: no such configuration file; give an existing one with --config-path") from None
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{path}: can't be read as text: {error}") from None
        return cls(text, str(path))

    def _parse(self, text: str) -> Any:
        loader = _Yaml12Loader(text)
        try:
            node = loader.get_single_node()
            return {} if node is None else self._build(loader, node, ())
        finally:
            loader.dispose()

    def _build(self, loader: _Yaml12Loader, node: yaml.Node, path: Key) -> Any:
        self.lines[path] = node.start_mark.line + 1
        self._values += 1
        if self._values > MOST_VALUES:
            raise InputError(f"{self.source}: holds more than {MOST_VALUES:,} values; are aliases nested in aliases?")
        plain = ("seq", "map", "null", "bool", "int", "float", "str")
        if node.tag not in [f"tag:yaml.org,2002:{name}" for name in plain]:
            raise InputError(
                f"{self.source}:{self.lines[path]}: {dotted_path(path) or 'the file'} has the tag {shown(node.tag)}, "
                "which no setting can be; write a plain value"
            )
        if isinstance(node, yaml.SequenceNode):
            return [self._build(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        self._refuse_odd_keys(node, path)
        loader.flatten_mapping(node)
        self._flattened.add(node)
        built = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            built[key] = self._build(loader, value_node, (*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
        return built

    def _refuse_odd_keys(self, node: yaml.MappingNode, path: Key) -> None:
        """Doubled keys are looked for before `<<` brings in defaults that may be overridden; a node that an alias names
        again has them in it already."""
        seen: dict[str, int] = {}
        for key_node, _ in [] if node in self._flattened else node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{self.source}:{line}: a key is itself a list or a section; write a name")
            name = str(key_node.value)
            if name in seen:
                raise InputError(
                    f"{self.source}:{line}: {dotted_path((*path, name))} is given twice (first on line {seen[name]});"
                    " keep one"
                )
            seen[name] = line

    def where(self, path: Key) -> str:
        """`file:line` of the key, or of its nearest written parent; `--set key` where that gave it, or a part of it."""
        inside = next((where for given, where in self.overridden.items() if given[: len(path)] == path), None)
        if path and inside and path not in self.lines:
            return inside
        while path and path not in self.lines and path not in self.overridden:
            path = path[:-1]
        if path in self.overridden:
            return self.overridden[path]
        line = self.lines.get(path)
        return f"{self.source}:{line}" if line else self.source

    def override(self, path: Key, value: Any, where: str) -> None:
        """Set a value at `path`, sections on the way made; `where` is what messages say of it. Raises InputError."""
        target: Any = self.data
        for i, part in enumerate(path):
            known = target if isinstance(target, dict) else range(len(target)) if isinstance(target, list) else None
            if known is None or isinstance(part, int) != isinstance(target, list):
                raise InputError(f"{where}: {dotted_path(path[:i])} is not a {_named(part)}")
            if isinstance(part, int) and part not in known:
                raise InputError(f"{where}: {dotted_path(path[:i])} has {len(target)} items, counted from 0")
            if i + 1 == len(path):
                target[part] = value
            else:
                target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
        for places in (self.lines, self.overridden):
            for key in [k for k in places if k[: len(path)] == path]:
                del places[key]
        self.overridden[path] = where

    def moved(self, old: Key, new: Key) -> None:
        """Let the lines of everything at `old` be found at `new`."""
        for places in (self.lines, self.overridden):
            for path in [p for p in places if p[: len(old)] == old]:
                places[(*new, *path[len(old) :])] = places.pop(path)  # ty: ignore[invalid-assignment]

    def refuse_odd_values(self) -> None:
        """Raise InputError for what no setting can be: control characters in a text, other types than JSON's."""
        waiting: list[tuple[Key, Any]] = [((), self.data)]
        while waiting:
            path, value = waiting.pop()
            if isinstance(value, dict):
                waiting += [((*path, str(key)), inner) for key, inner in value.items()]
            elif isinstance(value, list):
                waiting += [((*path, i), inner) for i, inner in enumerate(value)]
            elif problem := _oddity(value):
                raise InputError(f"{self.where(path)}: {dotted_path(path)} {problem}")


def _oddity(value: Any) -> str | None:
    if isinstance(value, str):
        odd = next((c for c in value if (ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) < 0xE000), None)
        return None if odd is None else f"holds the control character {odd!r}; write printable text"
    if isinstance(value, int) and value.bit_length() > 63:
        return "is a number of more than 19 digits; write a smaller one"
    if value is None or isinstance(value, bool | int | float):
        return None
    return f"is a {type(value).__name__}, which no setting can be; write a plain value"


def _named(part: str | int) -> str:
    return "list" if isinstance(part, int) else "section"


def parsed_path(dotted: str) -> Key:
    """`datasets[0].name` as `("datasets", 0, "name")`, the opposite of `dotted_path`."""
    parts: list[str | int] = []
    for name in dotted.split("."):
        bare, *numbers = re.split(r"\[(\d+)\]", name)
        parts += [bare, *(int(n) for n in numbers if n.isdigit())] if numbers else [name]
    return tuple(parts)


def dotted_path(path: Key) -> str:
    """`("datasets", 0, "name")` as `datasets[0].name`; a long name is shortened."""
    out = ""
    for part in path:
        name = f"[{part}]" if isinstance(part, int) else shortened(part, 60)
        out += name if isinstance(part, int) or not out else f".{name}"
    return shortened(out, 200)


__all__ = ["Document", "Key", "dotted_path", "parsed_path"]
