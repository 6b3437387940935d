"""What it means to run a stage: parse, refuse, open the folder, log, measure, leave facts behind.

A stage leaves `config.json` (resolved), `metrics.jsonl` (a line a step) and `metrics.json` (figures, written at the
end; while it runs, that it does). `evaluation/report.py` reads those; no stage knows the report.
"""

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dotenv import find_dotenv, load_dotenv

from pipeline.artifact import finite, remove_partial, write_json, write_text, writing
from pipeline.config import config_hash, load_config, place_error, to_dict
from pipeline.errors import InputError
from pipeline.exits import exit_status
from pipeline.folder_lock import FolderLock
from pipeline.hub import keep_wandb_offline_if_unreachable
from pipeline.progress import ProgressBar, is_main_process, progress_bar
from pipeline.provenance import git_commit, peak_memory_mb, process_seconds, versions
from pipeline.redaction import RedactingFormatter, redact

logger = logging.getLogger(__name__)
METRICS, METRICS_LINES = "metrics.json", "metrics.jsonl"

__all__ = [
    "Run",
    "exit_status",
    "is_main_process",
    "open_run",
    "peak_memory_mb",
    "progress_bar",
    "seed_everything",
    "setup_logging",
    "stage_main",
]


def setup_logging(level: str = "INFO") -> None:
    """Log lines on stderr, without secrets; ranks above 0 only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level if is_main_process() else "WARNING", handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "urllib3", "filelock", "fsspec", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def seed_everything(seed: int) -> None:
    """Seed `random`, and numpy and torch if the stage has imported them."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


