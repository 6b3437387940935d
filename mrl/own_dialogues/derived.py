"""What is made of the dialogues that are learnt from: copies with other names, with two questions asked at once, with a
question for what was never told. Each sort is counted, for the log and the report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mrl.dialogues.abstention import abstains
from mrl.dialogues.dataset import Conversation
from mrl.own_dialogues.joining import joined_questions, with_joined_questions
from mrl.own_dialogues.renaming import renamed_copies
from mrl.own_dialogues.rows import asks_back
from mrl.own_dialogues.untold import Admission, admission_of, untold_copies

RENAMED, UNTOLD = "renamed.jsonl", "untold.jsonl"
WITH_OTHER_NAMES = "copies with other names"
JOINED = "questions for two facts, made of two questions in a row"


@dataclass(frozen=True)
class Derived:
    """Copies by the name of their file (none of them empty), how those that weren't told answer, and counts."""

    files: dict[str, list[Conversation]]
    admission: Admission
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def conversations(self) -> list[Conversation]:
        """All copies."""
        return [conversation for made in self.files.values() for conversation in made]

    @property
    def untold(self) -> str:
        """What copies answer where nothing was told, for a person; "" where there are no such copies."""
        return self.admission.told if UNTOLD in self.files else ""

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {"counts": dict(self.counts), "untold_answer": self.untold or None}


def derive(train: Sequence[Conversation], copies: int, untold: float, seed: int) -> Derived:
    """Copies of what is learnt from. copies: renamed ones of each dialogue; untold: how many copies with a question for
    what was never told for each dialogue and each renamed copy, 0 to 1. The same seed makes the same ones."""
    counts = Counter[str]()
    admission = admission_of(train)
    renamed = renamed_copies(train, copies, seed)
    counts[WITH_OTHER_NAMES] = len(renamed)
    made = {RENAMED: renamed, UNTOLD: untold_copies([*train, *renamed], admission, untold, seed, counts)}
    files = {name: with_joined_questions(given, seed) for name, given in made.items() if given}
    counts[JOINED] = sum(joined_questions(made[name], file) for name, file in files.items())
    return Derived(files, admission, counts)


def untold_to_measure(
    held_out: Sequence[Conversation], train: Sequence[Conversation], admission: Admission, seed: int
) -> list[Conversation]:
    """Copies of held-out dialogues with a question for what was never told: without them nothing would show whether
    that was learnt. None where the dialogues have such questions of their own."""
    if any(abstains(exchange.answer) and exchange.facts for c in held_out for exchange in c.exchanges):
        return []
    made = untold_copies(held_out, admission, 1.0, seed, language=train)
    return made if any(map(asks_back, made)) else []
