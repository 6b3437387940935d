"""Section `data`: where the rows of a stage are."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from data.sources.files import FileQuery, find_files, is_local
from data.sources.folds import check_fold
from pipeline.hub import is_hub_name, refuse_unreachable
from pipeline.ranges import PositiveInt, Text

KIND = "kind"
"""The column that names the kind of a question, if no other is asked for."""


@dataclass(kw_only=True, frozen=True)
class RowSource:
    """Where rows are: a folder of data_collection.py, files of any format it reads, or a dataset of the Hub."""

    path: Text
    subset: Text | None = None
    """Subset of a folder (`*`: all of them), or configuration on the Hub. Default: the only one."""
    split: Text | None = None
    """Split, with a slice if wanted (`train[:10%]`): files named after it, or rows whose column `split` has it.
    Default: `train` where there are splits, else all rows."""
    revision: Text | None = None
    """Commit, branch or tag of a dataset of the Hub."""
    conversations: Literal["messages", "sharegpt"] = "messages"
    """sharegpt: rows hold `conversations` of `{from, value}`."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """Rows that are no usable conversation are refused, or left out and counted."""
    where: dict[str, list[str]] = field(default_factory=dict)
    """Kept: rows whose column has one of the listed values."""
    group_by: Text | None = None
    """Column whose value names a group; figures are given for each group as well (bAbI: task)."""
    kind_column: Text = KIND
    """Column of turns, or of rows where turns haven't it, whose value names the kind of a question."""
    fold: int | None = None
    """Kept: each tenth of the rows that the other keys keep, beginning with this one (0 to 9): a part to validate on
    where the data has none (data/generators/name_permutation.py leaves the same rows out with `without_fold`)."""
    limit: PositiveInt | None = None
    """Most rows."""

    facts: Literal["as_given", "carried"] = "as_given"
    """carried: a row that marks no facts needs, for each answer, the names and numbers that the answer takes from
    earlier turns (data/sources/carried_facts.py)."""

    def __post_init__(self) -> None:
        check_fold(self.fold, "fold")

    @property
    def of_hub(self) -> bool:
        """Whether the rows are a dataset of the Hub."""
        return not is_local(self.path)

    def query(self) -> FileQuery:
        """How the files of a local path are asked for."""
        return FileQuery(path=self.path, subset=self.subset, split=self.split, key="path")


@dataclass(kw_only=True, frozen=True)
class CorpusConfig:
    """What is trained on, what is measured on."""

    train: list[RowSource]
    held_out: list[RowSource]
    folder: Text | None = None
    """Folder in which the sources' paths lie, those of the Hub aside."""
    too_long: Literal["truncate", "refuse"] = "truncate"
    """Interactions of more than the model's max_interaction_length tokens: cut with a warning, or refused."""

    def __post_init__(self) -> None:
        """Both lists are needed: a memory that isn't measured isn't one."""
        if not self.train or not self.held_out:
            raise ValueError("train and held_out each need at least one source")

    def sources(self, split: Literal["train", "held_out"]) -> list[RowSource]:
        """The sources with the folder before their paths; `owner/name` that isn't in the folder is of the Hub."""
        given: list[RowSource] = getattr(self, split)
        if self.folder is None:
            return given
        inside = [Path(self.folder) / source.path for source in given]
        return [
            source
            if source.of_hub and is_hub_name(source.path) and not path.exists()
            else replace(source, path=str(path))
            for source, path in zip(given, inside, strict=True)
        ]

    def refuse_missing(self) -> None:
        """Raises InputError where files of a source aren't there, or the Hub can't be asked for its own."""
        for split in ("train", "held_out"):
            for source in self.sources(split):
                if source.of_hub:
                    refuse_unreachable(source.path, f"data.{split}", kind="dataset")
                else:
                    find_files(source.query())
