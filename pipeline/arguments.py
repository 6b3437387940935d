"""Sections that are handed on to another library's argument class, checked before that library sees them."""

import dataclasses
import enum
import logging
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import InputError, expectation, nearest, shortened, shown

logger = logging.getLogger(__name__)
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def check_arguments(
    cls: type[Any],
    mapping: Mapping[str, Any],
    where: str,
    renamed: Mapping[str, str] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check a section meant for a third-party argument dataclass such as TRL's SFTConfig, without building it.

    Names must be fields of `cls`; values must fit the annotated types, be finite and, where the field names its
    `choices`, one of them (those libraries check little before a run); a text may be blank only where that is the
    default. `renamed` maps an old name to today's; an old name is accepted with a warning. `limits` gives
    narrower annotations by field, such as those of `pipeline.ranges`. Returns the keyword arguments.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    checked: dict[str, Any] = {}
    for given, value in mapping.items():
        name = (renamed or {}).get(given, given)
        if name != given and name not in mapping:
            logger.warning("%s.%s is now called %s; the value is used as %s", where, given, name, name)
        elif name != given:
            raise InputError(f"{where}.{given} is the old name of {name}, which is given as well; keep {name}")
        if name not in fields:
            raise InputError(
                f"{where}.{shortened(given, 60)} is not a setting of {cls.__name__}{nearest(given, fields)}"
            )
        checked[name] = _check_value(hints[name], value, f"{where}.{given}")
        _check_text(fields[name], value, f"{where}.{given}")
        if limits is not None and name in limits and value is not None:
            _check_value(limits[name], value, f"{where}.{given}")
    return checked


def _check_text(field: dataclasses.Field, value: Any, where: str) -> None:
    texts = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
    if any(not text.strip() and text != field.default for text in texts):
        raise InputError(f"{where} is empty; fill it in or leave it out")
    choices = [str(choice) for choice in field.metadata.get("choices") or ()]
    for text in texts if choices else ():
        if text not in choices:
            listed = shortened(", ".join(choices), 200)
            raise InputError(f"{where}: {shown(text)} is not one of {listed}{nearest(text, choices)}")


def _check_value(annotation: Any, value: Any, where: str) -> Any:
    enums = [a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, enum.Enum)]
    if enums and isinstance(value, str):
        choices = [str(member.value) for e in enums for member in e]
        if value not in choices:
            raise InputError(
                f"{where}: {shown(value)} is not one of {shortened(', '.join(choices), 200)}{nearest(value, choices)}"
            )
        return value
    try:
        return TypeAdapter(annotation, config=_STRICT).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"] == "literal_error":
            raise InputError(f"{where}: {shown(value)} is not one of {problem['ctx']['expected']}") from None
        raise InputError(f"{where} should be {expectation(problem['msg'])}, not {shown(value)}") from None
