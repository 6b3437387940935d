"""The YAML of a blend."""

import re
from dataclasses import dataclass, field

from data.blending.contamination import DecontaminateConfig
from data.blending.near_duplicates import NearDuplicatesConfig
from data.blending.selection import LengthFilter
from data.sources.config import SourceConfig
from pipeline.errors import SettingError, shown
from pipeline.ranges import NonNegativeInt, Seed, Text

LABELS = ("name", "description", "license", "private")
"""Keys of the YAML that say nothing about the rows."""


@dataclass(kw_only=True, frozen=True)
class SubsetConfig:
    """One of several blends in a dataset."""

    datasets: list[SourceConfig]

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty; add at least one source")


@dataclass(kw_only=True, frozen=True)
class BlendConfig:
    """The YAML of a blend."""

    name: Text
    """Of the dataset; `owner/name` when it is to be pushed to the Hub."""
    description: str = ""
    seed: Seed = 42
    """Decides the order of the rows and what generators make."""
    datasets: list[SourceConfig] = field(default_factory=list)
    subsets: dict[str, SubsetConfig] = field(default_factory=dict)
    """Instead of `datasets`: several blends, each in a sub-folder, which loaders see as configurations."""
    length: LengthFilter | None = None
    deduplicate: bool | list[str] = False
    """Keep the first of equal rows of a blend: true compares whole rows, a list names the columns that count."""
    held_out: NonNegativeInt = 0
    """So many rows of the shuffled blend go to a second split, `validation`."""
    near_duplicates: NearDuplicatesConfig | None = None
    """Keep the first of rows whose texts are nearly the same."""
    decontaminate: DecontaminateConfig | None = None
    """Leave out rows that share text with benchmarks."""
    license: Text | None = None
    """For the card; an identifier that the Hub knows."""
    private: bool = True
    """Whether a repository that the push creates is private."""

    def __post_init__(self) -> None:
        if bool(self.datasets) == bool(self.subsets):
            raise ValueError("give either datasets (a list of sources) or subsets (name: {datasets: [...]})")
        for name in self.subsets:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise SettingError(
                    f"subsets.{name}", f"subsets: {shown(name)} can't be a folder name; use letters, digits, _, - and ."
                )
        if self.deduplicate == []:
            raise SettingError("deduplicate", "deduplicate names no column; give column names, or true for whole rows")

    def blends(self) -> dict[str, list[SourceConfig]]:
        """Sources by the folder that their rows go to."""
        return {n: s.datasets for n, s in self.subsets.items()} if self.subsets else {"data": self.datasets}

    def placed_sources(self) -> list[tuple[str, SourceConfig]]:
        """Every source with its place in the YAML, in the order of `blends`."""
        if self.subsets:
            return [
                (f"subsets.{name}.datasets[{i}]", source)
                for name, subset in self.subsets.items()
                for i, source in enumerate(subset.datasets)
            ]
        return [(f"datasets[{i}]", source) for i, source in enumerate(self.datasets)]


__all__ = ["LABELS", "BlendConfig", "SubsetConfig"]
