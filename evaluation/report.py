"""Turns what runs left on disk into report.md, report.json, plots, and report.html: one file to look at.

    uv run evaluation/report.py outputs/quickstart
    uv run evaluation/report.py outputs/stage_3 results/lm_eval retention.json --output-dir report

RESULTS is any mix of stage folders (metrics.json, metrics.jsonl), lm_eval output folders (results_*.json,
samples_*.jsonl), retention files and the folder of a study (study.json); folders are searched all the way down. No
stage knows this script: it only reads.
"""

import argparse
import os
import sys
import time
import webbrowser
from pathlib import Path

from evaluation.reporting import smollm2
from evaluation.reporting.html import html_page, section_html
from evaluation.reporting.markdown import number
from evaluation.reporting.reader import read_results
from evaluation.reporting.records import Results
from evaluation.reporting.samples import sample_section, samples_side_by_side
from evaluation.reporting.summary import summarize
from pipeline.artifact import write_json, write_text
from pipeline.errors import InputError
from pipeline.run import exit_status, setup_logging


def write_report(results: Results, folder: Path, seconds: float = 0.0) -> None:
    """report.md, report.html, report.json and plots/ in `folder`. `seconds`: what reading took."""
    from evaluation.reporting.benchmarks import benchmark_section
    from evaluation.reporting.figures import draw_report
    from evaluation.reporting.sections import (
        command_section,
        derived_section,
        memory_section,
        reasoning_section,
        stage_section,
        study_section,
    )

    report = summarize(results, seconds)
    drawn = draw_report(results, report, folder / "plots")
    head = [f"# Report\n\n{report['date']}, source {report['git_commit'] or 'unknown'}"]
    if report["wall_s"] is not None:
        head.append(f"Wall time {number(report['wall_s'])} s, peak memory {number(report['peak_mb'])} MB.\n")
    pictures = [f"![{title}]({path.relative_to(folder).as_posix()})\n" for title, path in drawn]
    plots = "## Plots\n\n" + "\n".join(pictures) if pictures else ""
    tables = [
        derived_section(results),
        stage_section(results),
        reasoning_section(results, report),
        benchmark_section(results),
        smollm2.section(report),
        memory_section(report),
        *(stage.section for stage in results.tour),
        study_section(results),
        command_section(results),
    ]
    read = "## Read\n\n" + "\n".join(f"- {path.as_posix()}" for path in files_read(results)) + "\n"
    sections = ["\n\n".join(head), *tables, plots, sample_section(results), read]
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", "\n".join(section for section in sections if section))
    # To look at: pictures first, right and wrong answers side by side.
    looked_at = [section_html(section, folder) for section in (sections[0], plots, *tables) if section]
    shown = [*looked_at, samples_side_by_side(results), section_html(read, folder)]
    write_text(folder / "report.html", html_page(f"Report of {folder.resolve().name}", shown))


def open_for_a_person(page: Path) -> None:
    """Show a page in the browser where somebody sits at this terminal and there is a screen for one."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and screen:
        webbrowser.open(page.resolve().as_uri())


def files_read(results: Results) -> list[Path]:
    """Every file whose figures stand in the report, once."""
    return list(dict.fromkeys([*results.files, *(path for stage in results.tour for path in stage.paths)]))


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS")
    parser.add_argument("--output-dir", type=Path, help="where to write; with one folder given, that folder")
    parser.add_argument(
        "--open", action="store_true", help="show report.html in a browser, from a terminal with a screen"
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Read, write."""
    started = time.monotonic()
    folder = options.output_dir
    if folder is None:
        if len(options.results) > 1 or options.results[0].is_file():
            raise InputError("several RESULTS, or a file: name the folder of the report with --output-dir")
        folder = options.results[0]
    write_report(read_results(options.results), folder, time.monotonic() - started)
    print(folder / "report.md")
    print(folder / "report.html")
    if options.open:
        open_for_a_person(folder / "report.html")


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging(chosen.log_level)
    with exit_status():
        main(chosen)
