"""The words for what a setting may be, to annotate the fields of configuration classes with.

Checked by the loader like types (`pipeline.config`): a value outside is refused by file, line and key. Numbers are
finite everywhere.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

PositiveInt = Annotated[int, Field(ge=1)]
"""1, 2, …: counts and sizes of which there must be some."""
NonNegativeInt = Annotated[int, Field(ge=0)]
"""0, 1, 2, …"""
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Above 0."""
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""0 or more."""
Share = Annotated[float, Field(ge=0, le=1)]
"""0 to 1, both included."""
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
"""0 to 1 without 1: what a moving average keeps, how much of a label is smoothed away."""
PositiveShare = Annotated[float, Field(gt=0, le=1)]
"""0 to 1, without 0."""
OpenShare = Annotated[float, Field(gt=0, lt=1)]
"""Between 0 and 1: a part of something of which there is a rest."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every library's generator takes."""
Text = Annotated[str, Field(pattern=r"\S")]
"""A text that isn't blank."""


def _written(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; name a folder or a file")
    return value


NamedPath = Annotated[Path, BeforeValidator(_written)]
"""A path that is written out: the empty one would silently be the folder that the command was started in."""

__all__ = [
    "NamedPath",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenShare",
    "PositiveFloat",
    "PositiveInt",
    "PositiveShare",
    "Seed",
    "Share",
    "ShareBelowOne",
    "Text",
]
