"""The study behind the claims about memory reinforcement learning: seeds, long dialogues, and an honest ablation.

    uv run evaluation/study/run.py                                   # the usual parts of evaluation/config/study.yaml
    uv run evaluation/study/run.py --parts all                       # every part
    uv run evaluation/study/run.py --parts seeds critic --jobs 2    # some parts, two runs at a time

A part is a list of variants; each is one run of a training script from the same supervised model, followed by
evaluation/retention.py with the model's own answers in its memory (evaluation/preferences.py where a variant says what
it is compared with). Runs that are finished are not done again, and a
run that was cut short goes on from its checkpoint. Writes study.json, study.md (tables) and plots to output_dir.
"""

import argparse
import time
from pathlib import Path

from evaluation.command_line import at_least
from evaluation.study.config import StudyConfig
from evaluation.study.preferences import preference_results
from evaluation.study.results import collect
from evaluation.study.scheduler import make_data, measure_start, ordered_jobs, run_all
from evaluation.study.tables import NOTE, study_tables
from pipeline.artifact import write_json, write_text
from pipeline.config import load_config
from pipeline.errors import InputError
from pipeline.progress import progress_bar
from pipeline.run import exit_status, setup_logging

ALL = "all"
"""What --parts takes for every part."""
DEFAULT = Path(__file__).parents[1] / "config" / "study.yaml"


def main(options: argparse.Namespace) -> None:
    """Do what isn't done, then write everything down."""
    study = load_config(StudyConfig, options.config_path, options.set)
    started = time.monotonic()
    jobs = ordered_jobs(study, chosen_parts(study, options.parts))
    make_data(study, jobs)
    measure_start(study, jobs)
    with progress_bar(total=len(jobs), desc="study", unit="run") as bar:
        for _ in run_all(study, jobs, options.jobs):
            bar.update(1)
    compared = preference_results(study)
    recalled = collect(study) if (study.start_folder(None) / "retention.json").exists() or not compared else {}
    results = {**recalled, "preferences": compared, "wall_s": round(time.monotonic() - started, 1)}
    tables = study_tables(results)
    write_json(study.output_dir / "study.json", results)
    write_text(study.output_dir / "study.md", f"{NOTE}\n\n{tables}")
    from evaluation.study.figures import draw_study

    draw_study(results, study.output_dir)
    print(tables)


def chosen_parts(study: StudyConfig, named: list[str] | None) -> list[str]:
    """The parts to do: those that are named, else the usual ones, else all. Raises InputError for unknown ones."""
    unknown = [part for part in named or [] if part not in (*study.parts, ALL)]
    if unknown:
        raise InputError(f"--parts: there is no part {unknown[0]}; there are {', '.join(study.parts)}, or {ALL}")
    parts = named or study.usual or [ALL]
    return list(study.parts) if ALL in parts else parts


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-path", type=Path, default=DEFAULT)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="default: the usual ones; all: every one")
    parser.add_argument("--jobs", type=at_least(1), default=2, help="runs at a time; they share the cores")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("INFO")
    with exit_status():
        main(chosen)
