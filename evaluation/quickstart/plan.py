"""Lists of commands, as quickstart.yaml and tour.yaml hold them."""

import glob
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from pipeline.errors import InputError
from pipeline.ranges import PositiveFloat, Text

LAST = "report"
AT_ONCE = 2
"""Lists that are worked off at the same time."""


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
    leaves: str = ""
    """The file that it leaves (`*` may stand for a part of its name), for a script that doesn't know itself whether it
    has finished: where the file is there and no command before it in its list did anything, it isn't run again."""

    def finished(self, values: Mapping[str, str]) -> bool:
        """Whether the file that it leaves is there."""
        return bool(self.leaves and glob.glob(self._filled(self.leaves, values)))

    def words(self, values: Mapping[str, str], quick: bool) -> list[str]:
        """The command's words, `$OUT` and the like replaced. Raises InputError where it is none that people could
        type."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"command: {self.command[:80]}: {error}") from None
        words = [self._filled(word, values) for word in words]
        if words[:2] != ["uv", "run"] or len(words) < 3:
            raise InputError(f"command: {self.command[:80]} should begin with `uv run SCRIPT`")
        return [*words, *(shlex.split(self.quick) if quick else [])]

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        try:
            return Template(text).substitute(values)
        except (ValueError, KeyError) as error:
            raise InputError(f"command: {self.command[:80]}: {error}") from None


@dataclass(kw_only=True, frozen=True)
class Plan:
    """A file of commands."""

    lists: dict[str, list[Step]]
    """They need nothing from each other and are worked off `AT_ONCE` at a time, in their order."""
    report: list[Step]
    """Comes last."""
    loaded_once: list[Text] = field(default_factory=list)
    """Modules that commands share where a process can hand on what it has loaded."""
    goes_on: bool = False
    """Whether it needs the folder of a finished quickstart; logs and times lie in its folder tour/ then."""
