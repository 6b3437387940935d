"""One entry of a blend's `datasets`: where its rows come from and which of them are wanted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.sources.files import is_local
from data.sources.to_episodes import InteractionsConfig
from pipeline.errors import SettingError
from pipeline.ranges import PositiveInt, Text


@dataclass(kw_only=True, frozen=True)
class SourceConfig:
    """One entry of a blend's `datasets`."""

    name: Text | None = None
    """A dataset of the Hub (`owner/name`), or a local file, folder or glob: anything that exists, ends like a data
    file, has a `*`, or begins with `.`, `/` or `~` (data/sources/files.py)."""
    generator: dict[str, Any] | None = None
    """Instead of `name`: `{kind: ..., ...options}`, rows made by the project itself (data/generators/registry.py)."""
    subset: Text | None = None
    """Configuration of a Hub dataset, subset of a local folder."""
    split: Text | None = None
    """Split of a Hub dataset (has to be given) or of local files, these with a slice if wanted: `train[:10%]`. Default:
    `train` where there are splits, else all rows. For a generator: which content it makes."""
    entries: PositiveInt | None = None
    """At most so many rows, counted after filters and de-duplication; all when not given."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """Rows to keep: those whose column (by its old name, dropped or not) has one of the values."""
    drop_columns: list[str] = field(default_factory=list)
    """Columns to leave out; done before renaming. One that isn't there is a warning."""
    rename_columns: dict[str, str] = field(default_factory=dict)
    """Old name to new name."""
    interactions: InteractionsConfig | None = None
    """Make memory episodes of the rows, which are dialogues (data/sources/to_episodes.py)."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.generator is None):
            raise ValueError("give either name (a Hub dataset or a local path) or generator")
        if self.generator is not None and not isinstance(self.generator.get("kind"), str):
            raise SettingError("generator", "generator.kind is missing; add the name of a generator")
        if self.is_hub and self.split is None:
            raise ValueError(f"split is missing; add the split of {self.name} to read, for example split: train")
        if both := sorted(set(self.drop_columns) & set(self.rename_columns)):
            raise SettingError("drop_columns", f"{both[0]} is in drop_columns and in rename_columns; keep one")
        targets = list(self.rename_columns.values())
        if twice := next((t for t in targets if targets.count(t) > 1), None):
            raise SettingError("rename_columns", f"rename_columns gives two columns the name {twice}; choose another")

    @property
    def is_hub(self) -> bool:
        return self.name is not None and not is_local(self.name)

    @property
    def dataset(self) -> str:
        """What stands in `_source_dataset`."""
        return self.name if self.name is not None else f"generator:{(self.generator or {})['kind']}"

    @property
    def label(self) -> str:
        """For people: dataset, subset and split."""
        name = Path(self.dataset).name if is_local(self.dataset) else self.dataset
        return "/".join(part for part in (name, self.subset, self.split_name) if part)

    @property
    def split_name(self) -> str:
        return self.split or "train"


__all__ = ["SourceConfig"]
