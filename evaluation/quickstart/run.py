"""Runs the commands of quickstart.yaml or tour.yaml, two at a time, and says what they show.

    uv run evaluation/quickstart/run.py                       # the quickstart, into outputs/quickstart
    uv run evaluation/quickstart/run.py --output-dir DIR --quick
    uv run evaluation/quickstart/run.py --config-path tour.yaml       # the longer stages, in the same folder

Every command's output goes to a log of its own below OUT/logs (the tour's: OUT/tour/logs); when one fails, the end of
its log is shown and the other command is stopped. commands.json says how long each took. What is there already is taken
up or done again as each script says.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.cores import usable_cores
from evaluation.quickstart.plan import AT_ONCE, LAST, Plan, Step
from evaluation.quickstart.progress import about, clock, shown_by_tour, shown_so_far
from evaluation.quickstart.starts import can_fork, load, start
from evaluation.reporting.reader import COMMANDS, STARTED, TOUR
from pipeline.artifact import write_json
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.run import exit_status, setup_logging

ROOT = Path(__file__).parents[2]
FIRST_WORD_AFTER = 120
"""Seconds after which is said what has been shown so far and what comes."""
FIGURES = ("metrics.json", "retention.json", "dataset_metadata.json")
"""Where training stages, evaluation/retention.py and blends leave what they measured."""
KEYS = ("command", "wall_s", "start_s")
"""Of an entry of commands.json."""


@dataclass
class Row:
    """A list of commands, worked off one after another."""

    name: str
    steps: list[Step]
    at: int = 0
    pid: int | None = None
    began: float = 0.0
    changed: bool = False
    """Whether a command of it has written something."""

    @property
    def ended(self) -> bool:
        return self.at == len(self.steps)

    def waits(self, over: set[str]) -> bool:
        """Whether its next command needs one that isn't over."""
        return not over.issuperset(self.steps[self.at].needs)


@dataclass
class Walk:
    """The quickstart under way."""

    folder: Path
    """$OUT of the commands."""
    notes: Path
    """Folder of the logs and of the times."""
    quick: bool
    fork: bool
    cores: int
    share: int
    """Threads of a command that isn't to have all cores."""
    began: float = field(default_factory=time.time)
    commands: list[dict[str, Any]] = field(default_factory=list)
    former: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Times of an earlier run by command: they stay those of what is not done again."""
    told: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    """What the commands that have ended do, or that were over already."""
    renewed: set[str] = field(default_factory=set)
    """Those of them that have written something."""
    expected: float = 0.0
    taken: float = 0.0
    """Of the commands that have ended: what was expected and what they took."""
    next_word: float = FIRST_WORD_AFTER
    """Seconds after which everything that has been shown is said again."""

    def say(self, text: str) -> None:
        """A line with the time since the start."""
        print(f"[{clock(time.time() - self.began):>5}] {text}", flush=True)

    @property
    def values(self) -> dict[str, str]:
        """What stands for a variable of a command."""
        return {"OUT": str(self.folder)}

    def skip(self, row: Row) -> None:
        """Pass the commands of a list that are over already."""
        while not (row.ended or row.changed or row.waits(self.over)):
            step = row.steps[row.at]
            if self.renewed.intersection(step.needs) or not step.finished(self.values):
                return
            command = shlex.join(step.words(self.values, self.quick))
            self.commands += [self.former[command]] if command in self.former else []
            self.over.add(step.does)
            row.at += 1

    def begin(self, row: Row) -> None:
        """Start the next command of a list."""
        step = row.steps[row.at]
        words = step.words(self.values, self.quick)
        number = f"{row.name} {row.at + 1}/{len(row.steps)}"
        when = "" if self.quick else f" ({about(step.seconds * self.pace())})"
        self.say(f"{number}: {step.does}{when}")
        row.began = time.time()
        threads = self.cores if step.cores == "all" or row.name == LAST else self.share
        row.pid = start(words, self.log(row), threads, self.fork)
        self.commands.append({"command": shlex.join(words), "wall_s": None, "start_s": None, "list": row.name})

    def pace(self) -> float:
        """How much longer commands take here than expected, by those that have ended."""
        return self.taken / self.expected if self.expected > 20 else 1.0

    def log(self, row: Row) -> Path | None:
        """Where the present command of a list writes; None: the report's, which names the page, to the terminal."""
        return None if row.name == LAST else self.notes / "logs" / f"{row.name}_{row.at + 1:02d}.log"

    def ended(self, row: Row) -> bool:
        """Whether the present command of a list is over. Raises InputError where it failed."""
        if row.pid is None:
            return False
        pid, status = os.waitpid(row.pid, os.WNOHANG)
        if not pid:
            return False
        row.pid, wall = None, time.time() - row.began
        entry = next(c for c in reversed(self.commands) if c.get("list") == row.name)
        entry |= {"wall_s": round(wall, 2), "start_s": start_seconds(entry["command"], row.began)}
        if code := os.waitstatus_to_exitcode(status):
            if log := self.log(row):
                print("\n".join(log.read_text("utf-8", errors="replace").splitlines()[-20:]), file=sys.stderr)
            raise InputError(f"{entry['command']} ended with status {code}; its output is {log or 'above'}")
        step = row.steps[row.at]
        if done := bool(step.leaves or wrote(entry["command"], row.began)):
            self.expected += step.seconds  # what had nothing to do says nothing of the pace
            self.taken += wall
        else:
            entry |= self.former.get(entry["command"], {})
        self.write_commands()
        row.changed |= done
        self.over.add(step.does)
        if done:
            self.renewed.add(step.does)
        row.at += 1
        return True

    def write_commands(self) -> None:
        """commands.json: wall seconds of every command so far, and those of its start where it says them."""
        write_json(self.notes / COMMANDS, {"commands": [{key: c[key] for key in KEYS} for c in self.commands]})

    def shown(self) -> list[str]:
        """What the figures in the folder show."""
        return shown_so_far(self.folder) if self.notes == self.folder else shown_by_tour(self.folder)

    def tell(self, rows: list[Row], everything: bool = False) -> None:
        """What is shown by now that wasn't before, or all of it with how long the rest takes."""
        shown = self.shown()
        new = shown if everything else [line for line in shown if line not in self.told]
        self.told.update(shown)
        if everything:
            left = rest(rows, self.over, time.time()) * self.pace()
            self.say(f"so far: {'; '.join(new) or 'data is made, models are being trained'}")
            coming = "; ".join(row.steps[row.at].does for row in rows if row.pid)
            self.say(f"under way: {coming}" + ("" if self.quick else f". Left: {about(left)}"))
        else:
            for line in new:
                self.say(f"→ {line}")


