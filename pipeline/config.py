"""YAML in, typed dataclass out; anything unexpected is refused by file, line and key before work starts.

PyYAML follows YAML 1.1, where `3e-4` is a string, `no` is False and a doubled key silently wins. The loader here
resolves scalars as YAML 1.2 does and refuses doubled keys. Types are checked by pydantic in strict mode against plain
dataclasses, so that a configuration class needs nothing from this module.
"""

import dataclasses
import difflib
import enum
import hashlib
import json
import logging
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

from pipeline.errors import InputError

Key = tuple[str | int, ...]
logger = logging.getLogger(__name__)


class _Yaml12Loader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of the YAML 1.2 core schema."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}  # ty: ignore[incompatible-attribute-override]


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
_Yaml12Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(node.value.replace("_", ""), 16 if node.value.startswith("0x") else 10),
)


class _Document:
    """A YAML file as plain data, with the line of each key for messages."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.lines: dict[Key, int] = {}
        self.overridden: dict[Key, str] = {}
        self.flattened: set[yaml.Node] = set()
        loader = _Yaml12Loader(text)
        try:
            node = loader.get_single_node()
            self.data = {} if node is None else self._build(loader, node, ())
        except RecursionError:
            raise InputError(f"{source}: an alias (*name) contains itself; write the value out") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = f":{mark.line + 1}" if mark else ""
            raise InputError(f"{source}{at}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
        finally:
            loader.dispose()
        if not isinstance(self.data, dict):
            raise InputError(
                f"{source}: expected `key: value` lines at the top level, found a {type(self.data).__name__}"
            )

    def _build(self, loader: _Yaml12Loader, node: yaml.Node, path: Key) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._build(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        seen: dict[str, int] = {}
        # Doubled keys are looked for before `<<` brings in defaults that may be overridden; a node that an alias names
        # again has them in it already.
        written = [] if node in self.flattened else node.value
        for key_node, _ in written:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if name in seen:
                dotted = dotted_path((*path, name))
                raise InputError(
                    f"{self.source}:{line}: {dotted} is given twice (first on line {seen[name]}); keep one"
                )
            seen[name] = line
        loader.flatten_mapping(node)
        self.flattened.add(node)
        built = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            key = key if isinstance(key, str) else str(key_node.value)
            built[key] = self._build(loader, value_node, (*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
        return built

    def where(self, path: Key) -> str:
        """`file:line` of the key, or of its nearest written parent."""
        while path and path not in self.lines and path not in self.overridden:
            path = path[:-1]
        if path in self.overridden:
            return self.overridden[path]
        line = self.lines.get(path)
        return f"{self.source}:{line}" if line else self.source


def dotted_path(path: Key) -> str:
    """`("datasets", 0, "name")` as `datasets[0].name`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def nearest(name: str, valid: Sequence[str] | Mapping[str, Any]) -> str:
    """A remedy for a misspelt name: `; did you mean X?`, or the list of what is valid when nothing is near."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; valid here: {shown}" if names else ""


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping with YAML 1.2 scalars. Raises InputError with file and line."""
    return _read(Path(path)).data


