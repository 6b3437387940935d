"""Reads what runs left on disk: stage folders, lm_eval output folders, retention figures. Computes nothing new.

A stage folder has `metrics.json` and perhaps `metrics.jsonl` (pipeline.run); an lm_eval output folder has
`results_*.json` and perhaps `samples_*.jsonl`; a retention file is any other JSON with a `recall` or `latency` table.
Of a folder with a `study.json` that file alone counts: it has the figures of all runs below it.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

logger = logging.getLogger(__name__)

STUDY = "study.json"
OURS = ("report.json", "config.json", "manifest.json")  # never a source of figures
PREPARATIONS = ("tokenizer", "initialise")  # scripts that leave a metrics.json and train nothing
PATIENCE = 2_000_000  # bytes; a JSON above this is data or a tokenizer, not a retention table


@dataclass(frozen=True)
class Figure:
    """One measured number; `stderr` None where the harness gives none, `n` of `total` items it rests on."""

    value: float
    stderr: float | None = None
    n: int | None = None
    total: int | None = None


@dataclass
class Stage:
    """One training run: its metrics.json, its metrics.jsonl (a dict a line)."""

    name: str
    facts: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    written: float = 0.0  # seconds since the epoch

    @property
    def order(self) -> tuple[Any, ...]:
        """stage_1 to stage_3 by number, then those in folders of their own (mrl/...) in the order they were run."""
        depth = self.name.count("/")
        return (depth, self.written if depth else 0.0, natural(self.name))


@dataclass
class Evaluation:
    """What lm_eval measured on one model; a task evaluated twice stands with its newest figures."""

    label: str
    model: str = ""
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)  # task or group -> "metric,filter" -> figure
    groups: set[str] = field(default_factory=set)
    shots: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class Findings:
    """Everything found under the folders of one report."""

    stages: dict[str, Stage] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    retention: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)
    started_at: float | None = None
    newest: float = 0.0
    files: list[Path] = field(default_factory=list)
    labels: dict[Path, str] = field(default_factory=dict)  # folder of an lm_eval output -> label


def natural(text: str) -> list[Any]:
    """Sort key: stage_2 before stage_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def read(paths: Iterable[Path], samples_per_task: int = 40) -> Findings:
    """Read every folder or file in `paths`. InputError where one is missing or nothing at all was found."""
    found = Findings()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; name folders that a stage, lm_eval or retention.py has written")
        for file in _candidates(path):
            _read_file(file, path if path.is_dir() else path.parent, found, samples_per_task)
    if not found.files:
        names = ", ".join(str(p) for p in paths)
        raise InputError(f"{names}: no metrics.json, results_*.json or retention figures in there; run a stage first")
    found.stages = dict(sorted(found.stages.items(), key=lambda item: item[1].order))
    found.evaluations = {name: found.evaluations[name] for name in sorted(found.evaluations, key=natural)}
    return found


