"""Where a run stands: the parts of every checkpoint beside weights, optimizer and what a script adds."""

from dataclasses import dataclass, field
from typing import Any


class _Fields:
    """A dataclass whose fields are its state."""

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


@dataclass
class LoopState(_Fields):
    """How far the loop has come."""

    done: int = 0
    """Optimizer steps."""
    tokens: int = 0
    """Real tokens of their batches."""
    seconds: float = 0.0
    """Since the run was started, without the times between a kill and the next start."""
    elsewhere: float = 0.0
    """Of these, spent on evaluations and checkpoints."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums over the steps since the last line of metrics.jsonl."""
    stopped: bool = False
    """Whether what was aimed at is reached."""
    precision: str | None = None
    """The number format that was chosen; None before the first batch."""


@dataclass
class Best(_Fields):
    """The best evaluation so far."""

    value: float | None = None
    step: int = 0
    bad: int = 0
    """Evaluations since."""

    def observe(self, value: float, step: int) -> bool:
        """Take in an evaluation; True where it is the best so far."""
        if self.value is None or value > self.value:
            self.value, self.step, self.bad = value, step, 0
            return True
        self.bad += 1
        return False


__all__ = ["Best", "LoopState"]
