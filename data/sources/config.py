"""One entry of a blend's `datasets`: where its rows come from and which of them are wanted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data.sources.files import is_local
from data.sources.messages import MessageOptions
from data.sources.pairs.to_interactions import PreferencesConfig
from data.sources.to_episodes import InteractionsConfig
from pipeline.errors import SettingError
from pipeline.ranges import PositiveFloat, PositiveInt, Text


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
    sample: Literal["first", "random"] = "first"
    """Which `entries` rows: the first ones, or some of all by the seed (the whole source is read then)."""
    weight: PositiveFloat = 1.0
    """How often each row is in the blend: 2 is twice, 0.25 a quarter of the rows, 1.5 all once and half of them again.
    Which ones is drawn by the seed. A row that is held out is there once and not in training."""
    revision: Text | None = None
    """Commit, branch or tag of a Hub dataset."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """Rows to keep: those whose column (by its old name, dropped or not) has one of the values."""
    drop_columns: list[str] = field(default_factory=list)
    """Columns to leave out; done before renaming. One that isn't there is a warning."""
    rename_columns: dict[str, str] = field(default_factory=dict)
    """Old name to new name."""
    interactions: InteractionsConfig | None = None
    """Make memory episodes of the rows, which are dialogues (data/sources/to_episodes.py)."""
    preferences: PreferencesConfig | None = None
    """Make dialogues of the rows whose last question has two answers (data/sources/pairs/to_interactions.py); they are
    preference data with `chosen` and `rejected`."""
    conversations: Literal["messages", "sharegpt"] | None = None
    """Check the rows' conversations and write them as `messages` (data/sources/messages.py); sharegpt: they are lists
    of `{from, value}` in `conversations` or `messages`. Default: columns stay as they are, unchecked."""
    roles: dict[str, str] = field(default_factory=dict)
    """With conversations, interactions or preferences: other names of roles, such as `developer: system`."""
    last_turn: Literal["refuse", "cut"] = "refuse"
    """With conversations: what to do where the last turn isn't the assistant's."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """With conversations, interactions or preferences: rows that aren't usable are refused, or left out and counted."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.generator is None):
            raise ValueError("give either name (a Hub dataset or a local path) or generator")
        if self.generator is not None and not isinstance(self.generator.get("kind"), str):
            raise SettingError("generator", "generator.kind is missing; add the name of a generator")
        if self.is_hub and self.split is None:
            raise ValueError(f"split is missing; add the split of {self.name} to read, for example split: train")
        if self.revision is not None and not self.is_hub:
            raise SettingError("revision", f"revision: {self.dataset} isn't of the Hub and has none; leave it out")
        if self.sample == "random" and self.entries is None:
            raise SettingError("sample", "sample: random draws `entries` rows; say how many")
        if self.interactions is not None and self.preferences is not None:
            raise SettingError("preferences", "interactions and preferences make different rows; keep one")
        episodes = self.interactions is not None or self.preferences is not None
        checks = self.conversations is not None or episodes
        for key in ("roles", "bad_rows") if not checks else ():
            if getattr(self, key) not in ({}, "refuse"):
                raise SettingError(key, f"{key} has no effect here; add conversations: messages (or sharegpt)")
        if self.last_turn == "cut" and self.conversations is None:
            raise SettingError("last_turn", "last_turn has no effect here; add conversations: messages (or sharegpt)")
        MessageOptions(roles=self.roles)
        if both := sorted(set(self.drop_columns) & set(self.rename_columns)):
            raise SettingError("drop_columns", f"{both[0]} is in drop_columns and in rename_columns; keep one")
        targets = list(self.rename_columns.values())
        if twice := next((t for t in targets if targets.count(t) > 1), None):
            raise SettingError("rename_columns", f"rename_columns gives two columns the name {twice}; choose another")

    @property
    def messages(self) -> MessageOptions:
        """How the rows' conversations are read."""
        if self.interactions is not None or self.preferences is not None:
            return MessageOptions(
                conversations=self.conversations or "messages", roles=self.roles, think="split",
                last_turn="refuse" if self.interactions is None else "cut",
            )  # fmt: skip
        return MessageOptions(
            conversations=self.conversations or "messages", roles=self.roles, last_turn=self.last_turn
        )

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
