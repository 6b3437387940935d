"""The study behind the claims about memory reinforcement learning: seeds, long dialogues, and an honest ablation.

    uv run evaluation/study/run.py                                   # everything (evaluation/config/study.yaml)
    uv run evaluation/study/run.py --parts seeds critics --jobs 2    # some parts, two runs at a time

A part is a list of variants; each is one run of a training script from the same supervised model, followed by
evaluation/retention.py with the model's own answers in its memory. Runs that are finished are not done again, and a
run that was cut short goes on from its checkpoint. Writes study.json, study.md (tables) and plots to output_dir.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation import plots
from pipeline.artifact import is_complete, write_json, write_text
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.progress import progress_bar
from pipeline.run import exit_status, setup_logging

logger = logging.getLogger(__name__)
DEFAULT = Path(__file__).parents[1] / "config" / "study.yaml"
DEFAULT_SCRIPT = "mrl/train.py"
MEAN_OVER = ("2", "4", "8", "16")
"""Distances whose mean recall is the one figure of a run."""
NOTE = (
    "Exact recall on held-out episodes, per cent, by distance in turns, with the model's own answers in its memory; "
    "*all, drawn*: of all questions, with answers drawn at temperature 1."
)
"""What the tables' columns are."""
SAMPLED = "sampled"
"""Folder in a run's folder with what was measured on drawn answers."""
SUPERVISED = "supervised start"
"""What the model that the study starts from is called in tables and plots."""


@dataclass(kw_only=True)
class Variant:
    """One way of training: a script, its recipe, and what is set otherwise."""

    script: str = DEFAULT_SCRIPT
    config: str | None = None
    """Default: the study's `config`."""
    settings: list[str] = field(default_factory=list)
    """key=value as for --set. `{minutes}` stands for the training time of `like`."""
    start: str | None = None
    """part/variant whose model this one starts from. Default: the study's `start`."""
    based_on: str | None = None
    """part/variant that this one is, but for what it says itself; its own settings come after that one's."""
    like: str | None = None
    """part/variant whose wall time this one gets."""
    seeds: list[int] = field(default_factory=lambda: [42])
    data: str | None = None
    """Held-out episodes. Default: the study's."""
    sampled: bool = False
    """Measured again with answers drawn at temperature 1, as they are in free generation."""
    same_as: str | None = None
    """part/variant of which this is only another name: it isn't run again."""


@dataclass(kw_only=True)
class Study:
    """evaluation/config/study.yaml."""

    output_dir: Path
    start: str
    """The supervised model that runs start from."""
    config: str
    data_folder: str
    data: str
    """Held-out episodes that every run is measured on."""
    parts: dict[str, dict[str, Variant]]
    settings: list[str] = field(default_factory=list)
    """key=value for every run of mrl/train.py, before the variant's own."""
    episodes: int | None = None
    """At most so many held-out episodes."""

    def __post_init__(self) -> None:
        for part, variants in self.parts.items():
            for name, variant in variants.items():
                for other in (variant.start, variant.like, variant.same_as, variant.based_on):
                    if other and self.find(other) is None:
                        raise ValueError(f"parts.{part}.{name} names {other}, which is no part/variant of this study")
                    if other and self.find(other).same_as:
                        raise ValueError(f"parts.{part}.{name} names {other}, which is another's name: take that one")
                if variant.based_on and self.find(variant.based_on).based_on:
                    raise ValueError(f"parts.{part}.{name} is based on {variant.based_on}, which is based on another")
        self.parts = {
            part: {name: self._complete(variant) for name, variant in variants.items()}
            for part, variants in self.parts.items()
        }
        for part, variants in self.parts.items():
            for name in variants:
                self.waits(f"{part}/{name}")

    def _complete(self, variant: Variant) -> Variant:
        """A variant with what it takes from the one it is based on."""
        base = self.find(variant.based_on) if variant.based_on else None
        if base is None:
            return variant
        shared = ("start", "like", "config", "data", "sampled")
        taken = {name: getattr(variant, name) or getattr(base, name) for name in shared}
        script = base.script if variant.script == DEFAULT_SCRIPT else variant.script
        settings = [*base.settings, *variant.settings]
        return replace(variant, **taken, script=script, settings=settings, based_on=None)

    def find(self, path: str) -> Variant | None:
        """A variant by part/name."""
        part, _, name = path.partition("/")
        return self.parts.get(part, {}).get(name)

    def waits(self, path: str, seen: tuple[str, ...] = ()) -> int:
        """How many runs, one after another, come before a variant's. Raises ValueError where that never ends."""
        if path in seen:
            raise ValueError(f"parts: {' waits for '.join((*seen, path))}")
        return max((1 + self.waits(other, (*seen, path)) for other in self.needed(path)), default=0)

    def needed(self, path: str) -> list[str]:
        """part/variants of which the first run has to be finished before those of this one can start."""
        variant = self.find(path)
        return [other for other in (variant.start, variant.like) if other]