def _candidates(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    files = sorted(path.rglob("*"))
    studies = {file.parent for file in files if file.name == STUDY}
    for file in files:
        folders = file.relative_to(path).parts[:-1]
        if file.name != STUDY and studies & {*file.parents}:
            continue
        # Checkpoints carry a tokenizer and a trainer's state, never a figure of ours; partial folders aren't whole.
        # Other hidden folders count: lm_eval makes one of a model path that begins with a dot.
        skipped = any(f.startswith("checkpoint-") or f.endswith((".partial", ".replaced")) for f in folders)
        if file.is_file() and not skipped:
            yield file


def _read_file(file: Path, root: Path, found: Findings, samples_per_task: int) -> None:
    name = file.name
    if name == "started_at":
        found.started_at = _number(file.read_text(encoding="utf-8").strip(), file)
        return
    if name == "metrics.json":
        facts = _json(file)
        if facts.get("stage") in PREPARATIONS:
            return
        stage = _stage_name(file, root)
        found.stages[stage] = Stage(stage, facts, _lines(file.with_suffix(".jsonl")), file.stat().st_mtime)
    elif re.fullmatch(r"results_\d.*\.json", name):
        _add_results(file, _json(file), root, found)
    elif re.fullmatch(r"samples_.+_\d{4}-\d\d-\d\dT.*\.jsonl", name):
        _add_samples(file, found, samples_per_task)
        return  # the results file beside it stands for both
    elif name == STUDY:
        found.study = _json(file)
        found.files.append(file)
        return  # it is no part of the stages' wall time
    elif file.suffix == ".json" and name not in OURS and file.stat().st_size < PATIENCE:
        facts = _json(file, quiet=True)
        if not any(isinstance(facts.get(key), dict) for key in ("recall", "latency")):
            return
        merge(found.retention, facts)
    else:
        return
    found.files.append(file)
    found.newest = max(found.newest, file.stat().st_mtime)


def _number(text: str, file: Path) -> float | None:
    try:
        return float(text)
    except ValueError:
        logger.warning("%s: %r is not a time in seconds; ignored", file, text)
        return None


def _json(file: Path, quiet: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if not quiet:
            logger.warning("%s can't be read (%s); left out of the report", file, error)
        return {}
    return value if isinstance(value, dict) else {}


def _lines(file: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """JSON lines; one that a kill cut in two is skipped."""
    rows: list[dict[str, Any]] = []
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if limit is not None and len(rows) >= limit:
                    break
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    logger.warning("%s: a broken line was skipped", file)
    return [row for row in rows if isinstance(row, dict)]


def _stage_name(file: Path, root: Path) -> str:
    """`stage_1`, `mrl/pretrain`: the folder below the one that was named, or its own name."""
    inside = file.parent.relative_to(root).as_posix()
    return root.resolve().name if inside == "." else inside


def _label(file: Path, root: Path, model: str) -> str:
    """What to call the model: the folder after `lm_eval/` where there is one, else the last part of its name."""
    parts = (root.resolve().name, *file.parent.relative_to(root).parts)
    if "lm_eval" in parts[:-1]:
        return parts[parts.index("lm_eval") + 1]
    return Path(model).name or parts[-1]


def _add_results(file: Path, results: dict[str, Any], root: Path, found: Findings) -> None:
    model = str(results.get("model_name") or "")
    label = found.labels[file.parent] = _label(file, root, model)
    evaluation = found.evaluations.setdefault(label, Evaluation(label))
    evaluation.model = model
    sizes = results.get("n-samples", {})
    for task, metrics in results.get("results", {}).items():
        size = sizes.get(task, {})
        members = [sizes[leaf] for leaf in _leaves(task, results.get("group_subtasks", {})) if leaf in sizes]
        total = size.get("original") or sum(member["original"] for member in members) or None
        figures: dict[str, Figure] = {}
        for key, value in metrics.items():
            metric, comma, rest = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            stderr = metrics.get(f"{metric}_stderr,{rest}")
            stderr = float(stderr) if isinstance(stderr, int | float) else None
            figures[key] = Figure(float(value), stderr, metrics.get("sample_len"), total)
        if figures:
            evaluation.figures[task] = figures  # sorted paths: the newest of several runs comes last
    evaluation.groups.update(results.get("groups", {}))
    evaluation.shots.update(results.get("n-shot", {}))


def _leaves(task: str, members: dict[str, list[str]]) -> list[str]:
    below = members.get(task) or []
    return [leaf for member in below for leaf in _leaves(member, members)] or [task]


def _add_samples(file: Path, found: Findings, limit: int) -> None:
    # `results_` sorts before `samples_`, so the label is known; without results the samples belong to nothing.
    if label := found.labels.get(file.parent):
        task = re.sub(r"^samples_|_\d{4}-\d\d-\d\dT.*$", "", file.name)
        found.evaluations[label].samples[task] = _lines(file, limit)


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Put `more` into `into`, nested tables key by key."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
