"""The section `dataset` of each script: which rows, and what becomes of those that can't be trained as they stand."""

from dataclasses import dataclass, field
from typing import Literal

from data.sources.files import FileQuery, find_files, is_local
from data.sources.messages import MessageOptions
from pipeline.errors import SettingError
from pipeline.hub import refuse_unreachable
from pipeline.ranges import OpenShare, PositiveInt, ShareBelowOne, Text

LENGTH = "length"
"""The difficulty that needs no column."""


@dataclass(kw_only=True, frozen=True)
class HeldOutConfig:
    """Section `dataset.held_out`: rows that are evaluated and never trained. One of the three keys."""

    split: Text | None = None
    """A split of its own."""
    rows: PositiveInt | None = None
    """So many rows taken from the training split, by seed."""
    fraction: OpenShare | None = None
    """This share of the training split, by seed."""

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.split, self.rows, self.fraction)) != 1:
            raise ValueError("give exactly one of split, rows and fraction")


@dataclass(kw_only=True, frozen=True)
class EvaluationSetConfig:
    """An entry of `dataset.evaluate_on`: further rows that are evaluated, under a name of their own."""

    name: Text
    """As in the section `dataset`."""
    subset: Text | None = None
    split: Text = "train"
    revision: Text | None = None
    rows: PositiveInt | None = None
    """At most so many, the first ones."""


@dataclass(kw_only=True, frozen=True)
class DatasetConfig:
    """Section `dataset`: which rows to train on."""

    name: Text
    """A Hub name, a folder, or a path or glob of files (data/sources/files.py says which)."""
    subset: Text | None = None
    split: Text = "train"
    """Of a folder's files by name, or of the rows of a file by their column `split`; `train[:10%]` is a part."""
    revision: Text | None = None
    rows: PositiveInt | None = None
    """At most so many training rows, the first ones."""
    held_out: HeldOutConfig | None = None
    evaluate_on: dict[str, EvaluationSetConfig] = field(default_factory=dict)
    """Further held-out sets by name; figures of theirs begin with eval_NAME_."""

    def __post_init__(self) -> None:
        if wrong := next((n for n in self.evaluate_on if not n.isidentifier() or n in ("held_out", "train")), None):
            raise SettingError(
                "evaluate_on", f"evaluate_on: {wrong!r} can't be a set's name; use letters, digits and _, not held_out"
            )

    @property
    def evaluates(self) -> bool:
        """Whether anything is held out."""
        return self.held_out is not None or bool(self.evaluate_on)

    def refuse_missing(self) -> None:
        """Raises InputError where local files aren't there, or the Hub can't be asked for its own."""
        sections: dict[str, DatasetConfig | EvaluationSetConfig] = {"dataset": self}
        sections |= {f"dataset.evaluate_on.{name}": section for name, section in self.evaluate_on.items()}
        for where, section in sections.items():
            if is_local(section.name):
                find_files(FileQuery(path=section.name, subset=section.subset, split=section.split, where=where))
            else:
                refuse_unreachable(section.name, f"{where}.name", kind="dataset")


@dataclass(kw_only=True, frozen=True)
class ExamplesConfig(DatasetConfig):
    """Section `dataset`: which rows, and what happens to those that can't be trained as they stand."""

    over_length: Literal["cut", "drop", "refuse"] = "cut"
    """Rows longer than trainer.max_length lose their end, are left out, or end the run with a line."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """Rows that say no conversation or pair end the run with a line, or are left out and counted."""
    conversations: Literal["messages", "sharegpt"] = "messages"
    """sharegpt: messages are `{from, value}`, in the column `conversations` or `messages`."""
    roles: dict[str, str] = field(default_factory=dict)
    """Other names of roles and what they stand for, such as `developer: system`."""
    last_turn: Literal["refuse", "cut"] = "refuse"
    """What becomes of a last turn that isn't the assistant's: a bad row, or it is left off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.message_options()  # refuses roles that nothing knows

    def message_options(self) -> MessageOptions:
        """How the parser is to read messages."""
        return MessageOptions(conversations=self.conversations, roles=self.roles, last_turn=self.last_turn)


@dataclass(kw_only=True, frozen=True)
class RowCurriculumConfig:
    """Section `dataset.curriculum`: examples come from easy to hard, each once an epoch."""

    difficulty: Text = LENGTH
    """`length`: how many tokens of the example are trained; or the name of a column of numbers."""
    hardest: Literal["highest", "lowest"] = "highest"
    """Which numbers are hard; `lowest` for a column such as the share of right answers."""
    mix: ShareBelowOne = 0.0
    """This share of the examples comes anywhere in the epoch, so that easy ones keep coming; others in every epoch."""
    epochs: PositiveInt | None = None
    """So many epochs are ordered, later ones shuffled. Default: every epoch begins with what is easy again."""


@dataclass(kw_only=True, frozen=True)
class ConversationsConfig(ExamplesConfig):
    """Section `dataset` of sft.py: a column `messages`, columns `prompt` and `completion`, or plain text."""

    trained_turns: Literal["all", "last"] = "all"
    """Which answers of a conversation are trained; under `last`, everything before the last one is context."""
    history_thoughts: Literal["keep", "drop"] = "keep"
    """Whether earlier answers keep their <think>…</think>; asked turn by turn, a model often doesn't see them."""
    curriculum: RowCurriculumConfig | None = None
    """Order the examples by difficulty instead of shuffling them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.history_thoughts == "drop" and self.trained_turns == "all":
            raise ValueError(
                "history_thoughts: drop needs trained_turns: last, or earlier answers would be trained without thoughts"
            )


@dataclass(kw_only=True, frozen=True)
class PairsConfig(ExamplesConfig):
    """Section `dataset` of dpo.py: columns `chosen` and `rejected`, with or without `prompt`."""

    max_prompt_length: PositiveInt | None = None
    """Pairs whose prompt has more tokens are left out: half a question has no better answer."""


@dataclass(kw_only=True, frozen=True)
class PromptsConfig(DatasetConfig):
    """Section `dataset` of grpo.py: rows with `messages`, or with `prompt` (a text or messages) and an answer."""

    answer: Text | None = None
    """Column of the right answer. Default: what the last message says after its thought."""
    max_prompt_length: PositiveInt | None = None
    """Prompts of more tokens are left out and counted."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """Rows without a prompt or an answer are refused, or left out and counted."""
