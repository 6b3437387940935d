"""YAML in, typed dataclass out; anything unexpected is refused by file, line and key before work starts.

Types and ranges are checked by pydantic in strict mode against plain dataclasses, so that a configuration class needs
nothing from this module. Ranges stand in the annotations (`pipeline.ranges`), old names of keys in `RENAMED`
(`pipeline.renamed_keys`), and what several keys decide together in `__post_init__`, as ValueError or SettingError.
"""

import dataclasses
import enum
import hashlib
import json
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from pipeline.arguments import check_arguments
from pipeline.errors import InputError, SettingError, expectation, nearest, shortened, shown
from pipeline.renamed_keys import current_path, dataclasses_in, replace_old_names
from pipeline.yaml_document import Document, Key, dotted_path, parsed_path

_DOCUMENT = "_document"
"""Attribute of a loaded configuration that keeps the lines of its keys; no field, so no hash or dump holds it."""


def load_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping with YAML 1.2 scalars. Raises InputError with file and line."""
    return Document.read(Path(path)).data


def load_config[T](cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Read the YAML file at `path` into the dataclass `cls`.

    `overrides` are `dotted.key=value` strings (`datasets[0].entries=5`), values in YAML; they win over the file. Old
    names of keys are accepted in both. Raises InputError naming file, line, key and remedy.
    """
    document = Document.read(Path(path))
    replace_old_names(cls, document)
    for override in overrides:
        _apply_override(cls, document, override)
    return _validate(cls, document)


def parse_config[T](cls: type[T], mapping: Mapping[str, Any], source: str = "config") -> T:
    """`load_config` for a mapping that is already in memory; `source` stands for the file in messages."""
    document = Document("", source)
    document.data = _copy(mapping)
    replace_old_names(cls, document)
    return _validate(cls, document)


def with_changes[T](config: T, changes: Mapping[str, Any], where: str) -> T:
    """A copy of a configuration with other values at some dotted keys (old names too), checked like a file.

    where: the key that holds the changes, such as `curriculum.overrides.4`. Raises InputError naming it, with file and
    line where `config` was read from a file.
    """
    document = Document("", locate(config, where) or where)
    document.data = to_dict(config)
    for key, value in changes.items():
        at = locate(config, f"{where}.{key}") or where
        _place(type(config), document, key, _copy(value), f"{at}: {where}" if at != where else where)
    return _validate(type(config), document)


def locate(config: Any, key: str) -> str:
    """`file:line` of a dotted key (or of the nearest key around it that is written); "" where no file was read."""
    document: Document | None = getattr(config, _DOCUMENT, None)
    if document is None:
        return ""
    parts, path = re.findall(r"[^.\[\]]+", key), []
    for n, part in enumerate(parts):
        rest = ".".join(parts[n:])  # a key that holds dots itself, as those of overrides do
        if (*path, rest) in document.lines:
            return document.where((*path, rest))
        path.append(int(part) if part.isdigit() and (*path, int(part)) in document.lines else part)
    return document.where(tuple(path))


def place_error(config: Any, error: InputError) -> InputError:
    """The error with `file:line: ` before it, where its message begins with a key of the configuration."""
    message = str(error)
    begins = re.match(r"([A-Za-z_]\w*(?:\.\w[\w-]*|\[\d+\])*)(?=:? )", message)
    names = {f.name for f in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else set()
    if not begins or re.split(r"[.\[]", begins[1])[0] not in names:
        return error
    if begins[1] in names and message[begins.end()] != ":":
        return error  # an ordinary word
    place = locate(config, begins[1])
    return InputError(f"{place}: {message}") if place else error


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list | tuple) else value


def _apply_override(cls: type, document: Document, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {override}: expected dotted.key=value")
    key = key.strip()
    _place(cls, document, key, Document(f"value: {text}", f"--set {key}").data["value"], f"--set {key}")


def _place(cls: type, document: Document, key: str, value: Any, where: str) -> None:
    document.override(current_path(cls, parsed_path(key), value, where), value, where)


def _validate[T](cls: type[T], document: Document) -> T:
    document.refuse_odd_values()
    # A stdlib dataclass takes no configuration of its own; the model around it hands strictness down to every section.
    root = create_model(
        "Root", config=(cls, ...), __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    )
    try:
        # JSON mode: a strict check that still reads a string as a Path and a list as a tuple.
        config = root.model_validate_json(json.dumps({"config": document.data})).config  # ty: ignore[missing-attribute]
    except ValidationError as error:
        problems = _distinct_problems(error, document.data)
        path, message = _explain(cls, problems[0], document.data)
        more = sorted({dotted_path(p[0]) for p in problems[1:]} - {dotted_path(path)})
        also = f" (also wrong: {', '.join(more[:5])})" if more else ""
        raise InputError(f"{document.where(path)}: {message}{shortened(also, 200)}") from None
    except InputError as error:
        raise InputError(f"{document.source}: {error}") from None
    except RecursionError:
        raise InputError(f"{document.source}: nested too deeply; no setting is") from None
    object.__setattr__(config, _DOCUMENT, document)
    return config


def _distinct_problems(error: ValidationError, data: Any) -> list[tuple[Key, dict]]:
    """Each error with its path in the *data*: pydantic's own path also names union members, which nobody wrote."""
    problems: dict[Key, dict] = {}
    for entry in error.errors(include_url=False):
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
    context = entry.get("ctx", {})
    match entry["type"]:
        case "unexpected_keyword_argument":
            return path, f"{name} is not a setting{nearest(str(path[-1]), _fields_at(cls, path[:-1], data))}"
        case kind if kind.startswith("missing"):
            return path[:-1], f"{name} is missing; add it"
        case "value_error":
            refused = context["error"]
            key = tuple(refused.key.split(".")) if isinstance(refused, SettingError) else ()
            return (*path, *key), (f"{name}: " if path else "") + str(refused)
        case "literal_error" | "union_tag_invalid":
            return path, f"{name}: {shown(entry['input'])} is not one of {_choices(entry)}"
        case "too_short" | "string_too_short" if context.get("min_length") == 1:
            return path, f"{name} is empty; fill it in or leave it out"
        case "string_pattern_mismatch" if not entry["input"].strip():
            return path, f"{name} is empty; fill it in or leave it out"
    message = expectation(entry["msg"])
    hint = " (write true or false)" if message == "a valid boolean" else ""
    return path, f"{name} should be {message}{hint}, not {shown(entry['input'])}"


def _choices(entry: dict) -> str:
    context = entry["ctx"]
    return shortened(str(context.get("expected") or context.get("expected_tags")), 200)


def _fields_at(cls: Any, path: Key, data: Any) -> list[str]:
    """Names of the fields that the section at `path` may hold, for suggestions."""
    members = dataclasses_in(cls)
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
    "locate",
    "nearest",
    "parse_config",
    "place_error",
    "to_dict",
    "with_changes",
]
