"""Trains and measures the runs of a study, each as soon as those it needs are done."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from evaluation.cores import usable_cores
from evaluation.study.config import DEFAULT_SCRIPT, Job, StudyConfig
from evaluation.study.preferences import COMPARED, comparing_command
from evaluation.study.results import NAME, SAMPLED, read_result
from pipeline.artifact import is_complete
from pipeline.errors import InputError

_ONE_START = threading.Lock()
"""Of runs that are done side by side and start from the same model one measures it and the others wait."""


def training_command(study: StudyConfig, job: Job) -> list[str]:
    """The training command of a job. Raises InputError where a run that it needs isn't finished."""
    variant = study.variant(job.path)
    minutes = 0.0
    if variant.like:
        minutes = read_result(study.first_folder(variant.like) / "metrics.json")["train_s"] / 60
    start = variant.compare_with or study.start
    if variant.start:
        start = str(study.first_folder(variant.start))
        read_result(Path(start) / "retention.json")
    settings = [f"model.path={start}", f"data.folder={variant.data_folder or study.data_folder}"]
    settings.append(f"output_dir={job.folder(study)}")
    settings += study.settings if variant.script == DEFAULT_SCRIPT else []
    settings += [f"seed={job.seed}", *(text.replace("{minutes}", f"{minutes:.3f}") for text in variant.settings)]
    flags = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, variant.script, "--config-path", variant.config or study.config, *flags]


def measure(study: StudyConfig, model: str, data: str, folder: Path, threads: int, temperature: float = 0.0) -> None:
    """Recall by distance with the model's own answers in memory, to folder/retention.json, unless it is there."""
    if (folder / "retention.json").exists():
        return
    command = [
        sys.executable, "evaluation/retention.py", "--model", model, "--data", data, "--own-answers", "--repeats", "2",
        "--name", NAME, "--temperature", str(temperature), "--output-dir", str(folder),
    ]  # fmt: skip
    if study.episodes:
        command += ["--episodes", str(study.episodes)]
    run_command(command, folder / "retention.log", threads)


def run_command(command: list[str], log: Path, threads: int) -> None:
    """Run one command with its words in a log. Raises InputError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("a") as file:
        process = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if process.returncode:
        last = log.read_text().strip().splitlines()[-1:] or [""]
        raise InputError(f"{' '.join(command[1:4])} failed ({log}): {last[0][:300]}")


def make_data(study: StudyConfig, jobs: list[Job]) -> None:
    """Make the rows of jobs that the study says how to make; folders that are finished stay."""
    for folder in dict.fromkeys(study.variant(job.path).data_folder for job in jobs):
        if folder and (config := study.data_configs.get(folder)):
            command = [sys.executable, "data/data_collection.py", "--config-path", config, "--output-dir", folder]
            run_command(command, study.output_dir / f"{Path(folder).name}.log", usable_cores())


def measure_start(study: StudyConfig, jobs: list[Job]) -> None:
    """Measure the study's start on its own episodes and on those of every job that starts from it."""
    threads = usable_cores()
    variants = [variant for job in jobs if not (variant := study.variant(job.path)).compare_with]
    others = [variant.data for variant in variants if variant.data and not variant.start]
    for data in dict.fromkeys([study.data, *others] if variants else []):
        measure(study, study.start, data, study.start_folder(data), threads)
    if any(variant.sampled for variant in variants):
        measure(study, study.start, study.data, study.start_folder(None) / SAMPLED, threads, temperature=1.0)


def train_and_measure(study: StudyConfig, job: Job, threads: int) -> None:
    """One job, or what is left of it."""
    folder = job.folder(study)
    variant = study.variant(job.path)
    if not is_complete(folder / "model"):
        run_command(training_command(study, job), folder / "train.log", threads)
    if variant.compare_with:
        if not (folder / COMPARED).exists():
            run_command(comparing_command(study, job), folder / "preferences.log", threads)
        return
    start, data = study.start_of(job.path)
    if variant.start:
        with _ONE_START:
            measure(study, str(study.first_folder(variant.start)), data, start, threads)
    measure(study, str(folder), data, folder, threads)
    if variant.sampled:
        measure(study, str(folder), data, folder / SAMPLED, threads, temperature=1.0)


def ordered_jobs(study: StudyConfig, parts: list[str]) -> list[Job]:
    """Runs of the named parts and those that they can't do without; what most others wait for, one after another, comes
    first.

    A row that is another part's run brings all its seeds; of a run that is only started from or timed, the first is
    enough.
    """
    paths = [f"{part}/{name}" for part in parts for name in study.parts[part]]
    jobs = list(dict.fromkeys(job for path in paths for job in study.jobs(study.variant(path).same_as or path)))
    for job in jobs:  # grows: what is needed needs others
        jobs += sorted(_needed(study, job) - {*jobs}, key=str)
    followers: dict[Job, int] = {}
    for job in sorted(jobs, key=lambda job: study.runs_before(job.path), reverse=True):
        followers.setdefault(job, 0)
        for other in study.variant(job.path).needs():
            first = study.jobs(other)[0]
            followers[first] = max(followers.get(first, 0), followers[job] + 1)
    return sorted(jobs, key=lambda job: followers[job], reverse=True)


def run_all(study: StudyConfig, jobs: list[Job], at_once: int) -> Iterator[Job]:
    """Do jobs, each as soon as those it needs are done and one of `at_once` places is free; yields finished ones."""
    threads = max(1, usable_cores() // at_once)
    waiting, running = list(jobs), dict[Future[None], Job]()
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            unfinished = {*waiting, *running.values()}
            ready = [job for job in waiting if not unfinished & _needed(study, job)]
            for job in ready[: at_once - len(running)]:
                waiting.remove(job)
                running[pool.submit(train_and_measure, study, job, threads)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                yield running.pop(future)


def _needed(study: StudyConfig, job: Job) -> set[Job]:
    return {study.jobs(other)[0] for other in study.variant(job.path).needs()}
