"""The quickstart's commands as quickstart.yaml lists them."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from pipeline.errors import InputError
from pipeline.ranges import PositiveFloat, Text

LAST = "report"


@dataclass(kw_only=True, frozen=True)
class Step:
    """One command."""

    does: Text
    """What people are told."""
    command: Text
    seconds: PositiveFloat
    """About what it takes on one core."""
    quick: str = ""
    """Options of the shortened form."""

    def words(self, values: Mapping[str, str], quick: bool) -> list[str]:
        """The command's words, `$OUT` and the like replaced. Raises InputError where it is none that people could
        type."""
        try:
            words = [Template(word).substitute(values) for word in shlex.split(self.command)]
        except (ValueError, KeyError) as error:
            raise InputError(f"command: {self.command[:80]}: {error}") from None
        if words[:2] != ["uv", "run"] or len(words) < 3:
            raise InputError(f"command: {self.command[:80]} should begin with `uv run SCRIPT`")
        return [*words, *(shlex.split(self.quick) if quick else [])]


@dataclass(kw_only=True, frozen=True)
class Plan:
    """quickstart.yaml."""

    reasoning: list[Step]
    memory: list[Step]
    report: list[Step]
    loaded_once: list[Text] = field(default_factory=list)
    """Modules that commands share where a process can hand on what it has loaded."""

    @property
    def lists(self) -> dict[str, list[Step]]:
        """Those that are worked off at the same time."""
        return {"reasoning": self.reasoning, "memory": self.memory}