@dataclass(frozen=True)
class Job:
    """One run: a variant with a seed."""

    part: str
    name: str
    seed: int

    @property
    def variant(self) -> str:
        """part/name."""
        return f"{self.part}/{self.name}"

    def folder(self, study: Study) -> Path:
        return study.output_dir / "runs" / self.part / f"{self.name}-seed{self.seed}"


def command_of(study: Study, job: Job) -> list[str]:
    """The training command of a job."""
    variant = study.parts[job.part][job.name]
    minutes = read(first_folder(study, variant.like) / "metrics.json")["train_s"] / 60 if variant.like else 0.0
    start = study.start
    if variant.start:
        start = str(first_folder(study, variant.start))
        read(Path(start) / "retention.json")
    settings = [f"model.path={start}", f"data.folder={study.data_folder}", f"output_dir={job.folder(study)}"]
    settings += study.settings if variant.script == DEFAULT_SCRIPT else []
    settings += [f"seed={job.seed}", *(text.replace("{minutes}", f"{minutes:.3f}") for text in variant.settings)]
    flags = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, variant.script, "--config-path", variant.config or study.config, *flags]


def first_job(study: Study, path: str) -> Job:
    """The first seed's run of part/variant."""
    part, _, name = path.partition("/")
    return Job(part, name, study.parts[part][name].seeds[0])


def first_folder(study: Study, path: str) -> Path:
    """Where that run lies."""
    return first_job(study, path).folder(study)


def read(path: Path) -> dict[str, Any]:
    """A JSON file. Raises InputError where it is missing."""
    if not path.exists():
        raise InputError(f"{path} is missing; run that part of the study first")
    return json.loads(path.read_text())


def measure(study: Study, model: str, data: str, folder: Path, threads: int, temperature: float = 0.0) -> None:
    """Recall by distance with the model's own answers in memory, to folder/retention.json, unless it is there."""
    if (folder / "retention.json").exists():
        return
    command = [
        sys.executable, "evaluation/retention.py", "--model", model, "--data", data, "--own-answers", "--repeats", "2",
        "--name", "recall", "--temperature", str(temperature), "--output-dir", str(folder),
    ]  # fmt: skip
    if study.episodes:
        command += ["--episodes", str(study.episodes)]
    run(command, folder / "retention.log", threads)