def _read(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such configuration file; give an existing one with --config-path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as text: {error}") from None
    return _Document(text, str(path))


def load_config[T](cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Read the YAML file at `path` into the dataclass `cls`.

    `overrides` are `dotted.key=value` strings, values in YAML. Raises InputError naming file, line, key and remedy.
    """
    document = _read(Path(path))
    for override in overrides:
        _apply_override(document, override)
    return _validate(cls, document)


def parse_config[T](cls: type[T], mapping: Mapping[str, Any], source: str = "config") -> T:
    """`load_config` for a mapping that is already in memory."""
    document = _Document("", source)
    document.data = dict(mapping)
    return _validate(cls, document)


def _apply_override(document: _Document, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: expected dotted.key=value")
    target, parts = document.data, key.strip().split(".")
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise InputError(f"--set {override}: {part} is not a section")
    target[parts[-1]] = _Document(f"value: {text}", f"--set {key}").data["value"]
    document.overridden[tuple(parts)] = f"--set {key.strip()}"


def _validate[T](cls: type[T], document: _Document) -> T:
    # A stdlib dataclass takes no configuration of its own; the model around it hands strictness down to every section.
    root = create_model(
        "Root", config=(cls, ...), __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    )
    try:
        # JSON mode: a strict check that still reads a string as a Path and a list as a tuple.
        return root.model_validate_json(json.dumps({"config": document.data})).config  # ty: ignore[missing-attribute]
    except ValidationError as error:
        problems = _distinct_problems(error, document.data)
        path, message = _explain(cls, problems[0], document.data)
        more = sorted({dotted_path(p[0]) for p in problems[1:]} - {dotted_path(path)})
        also = f" (also wrong: {', '.join(more[:5])})" if more else ""
        raise InputError(f"{document.where(path)}: {message}{also}") from None


def _distinct_problems(error: ValidationError, data: Any) -> list[tuple[Key, dict]]:
    """Each error with its path in the *data*: pydantic's own path also names union members, which nobody wrote."""
    problems: dict[Key, dict] = {}
    for entry in error.errors():
        path: list[str | int] = []
        value = data
        for part in entry["loc"][1:]:
            present = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if present:
                path.append(part)
                value = value[part]
            elif entry["type"].startswith("missing"):
                path.append(part)
        problems.setdefault(tuple(path), dict(entry))
    return sorted(problems.items(), key=lambda item: item[1]["type"] != "unexpected_keyword_argument")


def _explain(cls: type, problem: tuple[Key, dict], data: Any) -> tuple[Key, str]:
    path, entry = problem
    name = dotted_path(path) or "the configuration"
    match entry["type"]:
        case "unexpected_keyword_argument":
            return path, f"{name} is not a setting{nearest(str(path[-1]), _fields_at(cls, path[:-1], data))}"
        case kind if kind.startswith("missing"):
            return path[:-1], f"{name} is missing; add it"
        case "value_error":
            return path, (f"{name}: " if path else "") + str(entry["ctx"]["error"])
        case "literal_error" | "union_tag_invalid":
            given = entry["input"]
            return (
                path,
                f"{name}: {given!r} is not one of {entry['ctx'].get('expected') or entry['ctx'].get('expected_tags')}",
            )
    message = entry["msg"].removeprefix("Input should be ")
    hint = " (write true or false)" if message == "a valid boolean" else ""
    return path, f"{name} should be {message}{hint}, not {entry['input']!r}"


def _fields_at(cls: Any, path: Key, data: Any) -> list[str]:
    """Names of the fields that the section at `path` may hold, for suggestions."""
    members = _dataclasses_in(cls)
    if not path:
        kind = data.get("kind") if isinstance(data, dict) else None
        chosen = [m for m in members if kind in typing.get_args(typing.get_type_hints(m).get("kind"))] or members
        return [f.name for m in chosen for f in dataclasses.fields(m) if f.init]
    head, rest = path[0], path[1:]
    inner = data[head] if isinstance(data, dict | list) and (isinstance(head, int) or head in data) else None
    if isinstance(head, int) or not members:
        return _fields_at(cls, rest, inner)
    return [
        n for m in members if head in (hints := typing.get_type_hints(m)) for n in _fields_at(hints[head], rest, inner)
    ]


def _dataclasses_in(annotation: Any) -> list[Any]:
    if dataclasses.is_dataclass(annotation):
        return [annotation]
    return [c for argument in typing.get_args(annotation) for c in _dataclasses_in(argument)]


def check_arguments(
    cls: type[Any], mapping: Mapping[str, Any], where: str, renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Check a section meant for a third-party argument dataclass such as TRL's SFTConfig, without building it.

    Names must be fields of `cls`, values must fit the annotated types (those libraries check neither before a run).
    `renamed` maps an old name to today's; an old name is accepted with a warning. Returns the keyword arguments.
    """
    hints = typing.get_type_hints(cls)
    valid = [f.name for f in dataclasses.fields(cls) if f.init]
    checked: dict[str, Any] = {}
    for given, value in mapping.items():
        name = (renamed or {}).get(given, given)
        if name != given and name not in mapping:
            logger.warning("%s.%s is now called %s; the value is used as %s", where, given, name, name)
        elif name != given:
            raise InputError(f"{where}.{given} is the old name of {name}, which is given as well; keep {name}")
        if name not in valid:
            raise InputError(f"{where}.{given} is not a setting of {cls.__name__}{nearest(given, valid)}")
        checked[name] = _check_value(hints[name], value, f"{where}.{given}")
    return checked


def _check_value(annotation: Any, value: Any, where: str) -> Any:
    enums = [a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, enum.Enum)]
    if enums and isinstance(value, str):
        choices = [str(member.value) for e in enums for member in e]
        if value not in choices:
            raise InputError(f"{where}: {value!r} is not one of {', '.join(choices)}{nearest(value, choices)}")
        return value
    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        expected = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise InputError(f"{where} should be {expected}, not {value!r}") from None


def to_dict(config: Any) -> Any:
    """A dataclass (or a container of them) as JSON-able data: paths as strings, tuples as lists, enums by value."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, list | tuple | set | frozenset):
        return [to_dict(v) for v in config]
    if isinstance(config, enum.Enum):
        return config.value
    if config is None or isinstance(config, bool | int | float | str):
        return config
    return str(config)


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits that change with any value of the resolved configuration."""
    text = json.dumps(to_dict(config), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


__all__ = [
    "check_arguments",
    "config_hash",
    "dotted_path",
    "load_config",
    "load_yaml",
    "nearest",
    "parse_config",
    "to_dict",
]
