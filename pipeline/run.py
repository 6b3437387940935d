"""What it means to run a stage: parse, refuse, open the folder, log, measure, leave facts behind.

A stage leaves `config.json` (resolved), `metrics.jsonl` (a line a step) and `metrics.json` (figures, written at the
end). `evaluation/report.py` reads those; no stage knows the report.
"""

import argparse
import errno
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dotenv import find_dotenv, load_dotenv

from pipeline.artifact import write_json
from pipeline.config import config_hash, load_config, place_error, to_dict
from pipeline.errors import InputError
from pipeline.progress import ProgressBar, is_main_process, progress_bar
from pipeline.provenance import git_commit, peak_memory_mb, versions
from pipeline.redaction import RedactingFormatter, redact

logger = logging.getLogger(__name__)

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
    """One execution of a stage: its folder, its seed, its facts."""

    def __init__(self, config: Any, *, stage: str, output_dir: Path, seed: int) -> None:
        self.config, self.stage, self.dir, self.seed = config, stage, output_dir, seed
        self.facts: dict[str, Any] = {}
        self.started = time.monotonic()

    def open(self) -> None:
        """Make the folder, write the resolved configuration, seed everything."""
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"output_dir: {self.dir} can't be written: {error.strerror}; choose another folder"
            ) from None
        if not os.access(self.dir, os.W_OK):
            raise InputError(f"output_dir: {self.dir} can't be written; choose another folder")
        if is_main_process():
            write_json(self.dir / "config.json", redact(to_dict(self.config)))
        seed_everything(self.seed)
        logger.info(
            "%s: seed %d, configuration %s, folder %s", self.stage, self.seed, config_hash(self.config), self.dir
        )

    @property
    def resume(self) -> bool:
        """Whether the configuration allows to continue from a checkpoint (`resume: auto`, the default)."""
        return getattr(self.config, "resume", "auto") == "auto"

    def log(self, *, step: int, **numbers: Any) -> None:
        """Append one line to metrics.jsonl (rank 0 only)."""
        if is_main_process():
            line = json.dumps({"step": step, "elapsed_s": round(time.monotonic() - self.started, 3), **redact(numbers)})
            with (self.dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def forget_after(self, step: int) -> None:
        """On resume: drop the lines that the killed run logged after the checkpoint it left."""
        path = self.dir / "metrics.jsonl"
        if is_main_process() and path.exists():
            kept = []
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except ValueError:
                    continue  # the kill cut this line in two
            path.write_text("".join(kept), encoding="utf-8")

    def report(self, **facts: Any) -> None:
        """Keep figures for metrics.json, which is written when the stage ends."""
        self.facts.update(facts)

    def progress(self, iterable: Iterable[Any] | None = None, **keywords: Any) -> ProgressBar[Any]:
        """`progress_bar` with the stage's name as its default description."""
        keywords.setdefault("desc", self.stage)
        return progress_bar(iterable, **keywords)

    def preview(self, text: str) -> None:
        """Show a sample to the person at the terminal, and keep it in preview.txt."""
        if is_main_process():
            with (self.dir / "preview.txt").open("a", encoding="utf-8") as file:
                file.write(text + "\n")
            logger.info("sample:\n%s", text)

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
        """Write metrics.json: the reported figures and where they come from."""
        if not is_main_process() or not self.dir.is_dir():
            return
        facts = {
            "stage": self.stage,
            "status": status,
            "wall_s": round(time.monotonic() - self.started, 2),
            "peak_mb": round(peak_memory_mb(), 1),
            **self.facts,
            "seed": self.seed,
            "config_hash": config_hash(self.config),
            "git_commit": git_commit(),
            "versions": versions(),
        }
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            facts["peak_accelerator_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
        write_json(self.dir / "metrics.json", redact(facts))


@contextmanager
def open_run(config: Any, *, stage: str, output_dir: Path, seed: int) -> Generator[Run]:
    """Open a `Run` and close it with status complete, interrupted or failed."""
    run = Run(config, stage=stage, output_dir=output_dir, seed=seed)
    run.open()
    try:
        yield run
    except BaseException as error:
        run.close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    run.close("complete")


def stage_main(
    config_cls: type[Any],
    main: Callable[[Any, Run], None],
    *,
    default_config: Path | None = None,
    description: str | None = None,
) -> None:
    """Entry point of a stage script: options, strict YAML, an open run, the exit status. Doesn't return.

    `config_cls` has `output_dir: Path` and `seed: int`; the stage is named after the script. Exit status 0 done,
    2 bad input (one line), 1 a full disk or memory (one line), 130 interrupted; anything else is a bug's traceback.
    """
    stage = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=default_config, required=default_config is None)
    parser.add_argument("--output-dir", type=Path, help="instead of output_dir in the YAML")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key, dotted")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args()
    load_dotenv(find_dotenv(usecwd=True))
    setup_logging(options.log_level)
    overrides = [*options.set, *([f"output_dir={json.dumps(str(options.output_dir))}"] if options.output_dir else [])]
    with exit_status():
        config = load_config(config_cls, options.config_path, overrides)
        try:
            with open_run(config, stage=stage, output_dir=config.output_dir, seed=config.seed) as run:
                main(config, run)
        except InputError as error:
            raise place_error(config, error) from None
    sys.exit(0)


@contextmanager
def exit_status() -> Generator[None]:
    """Turn what a person can mend into one line on stderr and an exit status."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}".replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: the disk is full ({error.filename}); earlier checkpoints are untouched", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print(
            "error: out of accelerator memory; halve the per-device batch size and double the accumulation steps",
            file=sys.stderr,
        )
        sys.exit(1)