def run(command: list[str], log: Path, threads: int) -> None:
    """Run one command with its words in a log. Raises InputError where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with log.open("a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        last = log.read_text().strip().splitlines()[-1:] or [""]
        raise InputError(f"{' '.join(command[1:4])} failed ({log}): {last[0][:300]}")


def do(study: Study, job: Job, threads: int) -> None:
    """Train and measure one job, or what is left of it."""
    folder = job.folder(study)
    variant = study.parts[job.part][job.name]
    if not is_complete(folder / "model"):
        run(command_of(study, job), folder / "train.log", threads)
    measure(study, str(folder), variant.data or study.data, folder, threads)
    if variant.sampled:
        measure(study, str(folder), variant.data or study.data, folder / SAMPLED, threads, temperature=1.0)


def jobs_of(study: Study, parts: list[str]) -> list[Job]:
    """Runs of the named parts; those that most others wait for, one after another, come first."""
    found = [
        Job(part, name, seed)
        for part in parts
        for name, variant in study.parts[part].items()
        if variant.same_as is None
        for seed in variant.seeds
    ]
    followers: dict[Job, int] = {}
    for job in sorted(found, key=lambda job: study.waits(job.variant), reverse=True):
        followers.setdefault(job, 0)
        for other in study.needed(job.variant):
            first = first_job(study, other)
            followers[first] = max(followers.get(first, 0), followers[job] + 1)
    return sorted(found, key=lambda job: followers[job], reverse=True)


def do_all(study: Study, jobs: list[Job], at_once: int) -> Iterator[Job]:
    """Do jobs, each as soon as those it needs are done and one of `at_once` places is free; yields finished ones."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    waiting, running = list(jobs), dict[Future[None], Job]()
    with ThreadPoolExecutor(at_once) as pool:
        while waiting or running:
            busy = {*waiting, *running.values()}
            ready = [job for job in waiting if not busy & {first_job(study, o) for o in study.needed(job.variant)}]
            for job in ready[: at_once - len(running)]:
                waiting.remove(job)
                running[pool.submit(do, study, job, threads)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                yield running.pop(future)


def start_folder(study: Study, data: str | None) -> Path:
    """Where the start's figures on some episodes lie."""
    return study.output_dir / ("start" if data in (None, study.data) else f"start-{Path(data).name}")


def start_figures(study: Study, data: str | None) -> dict[str, Any]:
    """What the start recalls of some episodes. Raises InputError where that isn't measured yet."""
    folder = start_folder(study, data)
    recall = read(folder / "retention.json")["recall"]["recall"]
    return {"recall": recall, "mean": mean_recall(recall), "sampled": sampled_recall(folder)}


def explained_variance(folder: Path) -> float | None:
    """How much of the returns' variance a run's critic explained, a mean over the last quarter of its rounds; None
    where there was no critic."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [line["rollout_explained_variance"] for line in lines if "rollout_explained_variance" in line]
    return round(statistics.fmean(found[-max(1, len(found) // 4) :]), 3) if found else None


def summary(study: Study, job: Job) -> dict[str, Any]:
    """Figures of a finished run."""
    folder = job.folder(study)
    recall = read(folder / "retention.json")["recall"]
    facts = read(folder / "metrics.json")
    return {
        "seed": job.seed,
        "recall": recall["recall"],
        "mean": mean_recall(recall["recall"]),
        "sampled": sampled_recall(folder),
        "reset_control": mean_recall(recall["recall_reset_control"]),
        "foreign_control": mean_recall(recall["recall_foreign_control"]),
        "explained_variance": explained_variance(folder),
        "train_s": facts["train_s"],
        "peak_mb": facts["peak_mb"],
        "steps": facts["steps"],
    }


def sampled_recall(folder: Path) -> dict[str, float] | None:
    """Recall with drawn answers, by distance, where that was measured."""
    path = folder / SAMPLED / "retention.json"
    return read(path)["recall"]["recall"] if path.exists() else None


def mean_recall(recall: dict[str, float]) -> float:
    """Mean over the distances 2 to 16 that were measured."""
    values = [recall[d] for d in MEAN_OVER if d in recall]
    return round(statistics.fmean(values), 4) if values else float("nan")


def collect(study: Study) -> dict[str, Any]:
    """study.json: everything that is finished."""
    found: dict[str, Any] = {"start": start_figures(study, None), "mrl_ablation": {}}
    for part, variants in study.parts.items():
        for name, variant in variants.items():
            source = variant.same_as or f"{part}/{name}"
            home, _, other = source.partition("/")
            rows = [
                summary(study, job)
                for job in (Job(home, other, seed) for seed in study.parts[home][other].seeds)
                if (job.folder(study) / "retention.json").exists()
            ]
            if rows:
                found["mrl_ablation"].setdefault(part, {})[name] = rows
    seeds = [row for rows in found["mrl_ablation"].pop("seeds", {}).values() for row in rows]
    # A part of which only what it shares with another is finished has nothing to say yet.
    found["mrl_ablation"] = {
        part: rows
        for part, rows in found["mrl_ablation"].items()
        if any(study.parts[part][name].same_as is None for name in rows)
    }
    found["starts"] = {part: start_of(study, part, found["start"]) for part in found["mrl_ablation"]}
    found["mrl_seeds"] = [
        {
            "seed": row["seed"], "start": found["start"]["mean"], "end": row["mean"], "recall": row["recall"],
            "sampled": row["sampled"], "explained_variance": row["explained_variance"], "train_s": row["train_s"],
        }
        for row in seeds
    ]  # fmt: skip
    if len(seeds) > 1:
        ends = [row["mean"] for row in seeds]
        found["mrl_seeds_summary"] = {
            "mean": round(statistics.fmean(ends), 4),
            "standard_deviation": round(statistics.stdev(ends), 4),
            "lowest": min(ends),
            "train_s": round(statistics.median(row["train_s"] for row in seeds), 1),
        }
    long = found["mrl_ablation"].pop("long", {})
    if long:
        found["mrl_32"] = next(iter(long.values()))[0]["recall"]
        found["mrl_32_runs"] = {name: rows[0] for name, rows in long.items()}
        data = next(iter(study.parts["long"].values())).data
        before = start_folder(study, data) / "retention.json"
        found["mrl_32_start"] = read(before)["recall"]["recall"] if before.exists() else {}
    return found


def start_of(study: Study, part: str, usual: dict[str, Any]) -> dict[str, Any]:
    """What a part's runs are to be compared with: the run they start from, or the study's start on their episodes."""
    variants = study.parts[part].values()
    source = next((v.start for v in variants if v.start), None)
    if source and (first_folder(study, source) / "retention.json").exists():
        job = first_job(study, source)
        return {"name": job.name, **summary(study, job)}
    data = next((v.data for v in variants if v.data), None)
    known = data is not None and (start_folder(study, data) / "retention.json").exists()
    return {"name": SUPERVISED, **(start_figures(study, data) if known else usual)}


def tables(found: dict[str, Any]) -> str:
    """study.md."""

    def line(name: str, recall: dict[str, float], run_: dict[str, Any]) -> str:
        def cell(values: dict[str, float], key: str) -> str:
            return f"{100 * values[key]:.1f}" if key in values else "–"

        cells = [cell(recall, d) for d in ("1", "2", "4", "8", "16", "32")]
        known, spent = run_.get("explained_variance"), run_.get("train_s")
        more = ["–" if known is None else f"{known:.2f}", "–" if spent is None else f"{spent:.0f}"]
        drawn = run_.get("sampled") or {}
        means = [f"{100 * mean_recall(recall):.1f}", cell(recall, "all"), cell(drawn, "all")]
        return f"| {name} | {' | '.join([*cells, *means, *more])} |"

    head = (
        "| run | 1 | 2 | 4 | 8 | 16 | 32 | mean 2–16 | all questions | all, drawn | critic explains | seconds |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    rows = [f"### Seeds\n\n{head}", line(SUPERVISED, found["start"]["recall"], found["start"])]
    rows += [line(f"seed {row['seed']}", row["recall"], row) for row in found["mrl_seeds"]]
    if "mrl_32_runs" in found:
        rows += [f"\n### Dialogues of 32 steps\n\n{head}", line(SUPERVISED, found["mrl_32_start"], {})]
        rows += [line(name, run_["recall"], run_) for name, run_ in found["mrl_32_runs"].items()]
    for part, variants in found["mrl_ablation"].items():
        own = found["starts"][part]
        label = own["name"] if own["name"] == SUPERVISED else f"start: {own['name']}"
        start = line(label, own["recall"], {"sampled": own["sampled"]})
        rows += [f"\n### {part.replace('_', ' ').capitalize()}\n\n{head}", start]
        rows += [line(*averaged(name, runs)) for name, runs in variants.items() if name != own["name"]]
    return "\n".join(rows) + "\n"


def averaged(name: str, runs: list[dict[str, Any]]) -> tuple[str, dict[str, float], dict[str, Any]]:
    """Name, recall and figures of a variant: means where it ran with several seeds."""
    if len(runs) == 1:
        return name, runs[0]["recall"], runs[0]
    recall = {d: statistics.fmean(run_["recall"][d] for run_ in runs) for d in runs[0]["recall"]}
    known = {k: [run_[k] for run_ in runs if run_[k] is not None] for k in ("explained_variance", "train_s")}
    means: dict[str, Any] = {k: statistics.fmean(values) for k, values in known.items() if values}
    drawn = [run_["sampled"] for run_ in runs if run_["sampled"]]
    if drawn:
        means["sampled"] = {d: statistics.fmean(recall_[d] for recall_ in drawn) for d in drawn[0]}
    return f"{name}, mean of {len(runs)} seeds", recall, means


def draw(found: dict[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """seeds.png: recall by distance of every seed; PART.png: mean recall of every run of a part. Titles and paths."""
    shown = {SUPERVISED: found["start"]["recall"]}
    shown |= {f"seed {row['seed']}": row["recall"] for row in found["mrl_seeds"]}
    lines = {name: [(float(d), v) for d, v in recall.items() if d.isdigit()] for name, recall in shown.items()}
    plots.by_turn(
        lines, folder / "seeds.png", xlabel="turns since it was said", ylabel="exact recall", share=True, zoom=True,
        dashed=(SUPERVISED,),
    )  # fmt: skip
    drawn = [("Study: recall by distance, every seed", folder / "seeds.png")]
    for part, variants in found["mrl_ablation"].items():
        rows = {name: [row["mean"] for row in runs] for name, runs in variants.items()}
        own = found["starts"][part]
        rows.pop(own["name"], None)
        line = (own["name"], own["mean"])
        path = folder / f"{part}.png"
        plots.dots(rows, path, xlabel="exact recall, mean over distances 2 to 16", line=line)
        drawn.append((f"Study: {part.replace('_', ' ')}", path))
    return drawn


def main(options: argparse.Namespace) -> None:
    """Do what isn't done, then write everything down."""
    study = load_config(Study, options.config_path, options.set)
    unknown = [part for part in options.parts or [] if part not in study.parts]
    if unknown:
        raise InputError(f"--parts: there is no part {unknown[0]}; there are {', '.join(study.parts)}")
    started = time.monotonic()
    jobs = jobs_of(study, options.parts or list(study.parts))
    for data in dict.fromkeys([study.data, *(study.parts[job.part][job.name].data or study.data for job in jobs)]):
        measure(study, study.start, data, start_folder(study, data), os.cpu_count() or 1)
    if any(study.parts[job.part][job.name].sampled for job in jobs):
        drawn = start_folder(study, None) / SAMPLED
        measure(study, study.start, study.data, drawn, os.cpu_count() or 1, temperature=1.0)
    with progress_bar(total=len(jobs), desc="study", unit="run") as bar:
        for _ in do_all(study, jobs, options.jobs):
            bar.update(1)
    found = collect(study)
    found["wall_s"] = round(time.monotonic() - started, 1)
    write_json(study.output_dir / "study.json", found)
    text = tables(found)
    write_text(study.output_dir / "study.md", f"{NOTE}\n\n{text}")
    draw(found, study.output_dir)
    print(text)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=DEFAULT)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these parts")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; the cores are shared out among them")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("INFO")
    with exit_status():
        main(chosen)
