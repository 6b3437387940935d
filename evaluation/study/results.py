"""Figures of finished runs, collected into study.json."""

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.gains import ANSWERS, MEAN_OVER, gain_of_all, mean_hits, read_hits, recall_gains
from evaluation.study.config import Job, StudyConfig
from evaluation.study.named_results import BEYOND, MRL, SFT, named_results
from pipeline.errors import InputError

SAMPLED = "sampled"
"""Folder in a run's folder with what was measured on drawn answers."""
NAME = "recall"
"""What evaluation/retention.py is told to call a run's recall."""
SUPERVISED = "supervised start"
"""What the model that the study starts from is called in tables and plots."""

Recall = dict[str, float]
"""Share of questions by distance in turns, and `all`."""


def read_result(path: Path) -> dict[str, Any]:
    """A JSON file. Raises InputError where it is missing."""
    if not path.exists():
        raise InputError(f"{path} is missing; run that part of the study first")
    return json.loads(path.read_text())


def mean_recall(recall: Recall) -> float:
    """Mean over the distances 2 to 16 that were measured; NaN where none was."""
    values = [recall[distance] for distance in MEAN_OVER if distance in recall]
    return round(statistics.fmean(values), 4) if values else float("nan")


def explained_variance(folder: Path) -> float | None:
    """How much of the returns' variance a run's critic explained, a mean over the last quarter of its rounds; None
    where there was no critic."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    by_round = [line["rollout_explained_variance"] for line in lines if "rollout_explained_variance" in line]
    return round(statistics.fmean(by_round[-max(1, len(by_round) // 4) :]), 3) if by_round else None


def sampled_recall(folder: Path) -> Recall | None:
    """Recall with drawn answers, by distance, where that was measured."""
    path = folder / SAMPLED / "retention.json"
    return read_result(path)["recall"]["recall"] if path.exists() else None


def start_figures(study: StudyConfig, data: str | None) -> dict[str, Any]:
    """What the start recalls of some episodes. Raises InputError where that isn't measured yet."""
    folder = study.start_folder(data)
    recall = read_result(folder / "retention.json")["recall"]["recall"]
    return {"recall": recall, "mean": mean_recall(recall), "sampled": sampled_recall(folder)}


def run_figures(study: StudyConfig, job: Job) -> dict[str, Any]:
    """Figures of a finished run."""
    folder = job.folder(study)
    recall = read_result(folder / "retention.json")["recall"]
    metrics = read_result(folder / "metrics.json")
    return {
        "seed": job.seed,
        "recall": recall["recall"],
        "mean": mean_recall(recall["recall"]),
        "sampled": sampled_recall(folder),
        "reset_control": mean_recall(recall["recall_reset_control"]),
        "foreign_control": mean_recall(recall["recall_foreign_control"]),
        "explained_variance": explained_variance(folder),
        "train_s": metrics["train_s"],
        "peak_mb": metrics["peak_mb"],
        "steps": metrics["steps"],
    }


def gains(before: list[Path], after: list[Path]) -> dict[str, Any] | None:
    """What runs, in the mean of their seeds, recall more than other runs or a start: `all` questions and the `mean`
    over distances, with paired intervals; None where answers weren't kept. Folders are those of retention figures."""
    if not before or not after or not all((folder / ANSWERS).exists() for folder in (*before, *after)):
        return None
    first, second = (mean_hits([read_hits(x / ANSWERS, NAME) for x in folders]) for folders in (before, after))
    return {"all": gain_of_all(first, second), "mean": recall_gains(first, second).get("mean")}


def collect(study: StudyConfig) -> dict[str, Any]:
    """study.json: everything that is finished."""
    start = start_figures(study, None)
    by_part = _finished_runs(study)
    seeds = [run for runs in by_part.pop("seeds", {}).values() for run in runs]
    # A part of which only what it shares with another is finished has nothing to say yet.
    by_part = {
        part: variants
        for part, variants in by_part.items()
        if any(study.parts[part][name].same_as is None for name in variants)
    }
    starts = {part: part_start(study, part, start) for part in by_part}
    long = by_part.pop("long", {})
    results = {
        "start": start,
        "mrl_ablation": by_part,
        "starts": starts,
        "other_starts": other_starts(study, by_part),
        "gains": part_gains(study),
        "mrl_seeds": [_seed_figures(run, start["mean"]) for run in seeds],
    }
    results |= named_results(by_part, starts, pairs(study))
    if len(seeds) > 1:
        results["mrl_seeds_summary"] = _seeds_summary(seeds)
    if long:
        results["mrl_32"] = next(iter(long.values()))[0]["recall"]
        results["mrl_32_runs"] = {name: runs[0] for name, runs in long.items()}
        data = next(iter(study.parts["long"].values())).data
        measured = study.start_folder(data) / "retention.json"
        results["mrl_32_start"] = read_result(measured)["recall"]["recall"] if measured.exists() else {}
    return results


