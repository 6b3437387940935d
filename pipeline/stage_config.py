"""The settings that every recipe has, whatever its stage does."""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.ranges import NamedPath, Seed, Text
from pipeline.resumable import RESUMABLE


@dataclass(kw_only=True, frozen=True)
class StageConfig:
    """What a stage needs to be run (`pipeline.run`). A recipe's class inherits and adds its sections.

    Frozen, and so are the classes that inherit: what was written into config.json is what ran.
    """

    output_dir: NamedPath = field(metadata=RESUMABLE)
    """Folder of everything that the run leaves."""
    seed: Seed = 42
    """Decides every random choice of the run."""


@dataclass(kw_only=True, frozen=True)
class TrainingStageConfig(StageConfig):
    """A stage that trains a model, in steps that a later start can go on from."""

    name: Text | None = field(default=None, metadata=RESUMABLE)
    """Name of the model in its card."""
    description: Text | None = field(default=None, metadata=RESUMABLE)
    """What the card says of it."""
    resume: Literal["auto", "never"] = field(default="auto", metadata=RESUMABLE)
    """auto: go on from the newest sound checkpoint in output_dir; never: remove those that are there and start over."""


__all__ = ["StageConfig", "TrainingStageConfig"]
