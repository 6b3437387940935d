"""Reads what runs left on disk: stage folders, lm_eval output folders, retention figures. Computes nothing new.

A stage folder has `metrics.json` and perhaps `metrics.jsonl` (pipeline.run); an lm_eval output folder has
`results_*.json` and perhaps `samples_*.jsonl`; `derived.json` counts the rows that mrl/remember.py made; a retention
file is any other JSON with a `recall` or `latency` table. Of a folder with a `study.json` that file alone counts: it
has the figures of all runs below it. What `make tour` leaves in a quickstart's folder below tour/ is read by the
modules of `evaluation.reporting.tour`; here its runs and the times of its commands count, and not for the
quickstart's wall time.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from evaluation.gains import ANSWERS
from evaluation.reporting.json_files import read_json, read_lines
from evaluation.reporting.records import Evaluation, Figure, Results, Stage, in_order, natural
from evaluation.reporting.tour_stage import read_tour
from pipeline.errors import InputError

logger = logging.getLogger(__name__)

STUDY = "study.json"
COMMANDS = "commands.json"
DERIVED = "derived.json"
STARTED = "started_at"
OURS = ("report.json", "config.json", "manifest.json")  # never a source of figures
PREPARATIONS = ("tokenizer", "initialise", "benchmarks")  # scripts that leave a metrics.json and train nothing
TOUR = "tour"
MAX_TABLE_BYTES = 2_000_000  # a JSON above this is data or a tokenizer, not a retention table


def read_results(paths: Iterable[Path]) -> Results:
    """Read every folder or file in `paths`. InputError where one is missing or nothing at all can be read."""
    results = Results()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; name folders that a stage, lm_eval or retention.py has written")
        for file in _candidates(path):
            _read_file(file, path if path.is_dir() else path.parent, results)
        if path.is_dir():
            results.tour += read_tour(path)
    if not results.files:
        names = ", ".join(str(p) for p in paths)
        raise InputError(f"{names}: no metrics.json, results_*.json or retention figures in there; run a stage first")
    results.stages = {stage.name: stage for stage in in_order(results.stages.values())}
    results.evaluations = {name: results.evaluations[name] for name in sorted(results.evaluations, key=natural)}
    return results


def _candidates(path: Path) -> Iterator[Path]:
    """Files that may hold figures, in the order of their paths."""
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


def _read_file(file: Path, root: Path, results: Results) -> None:
    """Put what one file holds, if it is one of ours, into `results`."""
    name, of_tour = file.name, file.relative_to(root).parts[0] == TOUR
    if name == STARTED and not of_tour:
        results.started_at = _number(file.read_text(encoding="utf-8").strip(), file)
        return
    if name == "metrics.json":
        metrics = read_json(file)
        if metrics.get("stage") in PREPARATIONS:
            return
        stage = _stage_name(file, root)
        results.stages[stage] = Stage(stage, metrics, read_lines(file.with_suffix(".jsonl")), file.stat().st_mtime)
    elif re.fullmatch(r"results_\d.*\.json", name):
        if of_tour:
            return  # it would stand among the quickstart's stages
        _add_results(file, root, results)
    elif re.fullmatch(r"samples_.+_\d{4}-\d\d-\d\dT.*\.jsonl", name):
        _add_samples(file, results)
        return  # the results file beside it stands for both
    elif name == COMMANDS:
        results.commands += read_json(file).get("commands", [])
        return
    elif name == DERIVED and not of_tour:
        results.derived = read_json(file)
        results.files.append(file)
        return
    elif name == STUDY:
        results.study = read_json(file)
        results.files.append(file)
        return  # it is no part of the stages' wall time
    elif file.suffix == ".json" and name not in OURS and not of_tour and file.stat().st_size < MAX_TABLE_BYTES:
        table = read_json(file, quiet=True)
        if not any(isinstance(table.get(key), dict) for key in ("recall", "latency")):
            return
        merge(results.retention, table)
        if (answers := file.with_name(ANSWERS)).exists():
            results.answers |= dict.fromkeys(table.get("recall") or {}, answers)
    else:
        return
    results.files.append(file)
    if not of_tour:
        results.newest = max(results.newest, file.stat().st_mtime)


def _number(text: str, file: Path) -> float | None:
    try:
        return float(text)
    except ValueError:
        logger.warning("%s: %r is not a time in seconds; ignored", file, text)
        return None


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


def _add_results(file: Path, root: Path, results: Results) -> None:
    """The figures of one results_*.json of lm_eval."""
    output = read_json(file)
    label = results.labels[file.parent] = _label(file, root, str(output.get("model_name") or ""))
    evaluation = results.evaluations.setdefault(label, Evaluation(label))
    sizes = output.get("n-samples", {})
    for task, metrics in output.get("results", {}).items():
        leaves = _leaves(task, output.get("group_subtasks", {}))
        total = sizes.get(task, {}).get("original") or sum(sizes[x]["original"] for x in leaves if x in sizes) or None
        if figures := _task_figures(metrics, total):
            evaluation.figures[task] = figures  # sorted paths: the newest of several runs comes last
    evaluation.groups.update(output.get("groups", {}))
    below = output.get("group_subtasks", {})
    evaluation.members.update({group: _leaves(group, below) for group in below})
    evaluation.answers.update(output.get("answers", {}))


def _task_figures(metrics: dict[str, Any], total: int | None) -> dict[str, Figure]:
    """ "metric,filter" -> figure, errors beside their values."""
    figures: dict[str, Figure] = {}
    for key, value in metrics.items():
        metric, comma, rest = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = metrics.get(f"{metric}_stderr,{rest}")
        stderr = float(stderr) if isinstance(stderr, int | float) else None
        figures[key] = Figure(float(value), stderr, metrics.get("sample_len"), total)
    return figures


def _leaves(task: str, members: dict[str, list[str]]) -> list[str]:
    below = members.get(task) or []
    return [leaf for member in below for leaf in _leaves(member, members)] or [task]


def _add_samples(file: Path, results: Results) -> None:
    # `results_` sorts before `samples_`, so the label is known; without results the samples belong to nothing.
    if label := results.labels.get(file.parent):
        task = re.sub(r"^samples_|_\d{4}-\d\d-\d\dT.*$", "", file.name)
        results.evaluations[label].samples[task] = read_lines(file)


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Put `more` into `into`, nested tables key by key."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