def part_gains(study: StudyConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """part -> variant -> `gains` over what the part's runs start from; a run of the part that others start from is
    compared with nothing."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path, variant in study.variants():
        part, _, name = path.partition("/")
        path = variant.same_as or path
        runs, before = _finished_folders(study, path), study.start_of(path)[0]
        if start_of_part(study, part) not in runs and (gain := gains([before], runs)):
            found.setdefault(part, {})[name] = gain
    return found


def _finished_folders(study: StudyConfig, path: str) -> list[Path]:
    """Folders of the runs of part/variant that are measured."""
    folders = [job.folder(study) for job in study.jobs(path)]
    return [folder for folder in folders if (folder / "retention.json").exists()]


def pairs(study: StudyConfig) -> dict[str, dict[str, Any]]:
    """The paired gain, over all questions, of reinforcement over supervision in each finished case of the part that
    compares the two."""
    found: dict[str, dict[str, Any]] = {}
    cases = study.parts.get(BEYOND, {})
    for name in cases:
        case = name.removesuffix(MRL)
        if name.endswith(MRL) and case + SFT in cases:
            after, before = (
                _finished_folders(study, cases[case + end].same_as or f"{BEYOND}/{case}{end}") for end in (MRL, SFT)
            )
            if gain := gains(before, after):
                found[case] = gain["all"]
    return found


def _finished_runs(study: StudyConfig) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """part -> variant -> the figures of each of its runs that is finished."""
    by_part: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path, variant in study.variants():
        part, _, name = path.partition("/")
        jobs = study.jobs(variant.same_as or path)
        done = [job for job in jobs if (job.folder(study) / "retention.json").exists()]
        before, _ = study.start_of(variant.same_as or path)
        runs = [run_figures(study, job) | {"gains": gains([before], [job.folder(study)])} for job in done]
        if runs:
            by_part.setdefault(part, {})[name] = runs
    return by_part


def _seed_figures(run: dict[str, Any], start_mean: float) -> dict[str, Any]:
    shown = ("recall", "sampled", "explained_variance", "train_s", "gains")
    return {"seed": run["seed"], "start": start_mean, "end": run["mean"]} | {key: run[key] for key in shown}


def _seeds_summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    ends = [run["mean"] for run in runs]
    return {
        "mean": round(statistics.fmean(ends), 4),
        "standard_deviation": round(statistics.stdev(ends), 4),
        "lowest": min(ends),
        "train_s": round(statistics.median(run["train_s"] for run in runs), 1),
    }


def _source(study: StudyConfig, part: str) -> Job | None:
    """The finished run that a part's runs start from; None where that is the study's own start."""
    source = next((v.start for v in study.parts[part].values() if v.start), None)
    finished = source and (study.first_folder(source) / "retention.json").exists()
    return study.jobs(source)[0] if source and finished else None


def _own_start(study: StudyConfig, part: str) -> str | None:
    """The episodes of a part that the study's start was measured on too; None for the study's own."""
    data = next((v.data for v in study.parts[part].values() if v.data), None)
    return data if data and (study.start_folder(data) / "retention.json").exists() else None


def start_of_part(study: StudyConfig, part: str) -> Path:
    """The folder with the figures that those of a part's runs are to be compared with."""
    source = _source(study, part)
    return source.folder(study) if source else study.start_folder(_own_start(study, part))


def other_starts(study: StudyConfig, by_part: Mapping[str, Iterable[str]]) -> dict[str, dict[str, dict[str, Any]]]:
    """part -> variant -> what its start recalls, and of which episodes (`data`), where the part's start has others."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for part, names in by_part.items():
        usual = start_of_part(study, part)
        for name in names:
            path = study.parts[part][name].same_as or f"{part}/{name}"
            start, data = study.start_of(path)
            if usual not in (start, study.first_folder(path)):
                recall = read_result(start / "retention.json")["recall"]["recall"]
                found.setdefault(part, {})[name] = {"data": Path(data).name, "recall": recall}
    return found


def part_start(study: StudyConfig, part: str, usual: dict[str, Any]) -> dict[str, Any]:
    """What a part's runs are to be compared with: the run they start from, or the study's start on their episodes."""
    if source := _source(study, part):
        return {"name": source.name, **run_figures(study, source)}
    data = _own_start(study, part)
    return {"name": SUPERVISED, **(start_figures(study, data) if data else usual)}