class Run:
    """One execution of a stage: its folder, its seed, its facts.

    `open` takes the folder, `begin` (or the first line that is logged) writes into it, `close` ends it. A start that is
    refused in between leaves the folder as it was, with the figures of an earlier run.
    """

    def __init__(self, config: Any, *, stage: str, output_dir: Path, seed: int) -> None:
        self.config, self.stage, self.dir, self.seed = config, stage, output_dir, seed
        self.config_hash = config_hash(config)
        """Of the configuration as it was read: what config.json, metrics.json and every manifest bear."""
        self.facts: dict[str, Any] = {}
        self.started = time.monotonic()
        self.seconds_before = 0.0
        """Time of the earlier pieces of a run that goes on from a checkpoint, up to that checkpoint."""
        self._begun = False
        self._torch_is_seeded = False
        self._previews: list[str] = []
        self._lock: FolderLock | None = None
        self._made: list[Path] = []

    def open(self) -> None:
        """Make the folder, take it for this run alone, clear away what a killed run left, seed everything.

        Raises InputError where the folder can't be written, is in use or belongs to something else.
        """
        refuse_foreign_folder(self.dir, self.stage)
        self._made = [p for p in [self.dir, *self.dir.absolute().parents] if not p.exists()]
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            if is_main_process():
                self._lock = FolderLock(self.dir)
                remove_partial(self.dir)
        except OSError as error:
            raise InputError(
                f"output_dir: {self.dir} can't be written: {error.strerror}; choose another folder"
            ) from None
        seed_everything(self.seed)
        self._torch_is_seeded = "torch" in sys.modules
        logger.info("%s: seed %d, configuration %s, folder %s", self.stage, self.seed, self.config_hash, self.dir)

    @contextmanager
    def loading(self) -> Generator[None]:
        """Around the import of what a stage works with: torch and its kin take seconds to load, so a script imports
        them in its `main`, when all that can be refused without them has been. Seeds them."""
        yield
        seed_everything(self.seed)
        self._torch_is_seeded = "torch" in sys.modules
        self.report(start_s=round(process_seconds(), 2))

    def begin(self) -> None:
        """Write config.json and who is at work: everything that could be refused has been. Does nothing the second
        time, and is called by the first `log` or `forget_after`."""
        if self._begun or not is_main_process():
            return
        if "torch" in sys.modules and not self._torch_is_seeded:
            raise RuntimeError("torch was imported after the seed was set; import it in `with run.loading():`")
        self._begun = True
        self.seconds_before = _last_elapsed(self.dir / METRICS_LINES)
        write_json(self.dir / "config.json", redact(to_dict(self.config)))
        self._write_metrics("running")
        self._write_previews()

    @property
    def resume(self) -> bool:
        """Whether the configuration allows to continue from a checkpoint (`resume: auto`, the default)."""
        return getattr(self.config, "resume", "auto") == "auto"

    @property
    def elapsed(self) -> float:
        """Seconds of this run, earlier pieces included."""
        return self.seconds_before + time.monotonic() - self.started

    def log(self, *, step: int, **numbers: Any) -> None:
        """Append one line to metrics.jsonl (rank 0 only). A number that isn't finite becomes null and is listed under
        `not_finite`."""
        if is_main_process():
            self.begin()
            line = {"step": step, "elapsed_s": round(self.elapsed, 3), **_with_odd_names(redact(numbers))}
            path = self.dir / METRICS_LINES
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")

    def forget_after(self, step: int) -> None:
        """On resume: drop the lines that the killed run logged after the checkpoint it left, and what is no line of
        figures; the run begins."""
        path = self.dir / METRICS_LINES
        if not is_main_process():
            return
        if path.exists():
            lines = path.read_text("utf-8", errors="replace").splitlines()
            kept = [line for line in lines if (figures := _figures_of(line)) and figures["step"] <= step]
            if len(kept) < len(lines):
                write_text(path, "".join(line + "\n" for line in kept))
        self.begin()

    def report(self, **facts: Any) -> None:
        """Keep figures for metrics.json, which is written when the stage ends."""
        self.facts.update(facts)

    def progress(self, iterable: Iterable[Any] | None = None, **keywords: Any) -> ProgressBar[Any]:
        """`progress_bar` with the stage's name as its default description."""
        keywords.setdefault("desc", self.stage)
        return progress_bar(iterable, **keywords)

    def preview(self, text: str) -> None:
        """Show a sample to the person at the terminal, and keep this run's samples in preview.txt."""
        if is_main_process():
            logger.info("sample:\n%s", text)
            self._previews.append(text)
            if self._begun:
                self._write_previews()

    def _write_previews(self) -> None:
        if self._previews:
            write_text(self.dir / "preview.txt", redact("\n".join([*self._previews, ""])))

    def callback(self) -> Any:
        """A transformers TrainerCallback that sends what the Trainer logs to `log`."""
        from transformers import TrainerCallback  # here, so that a data build starts without torch

        run = self

        class LogToRun(TrainerCallback):
            def on_log(self, args, state, control, logs=None, **kwargs):
                numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
                if state.is_world_process_zero and numbers:
                    run.log(step=state.global_step, **numbers)

        return LogToRun()

    def close(self, status: str) -> None:
        """Write metrics.json: the reported figures and where they come from; give the folder free.

        A run that was refused before it began writes nothing and takes away the folders that it made.
        """
        try:
            if status == "complete" and config_hash(self.config) != self.config_hash:
                raise RuntimeError(
                    "the configuration was changed after it was written; copy it with dataclasses.replace"
                )
            if status == "complete":
                self.begin()
            if self._begun:
                self._write_metrics(status)
        finally:
            if self._lock is not None:
                self._lock.release()
            for folder in [] if self._begun else self._made:
                with suppress(OSError):  # not empty: another process writes there
                    folder.rmdir()

    def _write_metrics(self, status: str) -> None:
        facts = {
            "stage": self.stage,
            "status": status,
            "wall_s": round(self.elapsed, 2),
            "peak_mb": round(peak_memory_mb(), 1),
            **self.facts,
            "seed": self.seed,
            "config_hash": self.config_hash,
            "git_commit": git_commit(),
            "versions": versions(),
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            facts["peak_accelerator_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
        write_json(self.dir / METRICS, _with_odd_names(redact(facts)))


def refuse_foreign_folder(folder: Path, stage: str) -> None:
    """Raise InputError where a run would overwrite another stage's results, a dataset, a model or a source tree."""
    held = None
    if folder.exists() and not folder.is_dir():
        held = "is a file"
    elif (folder / ".git").exists():
        held = "is a source tree"
    elif (folder / "dataset_metadata.json").exists():
        held = "holds a dataset"
    elif "model_type" in (_read_object(folder / "config.json") or {}):
        held = "holds a model"
    else:
        other = (_read_object(folder / METRICS) or {}).get("stage", stage)
        held = f"holds a run of {other}" if other != stage else None
    if held:
        raise InputError(f"output_dir: {folder} {held}; choose another folder")


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _figures_of(line: str) -> dict[str, Any] | None:
    """The figures in a line of metrics.jsonl; None where a kill cut it in two or it is something else."""
    try:
        figures = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return figures if isinstance(figures, dict) and isinstance(figures.get("step"), int | float) else None


def _last_elapsed(path: Path) -> float:
    """Seconds at the last line that an earlier piece of the run logged; 0 where there is none."""
    if not path.exists():
        return 0.0
    figures = [found for line in path.read_text("utf-8", errors="replace").splitlines() if (found := _figures_of(line))]
    elapsed = figures[-1].get("elapsed_s") if figures else None
    return float(elapsed) if isinstance(elapsed, int | float) else 0.0


def _with_odd_names(figures: dict[str, Any]) -> dict[str, Any]:
    """JSON-able figures, with the names of those that are no finite number under `not_finite`."""
    clean = finite(figures)
    odd = [name for name, value in figures.items() if clean[name] != value]
    return {**clean, "not_finite": odd} if odd else clean


@contextmanager
def open_run(config: Any, *, stage: str, output_dir: Path, seed: int) -> Generator[Run]:
    """Open a `Run` and close it with status complete, interrupted or failed."""
    run = Run(config, stage=stage, output_dir=output_dir, seed=seed)
    try:
        run.open()
        yield run
    except BaseException as error:
        try:
            run.close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        except OSError as second:  # the disk that stopped the run; what it said first is what counts
            logger.error("%s can't be written: %s", run.dir / METRICS, second.strerror)
        raise
    run.close("complete")


def stage_main(
    config_cls: type[Any],
    main: Callable[[Any, Run], None],
    *,
    default_config: Path | None = None,
    description: str | None = None,
    shorthand: Mapping[str, str] | None = None,
) -> None:
    """Entry point of a stage script: options, strict YAML, an open run, the exit status. Doesn't return.

    `config_cls` has `output_dir: Path` and `seed: int`; the stage is named after the script. `shorthand`: options of
    this script alone that stand for a key ("--from": "model.name"). Exit status 0 done, 2 bad input (one line), 1 a
    full disk or memory (one line), 130 or 143 interrupted; anything else is a bug.
    """
    stage = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=default_config, required=default_config is None)
    parser.add_argument("--output-dir", help="instead of output_dir in the YAML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key, dotted")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    for option, key in (shorthand or {}).items():
        parser.add_argument(option, dest=key, metavar="VALUE", help=f"instead of {key} in the YAML")
    options = parser.parse_args()
    load_dotenv(find_dotenv(usecwd=True))
    setup_logging(options.log_level)
    keep_wandb_offline_if_unreachable()
    told = {"output_dir": options.output_dir, **{key: getattr(options, key) for key in (shorthand or {}).values()}}
    elsewhere = [f"{key}={json.dumps(value)}" for key, value in told.items() if value is not None]
    with exit_status():
        config = load_config(config_cls, options.config_path, [*options.set, *elsewhere])
        try:
            with open_run(config, stage=stage, output_dir=config.output_dir, seed=config.seed) as run:
                main(config, run)
        except InputError as error:
            raise place_error(config, error) from None
    sys.exit(0)
