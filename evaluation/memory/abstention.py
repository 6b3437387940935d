"""Does a model say so when it wasn't told, and only then? Shares of untold and of told questions, with intervals."""

from dataclasses import dataclass
from typing import Any

from evaluation.metrics import interval
from mrl.dialogues.abstention import abstains


@dataclass
class AbstentionTally:
    """Counts over answered questions.

    untold: questions whose reference answer abstains, and how many the model abstained at; told: questions with facts,
    how many were answered with all of them, and how many were abstained at.
    """

    untold: int = 0
    untold_abstained: int = 0
    told: int = 0
    told_recalled: int = 0
    told_abstained: int = 0

    def add(self, answer: str, *, untold: bool, recalled: bool = False) -> None:
        """Take in one answer; recalled: whether it says all facts of a told question."""
        if untold:
            self.untold += 1
            self.untold_abstained += abstains(answer)
        else:
            self.told += 1
            self.told_recalled += recalled
            self.told_abstained += abstains(answer)

    def figures(self) -> dict[str, Any]:
        """Shares, with how many questions they are of: untold answered so, told recalled, told abstained at."""
        shares = {
            "untold": (self.untold_abstained, self.untold),
            "told": (self.told_recalled, self.told),
            "told_abstained": (self.told_abstained, self.told),
        }
        figures: dict[str, Any] = {name: round(part / whole, 4) for name, (part, whole) in shares.items() if whole}
        intervals = {name: interval(part, whole) for name, (part, whole) in shares.items() if whole}
        return figures | {"n": {"untold": self.untold, "told": self.told}, "intervals": intervals}
