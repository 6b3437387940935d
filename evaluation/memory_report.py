"""What a converted model recalls and what it can still do: report.json and report.md of smollm2_memory.sh's folder.

    uv run evaluation/memory_report.py outputs/smollm2_memory

Read are recall_generated/ and recall_real/ (evaluation/retention.py) and skills/untouched/ and skills/memory_sft/
(lm_eval). Shares are 0 to 1.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.reporting.json_files import read_json
from evaluation.reporting.markdown import table
from pipeline.artifact import write_json, write_text
from pipeline.errors import InputError
from pipeline.run import exit_status, setup_logging

MEMORY, HISTORY = "memory_sft", "full_history_baseline"
"""What retention.py calls the model's own answers and those of the model with its whole history as prompt."""
NEAR = tuple(str(distance) for distance in range(1, 9))
LAST = "64"
"""The turn at which time and memory of both are given."""
METRICS = ("acc_norm,none", "acc,none", "exact_match,flexible-extract")
"""The figure of a task: the first of these that it has."""


def recalled(found: Mapping[str, Any]) -> dict[str, Any]:
    """Recall over lag of memory, controls and whole history, with the memory's intervals and numbers of questions."""
    return {"recall": found["recall"], "intervals": found["intervals"], "all": found["all"], "n": found["questions"]}


def skills(folder: Path) -> dict[str, dict[str, Any]]:
    """`before`, `after` and `n` of each task that was asked twice."""
    asked = {}
    for name in ("untouched", "memory_sft"):
        files = sorted((folder / name).rglob("results_*.json"))
        if not files:
            raise InputError(f"{folder / name}: no results_*.json; run lm_eval on both models first")
        asked[name] = read_json(files[-1])
    before, after = asked.values()
    both = [task for task in before["results"] if task in after["results"]]
    figures = {}
    for task in both:
        metric = next(name for name in METRICS if name in before["results"][task])
        figures[task.removeprefix("local_")] = {
            "before": before["results"][task][metric], "after": after["results"][task][metric],
            "n": after["n-samples"][task]["effective"],
        }  # fmt: skip
    return figures


def report_of(folder: Path) -> dict[str, Any]:
    """report.json. Raises InputError where retention.py or lm_eval hasn't been run."""
    found = {}
    for name in ("generated", "real"):
        path = folder / f"recall_{name}" / "retention.json"
        if not path.is_file():
            raise InputError(f"{path} is missing; run evaluation/retention.py first (smollm2_memory.sh does)")
        found[name] = read_json(path)
    first = found["generated"]
    by_lag = first["recall"]
    times, cache = first["latency"], first["full_history_cache_bytes"]
    return {
        "recall": {lag: by_lag[MEMORY][lag] for lag in NEAR if lag in by_lag[MEMORY]},
        "controls": {name: by_lag[name] for name in ("reset_control", "foreign_control")},
        "full_history": {lag: by_lag[HISTORY][lag] for lag in NEAR if lag in by_lag[HISTORY]},
        "forgetting": {name: recalled(each) for name, each in found.items()},
        "skills": skills(folder / "skills"),
        "turn_64": {
            "first_token_ms": {"memory": times["reactive_ms"][LAST], "full_history": times["full_history_ms"][LAST]},
            "bytes": {"memory": first["state_bytes"][LAST], "full_history": cache[LAST]},
        },
    }


def text_of(report: Mapping[str, Any]) -> str:
    """report.md."""
    rows = []
    for source, found in report["forgetting"].items():
        for name, by_lag in found["recall"].items():
            cells = [f"{100 * by_lag[lag]:.1f}" if lag in by_lag else "–" for lag in NEAR]
            rows.append([source, name, *cells])
    asked = [[task, f"{100 * x['before']:.1f}", f"{100 * x['after']:.1f}", str(x["n"])]
             for task, x in report["skills"].items()]  # fmt: skip
    last = report["turn_64"]
    costs = [[name, f"{last['first_token_ms'][name]:.1f}", f"{last['bytes'][name]:,}"] for name in last["bytes"]]
    return (
        "# A chat model with a memory\n\nRecall in per cent by the number of turns since the fact was told.\n\n"
        + table(["dialogues", "answered by", *NEAR], rows)
        + "\n\n## Skills\n\nPer cent of the same items.\n\n"
        + table(["task", "before", "after", "n"], asked)
        + "\n\n## At turn 64\n\n"
        + table(["answered from", "first token (ms)", "bytes"], costs)
        + "\n"
    )


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where smollm2_memory.sh has worked")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Read, write."""
    report = report_of(options.folder)
    write_json(options.folder / "report.json", report)
    write_text(options.folder / "report.md", text_of(report))
    print(options.folder / "report.json")


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("INFO")
    with exit_status():
        main(chosen)
