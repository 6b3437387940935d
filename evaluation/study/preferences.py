"""Runs that are compared with their start by evaluation/preferences.py: how they are measured, collected and shown."""

import statistics
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from evaluation.study.config import Job, StudyConfig, Variant
from evaluation.study.results import read_result
from pipeline.errors import InputError

COMPARED = "preferences.json"
"""In a run's folder: the figures of evaluation/preferences.py."""
FIGURES = ("win_rate", "recall_8_change", "untold_after", "told_change", "train_s")
"""What runs of the same seed are compared in."""
HEAD = (
    "| run | seeds | win rate | recall at 8, change | untold answered so | told, change | seconds |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)
NOTE = (
    "Against the common start, by rule, on the same held-out dialogues, own answers in memory; per cent and points, "
    "means over seeds. Below, differences of runs of one seed and their 95% intervals over seeds (Student's t)."
)


def comparing_command(study: StudyConfig, job: Job) -> list[str]:
    """Measures a run against the model that it started from. Raises ValueError for a variant that has none."""
    variant = study.variant(job.path)
    if variant.compare_with is None:
        raise ValueError(f"{job.path} has no compare_with")
    folder = str(job.folder(study))
    return [
        sys.executable, "evaluation/preferences.py", "--start", variant.compare_with, "--model", folder,
        "--data", variant.data or study.data, "--output-dir", folder,
        *(["--episodes", str(study.episodes)] if study.episodes else []),
    ]  # fmt: skip


def preference_results(study: StudyConfig) -> dict[str, Any]:
    """Of each part with such runs, those that are finished (`runs`, by variant) and what each two variants differ in
    over the seeds that both have (`differences`)."""
    found: dict[str, Any] = {}
    for part, variants in study.parts.items():
        runs = {name: _finished(study, part, name, variant) for name, variant in variants.items()}
        runs = {name: made for name, made in runs.items() if made}
        if runs:
            differences = {f"{one} - {two}": _differences(runs[one], runs[two]) for one, two in combinations(runs, 2)}
            found[part] = {"runs": runs, "differences": differences}
    return found


def _finished(study: StudyConfig, part: str, name: str, variant: Variant) -> list[dict[str, Any]]:
    if variant.compare_with is None:
        return []
    folders = [(job.seed, job.folder(study)) for job in study.jobs(f"{part}/{name}")]
    return [_run_figures(seed, folder) for seed, folder in folders if (folder / COMPARED).exists()]


def _run_figures(seed: int, folder: Path) -> dict[str, Any]:
    (compared,) = read_result(folder / COMPARED).values()
    metrics, told = read_result(folder / "metrics.json"), compared["abstention"]
    if compared["recall_8_after"] is None or told["told_after"] is None or told["untold_after"] is None:
        raise InputError(
            f"{folder / COMPARED}: the held-out dialogues have no told question at distance 8, or no untold"
        )
    return {
        "seed": seed,
        **{key: compared[key] for key in ("win_rate", "recall_8_before", "recall_8_after")},
        "recall_8_change": round(compared["recall_8_after"] - compared["recall_8_before"], 4),
        **told,
        "told_change": round(told["told_after"] - told["told_before"], 4),
        "train_s": metrics["train_s"],
        "steps": metrics["steps"],
    }


def _differences(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> dict[str, Any]:
    by_seed = {run["seed"]: run for run in two}
    both = [(run, by_seed[run["seed"]]) for run in one if run["seed"] in by_seed]
    return {name: seed_difference([a[name] - b[name] for a, b in both]) for name in FIGURES} if both else {}


def seed_difference(gains: list[float]) -> dict[str, Any]:
    """Mean of the differences of runs that share a seed, its 95 per cent interval (None for a single one), `n`."""
    mean, n = statistics.fmean(gains), len(gains)
    ends = None
    if n > 1:
        from scipy.stats import t  # here, so that a command line is answered without it

        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(gains) / n**0.5
        ends = [round(mean - half, 4), round(mean + half, 4)]
    return {"difference": round(mean, 4), "interval": ends, "n": n}


def preference_tables(parts: dict[str, Any]) -> str:
    """Two Markdown tables for each part: means over seeds, and differences."""
    rows: list[str] = []
    for part, found in parts.items():
        rows += [f"\n### {part.replace('_', ' ').capitalize()}\n\n{NOTE}\n\n{HEAD}"]
        rows += [_row(name, runs) for name, runs in found["runs"].items()]
        rows += ["", HEAD.replace("run", "difference", 1)]
        rows += [_difference_row(name, by) for name, by in found["differences"].items() if by]
    return "\n".join(rows) + "\n"


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    means = {figure: statistics.fmean(run[figure] for run in runs) for figure in FIGURES}
    cells = [f"{100 * means[figure]:.1f}" for figure in FIGURES[:-1]]
    return f"| {name} | {len(runs)} | {' | '.join(cells)} | {means['train_s']:.0f} |"


def _difference_row(name: str, by: dict[str, Any]) -> str:
    cells = []
    for figure in FIGURES:
        scale, ends = 1 if figure == "train_s" else 100, by[figure]["interval"]
        between = f" ({scale * ends[0]:.1f} to {scale * ends[1]:.1f})" if ends else ""
        cells.append(f"{scale * by[figure]['difference']:.1f}{between}")
    return f"| {name} | {by['win_rate']['n']} | {' | '.join(cells)} |"