def read_commands(file: Path) -> dict[str, dict[str, Any]]:
    """Entries of a commands.json by their command; none where the file isn't there or can't be read."""
    try:
        return {
            entry["command"]: {key: entry[key] for key in KEYS} for entry in json.loads(file.read_bytes())["commands"]
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def due(rows: list[Row], over: set[str]) -> list[Row]:
    """The lists whose next command is to begin now, the first ones that wait for nothing."""
    free = AT_ONCE - sum(row.pid is not None for row in rows)
    return [row for row in rows if row.pid is None and not row.ended and not row.waits(over)][:free]


def rest(rows: list[Row], over: set[str], now: float) -> float:
    """Seconds on the reference machine until all lists have ended: what `work` will do, played through."""
    rows, over = [replace(row) for row in rows], set(over)
    ends = {row.name: row.steps[row.at].seconds - (now - row.began) for row in rows if row.pid is not None}
    elapsed = 0.0
    while True:
        for row in due(rows, over):
            row.pid, ends[row.name] = 0, elapsed + row.steps[row.at].seconds
        if not ends:
            return elapsed
        elapsed = max(elapsed, min(ends.values()))
        for row in rows:
            if ends.get(row.name, elapsed + 1) <= elapsed:
                del ends[row.name]
                over.add(row.steps[row.at].does)
                row.pid, row.at = None, row.at + 1


def wrote(command: str, began: float) -> list[Path]:
    """The figures that a command has written since it began."""
    words = shlex.split(command)
    if "--output-dir" not in words:
        return []
    folder = Path(words[words.index("--output-dir") + 1])
    return [file for name in FIGURES if (file := folder / name).is_file() and file.stat().st_mtime >= began]


def start_seconds(command: str, began: float) -> float | None:
    """Seconds in which the command loaded its libraries, as the figures that it has written say; None of lm_eval, which
    says nothing of it, and of the report, which ends with the page."""
    written = wrote(command, began)
    return json.loads(written[0].read_text("utf-8")).get("start_s") if written else None


def work(walk: Walk, rows: list[Row], modules: list[str]) -> None:
    """Work off the lists, AT_ONCE of them at a time."""
    to_load = list(modules) if walk.fork else []
    try:
        while True:
            for row in rows:
                if row.pid is None:
                    walk.skip(row)
            if all(row.ended for row in rows):
                return
            for row in due(rows, walk.over):
                walk.begin(row)
            if to_load:  # one at a time, while the first commands, which need none of it, are at work
                load(to_load.pop(0))
            time.sleep(0.1)
            ended = [walk.ended(row) for row in rows]  # of all of them, hence no generator
            if any(ended):
                walk.tell(rows)
            if time.time() - walk.began > walk.next_word and not all(row.ended for row in rows):
                walk.tell(rows, everything=True)
                walk.next_word *= 2
    finally:
        for row in rows:
            if row.pid is not None:
                os.kill(row.pid, signal.SIGTERM)
        for row in rows:
            if row.pid is not None:
                os.waitpid(row.pid, 0)


def refuse_unfinished(folder: Path) -> None:
    """Raises InputError where the folder holds no finished quickstart."""
    report, started = folder / "report.json", folder / STARTED
    if not (report.is_file() and started.is_file() and report.stat().st_mtime > started.stat().st_mtime):
        raise InputError(
            f"{folder} holds no finished quickstart (its report.json is missing or older than its start): "
            f"run `make quickstart OUT={folder}` first"
        )


def main(options: argparse.Namespace) -> None:
    """The lists, then the report."""
    plan = load_config(Plan, options.config_path)
    folder: Path = options.output_dir
    notes = folder / TOUR if plan.goes_on else folder
    if plan.goes_on:
        refuse_unfinished(folder)
    try:
        notes.mkdir(parents=True, exist_ok=True)
        if not plan.goes_on:
            (folder / STARTED).write_text(f"{int(time.time())}\n")
    except OSError as error:
        raise InputError(
            f"--output-dir: {notes} can't be written: {error.strerror}; choose another with OUT=DIR"
        ) from None
    here = usable_cores()
    former = read_commands(notes / COMMANDS)
    walk = Walk(folder, notes, options.quick, fork=can_fork(), cores=here, share=plan.share(here), former=former)
    rows = [Row(name, steps) for name, steps in plan.lists.items()]
    total = rest(rows, set(), now=0.0)
    if not options.quick:
        walk.say(f"{sum(len(row.steps) for row in rows) + len(plan.report)} commands, {about(total)} on two cores")
    work(walk, rows, plan.loaded_once)
    work(walk, [Row(LAST, plan.report)], [])


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=ROOT / "quickstart.yaml")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--quick", action="store_true", help="every step with a fraction of the data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("WARNING")
    with exit_status():
        main(chosen)
