"""Lists of commands, as quickstart.yaml and tour.yaml hold them."""

import glob
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Literal

from pipeline.errors import InputError, SettingError, nearest
from pipeline.ranges import PositiveFloat, Text

LAST = "report"
AT_ONCE = 2
"""Commands that are at work at the same time, each of another list."""


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
    needs: list[Text] = field(default_factory=list)
    """Commands of other lists, by what they do, that have to be over before it begins."""
    cores: Literal["share", "all"] = "share"
    """Threads it may use: its share of the cores, or all of them, for a command beside which nothing much is left.
    Either is the same in every run: figures are not to depend on which command happened to end first."""

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
    """Each is worked off in its order, one command at a time; `AT_ONCE` of them at the same time, the first ones of
    those that wait for nothing. A list needs nothing from another but what a command's `needs` says."""
    report: list[Step]
    """Comes last."""
    loaded_once: list[Text] = field(default_factory=list)
    """Modules that commands share where a process can hand on what it has loaded."""
    goes_on: bool = False
    """Whether it needs the folder of a finished quickstart; logs and times lie in its folder tour/ then."""

    def __post_init__(self) -> None:
        """Refuse needs that no command meets, or that are met after what needs them."""
        steps = {f"lists.{name}[{n}]": step for name, steps in self.lists.items() for n, step in enumerate(steps)}
        named = Counter(step.does for step in steps.values())
        for place, step in steps.items():
            for need in step.needs:
                if named[need] != 1:
                    why = "stands for several commands" if named[need] else f"is no command{nearest(need, named)}"
                    raise SettingError(f"{place}.needs", f"{place}.needs: {need!r} {why}")
        self._refuse_circles()

    def _refuse_circles(self) -> None:
        over: set[str] = set()
        left = {name: list(steps) for name, steps in self.lists.items()}
        while ready := [name for name, steps in left.items() if steps and over.issuperset(steps[0].needs)]:
            for name in ready:
                over.add(left[name].pop(0).does)
        for name, steps in left.items():
            if steps:
                place = f"lists.{name}[{len(self.lists[name]) - len(steps)}].needs"
                raise SettingError(place, f"{place}: {steps[0].does!r} would wait for what comes after it")

    def share(self, cores: int) -> int:
        """Threads of a command on a machine of so many cores."""
        return max(1, cores // min(AT_ONCE, len(self.lists)))
