"""Where a run stands, and what it says of that: parts of every checkpoint, lines of metrics.jsonl, the tracker's
curves, the progress bar's figures."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from pipeline.run import Run, is_main_process

logger = logging.getLogger(__name__)
Means = Callable[[Mapping[str, float]], dict[str, float]]
"""From sums over steps to the means that are shown."""


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


class MetricsLog:
    """Gathers sums over steps in `state.window` and writes their means."""

    def __init__(self, run: Run, accelerator: Accelerator, state: LoopState) -> None:
        self.run, self.accelerator, self.state = run, accelerator, state
        self.shown: Mapping[str, float] = {}
        """Beside the progress bar."""

    def add(self, totals: Mapping[str, float]) -> None:
        """Take in the sums of one step over all its rows."""
        window = self.state.window
        for name, value in {**totals, "steps": 1.0}.items():
            window[name] = window.get(name, 0.0) + value

    def write(self, means: Means, more: Mapping[str, float]) -> None:
        """Figures over the steps since the last time, if there were any."""
        sums, self.state.window = self.state.window, {}
        if not sums:
            return
        metrics = {"loss": sums["loss"] / sums["steps"], **means(sums), **more}
        self.shown = {"loss": metrics["loss"], **{k: v for k, v in metrics.items() if k in ("recall", "ar_accuracy")}}
        self.record(metrics)

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Figures of the present step."""
        self.run.log(step=self.state.done, **metrics)
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        self.accelerator.log(numbers, step=self.state.done)

    def record_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows to look at: to samples.jsonl and, as a table, to wandb where that is on. On the main process alone."""
        if not rows or not is_main_process():
            return
        with (self.run.dir / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": self.state.done, **row}) + "\n" for row in rows)
        for tracker in self.accelerator.trackers:
            if tracker.name == "wandb":
                columns = list(rows[0])
                table = [[row[column] for column in columns] for row in rows]
                tracker.log_table("samples", columns, table, step=self.state.done)

    def record_evaluation(self, metrics: Mapping[str, Any]) -> None:
        """Held-out figures of the present step."""
        self.record({f"eval_{k}": v for k, v in metrics.items()})
        shown = " ".join(f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float))
        logger.info("step %d: held out: %s", self.state.done, shown)


def mean(sums: Mapping[str, float | Tensor], name: str, count: str) -> float:
    """sums[name] / sums[count]; 0 where nothing was counted."""
    return float(sums.get(name, 0.0)) / max(1.0, float(sums.get(count, 0.0)))


__all__ = ["Best", "LoopState", "Means", "MetricsLog", "mean"]
