"""Turns what runs left on disk into report.md, report.json and plots.

    uv run evaluation/report.py outputs/quickstart
    uv run evaluation/report.py outputs/stage_3 results/lm_eval retention.json --output-dir report

RESULTS is any mix of stage folders (metrics.json, metrics.jsonl), lm_eval output folders (results_*.json,
samples_*.jsonl), retention files and the folder of a study (study.json); folders are searched all the way down. No
stage knows this script: it only reads.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation import plots
from evaluation.reporting.results_reader import Evaluation, Figure, Findings, natural, read
from evaluation.study import run as study
from pipeline.artifact import write_json, write_text
from pipeline.errors import InputError
from pipeline.provenance import git_commit
from pipeline.run import exit_status, setup_logging

PUBLISHED = Path(__file__).with_name("reporting") / "published.json"
STAGE_FIGURES = ("wall_s", "peak_mb", "tokens_per_s", "final_loss")
REASONING = "quickstart_"  # lm_eval tasks of held-out multi-step items begin so

# Row of the benchmark table, the published figure beside it, and the lm_eval figures it is the mean of.
BENCHMARKS = (
    ("arc_challenge (acc)", "arc_challenge", ("acc,none",)),
    ("arc_challenge (acc_norm)", "arc_challenge", ("acc_norm,none",)),
    ("bbh", "bbh", ("exact_match,get-answer",)),
    ("boolq", "boolq", ("acc,none",)),
    ("gsm8k (strict)", "gsm8k", ("exact_match,strict-match",)),
    ("gsm8k (flexible)", "gsm8k", ("exact_match,flexible-extract",)),
    ("ifeval (prompt, strict)", "ifeval", ("prompt_level_strict_acc,none",)),
    ("ifeval (mean of prompt and instruction, strict)", "ifeval",
     ("prompt_level_strict_acc,none", "inst_level_strict_acc,none")),
    ("mmlu", "mmlu", ("acc,none",)),
    ("piqa (acc)", "piqa", ("acc,none",)),
    ("piqa (acc_norm)", "piqa", ("acc_norm,none",)),
)  # fmt: skip


def pooled(figures: list[Figure]) -> Figure:
    """The mean over all items of several tasks, and its standard error (tasks are independent samples)."""
    sizes = [figure.n or 0 for figure in figures]
    if not all(sizes):  # without sizes every task counts the same
        sizes = [1] * len(figures)
    n = sum(sizes)
    value = sum(size * figure.value for size, figure in zip(sizes, figures, strict=True)) / n
    errors = [figure.stderr for figure in figures]
    stderr = None
    if all(error is not None for error in errors):
        stderr = math.sqrt(sum((size * error / n) ** 2 for size, error in zip(sizes, errors, strict=True)))
    return Figure(value, stderr, n if all(figure.n for figure in figures) else None)


def exact_match(evaluation: Evaluation, task: str) -> Figure | None:
    """The task's exact match; of several filters the first, which is how lm_eval lists its strictest."""
    return next((f for key, f in evaluation.figures[task].items() if key.startswith("exact_match,")), None)


def reasoning(evaluation: Evaluation) -> dict[str, Figure]:
    """Exact match of each held-out reasoning task, groups left out."""
    tasks = [t for t in evaluation.figures if t.startswith(REASONING) and t not in evaluation.groups]
    return {task: figure for task in sorted(tasks) if (figure := exact_match(evaluation, task))}


def preference(found: Findings) -> dict[str, float]:
    """Held-out preference accuracy: a stage reports what it reached, and where it began as that of the stage before."""
    table: dict[str, float] = {}
    names = list(found.stages)
    for name, stage in found.stages.items():
        if (before := stage.facts.get("preference_accuracy_before")) is not None:
            earlier = names[: names.index(name)]
            table.setdefault(earlier[-1] if earlier else f"before {name}", before)
        if (after := stage.facts.get("preference_accuracy")) is not None:
            table[name] = after
    return table


def summary(found: Findings, seconds: float = 0.0) -> dict[str, Any]:
    """report.json. Shares are 0 to 1; times in seconds; memory in MB (10^6 bytes). `seconds`: this script's time."""
    stages = {
        name: {key: stage.facts.get(key) for key in STAGE_FIGURES} | {"status": stage.facts.get("status")}
        for name, stage in found.stages.items()
    }
    walls = [s["wall_s"] for s in stages.values() if s["wall_s"] is not None]
    wall = sum(walls) if walls else None
    if found.started_at is not None and found.newest > found.started_at:
        wall = found.newest - found.started_at + seconds
    peaks = [s["peak_mb"] for s in stages.values() if s["peak_mb"] is not None]
    held_out = {label: tasks for label, e in found.evaluations.items() if (tasks := reasoning(e))}
    report = {
        "wall_s": None if wall is None else round(wall, 2),
        "peak_mb": max(peaks, default=None),
        "stages": stages,
        "reasoning_accuracy": {label: pooled(list(tasks.values())).value for label, tasks in held_out.items()},
        "reasoning_stderr": {label: pooled(list(tasks.values())).stderr for label, tasks in held_out.items()},
        "reasoning_by_task": {
            label: {task: vars(figure) for task, figure in tasks.items()} for label, tasks in held_out.items()
        },
        "preference_accuracy": preference(found),
        "lm_eval": {
            label: {task: {k: vars(f) for k, f in figures.items()} for task, figures in evaluation.figures.items()}
            for label, evaluation in found.evaluations.items()
        },
        "git_commit": git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Retention figures keep their own names; recall curves of later stages land in the same table.
    return {**report, **{k: v for k, v in found.retention.items() if k not in report}}


def percent(figure: Figure | None) -> str:
    """`12.3 ± 0.9`, and on how many of how many items where that isn't all of them."""
    if figure is None:
        return "–"
    error = "" if figure.stderr is None else f" ± {100 * figure.stderr:.2f}"
    part = f" ({figure.n} of {figure.total})" if figure.n and figure.total and figure.n < figure.total else ""
    return f"{100 * figure.value:.2f}{error}{part}"


def number(value: Any) -> str:
    """A cell: 1,234 or 0.1234."""
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def stage_section(found: Findings) -> str:
    """Time, memory, speed and loss by stage, and whatever else a stage reported as one number."""
    if not found.stages:
        return ""
    known = {*STAGE_FIGURES, "seed", "preference_accuracy", "preference_accuracy_before"}
    rows = [[name, *(number(s.facts.get(key)) for key in STAGE_FIGURES)] for name, s in found.stages.items()]
    lines = [table(["stage", "wall s", "peak MB", "real tokens/s", "final loss"], rows)]
    for name, stage in found.stages.items():
        more = {k: v for k, v in stage.facts.items() if k not in known and isinstance(v, int | float)}
        if more:
            lines.append(f"{name}: " + ", ".join(f"{k} {number(v)}" for k, v in more.items()))
        if (status := stage.facts.get("status", "complete")) != "complete":
            lines.append(f"**{name} is {status}**: its figures are those of a run that didn't end.")
    return "## Stages\n\n" + "\n\n".join(lines) + "\n"


def reasoning_section(found: Findings, facts: Mapping[str, Any]) -> str:
    """Held-out reasoning and preference accuracy."""
    parts = []
    held_out = {label: tasks for label, e in found.evaluations.items() if (tasks := reasoning(e))}
    if held_out:
        tasks = sorted({task for by_task in held_out.values() for task in by_task})
        rows = [[t.removeprefix(REASONING), *(percent(by.get(t)) for by in held_out.values())] for t in tasks]
        rows.append(["**all items**", *(percent(pooled(list(by.values()))) for by in held_out.values())])
        parts.append("## Held-out reasoning\n\nExact match of the final answer, per cent ± standard error.\n")
        parts.append(table(["task", *held_out], rows) + "\n")
    if facts["preference_accuracy"]:
        rows = [[stage, f"{100 * value:.2f}"] for stage, value in facts["preference_accuracy"].items()]
        parts.append("## Held-out preference\n\nShare of pairs whose chosen answer is preferred, per cent.\n")
        parts.append(table(["after", "accuracy"], rows) + "\n")
    return "\n".join(parts)


def _mean(evaluation: Evaluation, task: str, keys: tuple[str, ...]) -> Figure | None:
    figures = evaluation.figures.get(task) or evaluation.figures.get(f"local_{task}") or {}
    chosen = [figures[key] for key in keys if key in figures]
    if len(chosen) != len(keys):
        return None
    if len(chosen) == 1:
        return chosen[0]
    return Figure(sum(f.value for f in chosen) / len(chosen), None, chosen[0].n, chosen[0].total)


def benchmark_section(found: Findings) -> str:
    """lm_eval's seven benchmarks beside the published figures."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["models"]
    measured = {
        label: figures
        for label, evaluation in found.evaluations.items()
        if any(figures := [_mean(evaluation, task, keys) for _, task, keys in BENCHMARKS])
    }
    rows = []
    for i, (row, task, _) in enumerate(BENCHMARKS):
        ours = [figures[i] for figures in measured.values()]
        if not any(ours):
            continue
        theirs = []
        for model in published.values():
            figure = model["figures"].get(task)
            setting = f" ({figure['setting']})" if figure and "setting" in figure else ""
            theirs.append(f"{figure['value']}{setting}" if figure else "–")
        rows.append([row, *map(percent, ours), *theirs])
    if not rows:
        return ""
    notes = [
        f"- {name}: {model['source']}. Measured with {model['measured_with']}." for name, model in published.items()
    ]
    local = any(task.startswith("local_") for e in found.evaluations.values() for task in e.figures)
    if local:
        notes.append(
            "- Figures of local tasks: `evaluation/tasks/local_files.py` says how those rows differ from the Hub's."
        )
    head = ["benchmark", *measured, *published]
    title = "## Benchmarks\n\nPer cent ± standard error; the last two columns are published figures.\n\n"
    return title + table(head, rows) + "\n\n" + "\n".join(notes) + "\n"


def curves(tables: Any) -> dict[str, list[tuple[float, float]]]:
    """`{name: {"1": 0.98, ...}}` as points; entries that aren't tables of numbers by turn are passed over."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, by_turn in (tables if isinstance(tables, dict) else {}).items():
        if isinstance(by_turn, dict):
            points = [(float(t), v) for t, v in by_turn.items() if t.isdigit() and isinstance(v, int | float)]
            if points:
                lines[name] = sorted(points)
    return lines


def memory_section(facts: Mapping[str, Any]) -> str:
    """Recall by distance with its controls, latency by turn."""
    parts = []
    if recall := curves(facts.get("recall")):
        turns = sorted({turn for points in recall.values() for turn, _ in points})
        rows = [[f"{t:g}", *(number_at(points, t) for points in recall.values())] for t in turns]
        parts.append("## Memory\n\nExact recall on held-out episodes, per cent, by distance in turns.\n")
        parts.append(table(["distance", *(name.replace("_", " ") for name in recall)], rows) + "\n")
    if (ratio := facts.get("latency_ratio_64_1")) is not None:
        parts.append(f"Time to first token at turn 64, as a multiple of turn 1: {number(ratio)}.\n")
    if samples := facts.get("retention_samples"):
        rows = [[s["query"], s["answer"], s["wanted"], str(s["distance"])] for s in samples]
        parts.append("What was answered from memory alone:\n")
        parts.append(table(["asked", "answered", "wanted", "turns ago"], rows) + "\n")
    return "\n".join(parts)


def study_section(found: Findings) -> str:
    """The tables of evaluation/study/run.py: seeds, and one part changed at a time."""
    if not found.study:
        return ""
    return f"## Study of memory reinforcement learning\n\n{study.NOTE}\n\n{study.tables(found.study)}"


def number_at(points: list[tuple[float, float]], turn: float) -> str:
    """The share at `turn` in per cent."""
    return next((f"{100 * share:.1f}" for t, share in points if t == turn), "–")


def excerpts(evaluation: Evaluation, per_task: int = 2) -> Iterator[str]:
    """A few generations as blocks: asked, answered, wanted; a right and a wrong one where both exist."""
    for task, rows in sorted(evaluation.samples.items(), key=lambda item: not item[0].startswith(REASONING)):
        written = [r for r in rows if isinstance(r.get("resps"), list) and isinstance(_answer(r), str)]
        by_outcome = {bool(r.get("exact_match", r.get("prompt_level_strict_acc"))): r for r in reversed(written)}
        for right, row in sorted(by_outcome.items(), reverse=True)[:per_task]:
            asked = str(row.get("arguments", {}).get("gen_args_0", {}).get("arg_0", row.get("doc")))
            block = [
                ("asked", "…" + asked[-420:] if len(asked) > 420 else asked),
                ("answered", answer[:600] + "…" if len(answer := str(_answer(row))) > 600 else answer),
                ("wanted", str(row.get("target"))[-200:]),
            ]
            body = "\n".join(f"[{name}]\n{text.strip()}" for name, text in block).replace("```", "'''")
            yield f"{task}, {'right' if right else 'wrong'}:\n\n```text\n{body}\n```\n"


def _answer(row: Mapping[str, Any]) -> Any:
    """The first generation of a sample; choices among given texts have pairs here instead of a string."""
    answers = row["resps"][0] if row["resps"] else None
    return answers[0] if isinstance(answers, list) and answers else answers


def sample_section(found: Findings, most: int = 4) -> str:
    """A handful of generations of each model for the eye."""
    parts = []
    for label, evaluation in found.evaluations.items():
        shown = [text for text, _ in zip(excerpts(evaluation), range(most), strict=False)]
        if shown:
            parts.append(f"### {label}\n\n" + "\n".join(shown))
    return "## Samples\n\n" + "\n".join(parts) if parts else ""


def draw(found: Findings, facts: Mapping[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """Every plot there are figures for: (title, path)."""
    drawn = []
    losses = {name: lines for name, stage in found.stages.items() if (lines := _losses(stage.curve))}
    if losses:
        drawn.append(("Loss by step", plots.loss_curves(losses, folder / "loss.png")))
    accuracy = {
        label: {task.removeprefix(REASONING): (f.value, f.stderr) for task, f in reasoning(e).items()}
        for label, e in found.evaluations.items()
    }
    for stage, value in facts["preference_accuracy"].items():
        accuracy.setdefault(stage, {})["preference"] = (value, None)
    accuracy = {label: accuracy[label] for label in sorted(accuracy, key=natural) if accuracy[label]}
    if accuracy:
        path = plots.bars(accuracy, folder / "accuracy.png", ylabel="held-out accuracy")
        drawn.append(("Accuracy by stage", path))
    if recall := curves(facts.get("recall")):
        path = folder / "recall.png"
        plots.by_turn(recall, path, xlabel="distance in turns", ylabel="exact recall", share=True)
        drawn.append(("Recall by distance", path))
    if latency := curves(facts.get("latency")):
        path = folder / "latency.png"
        plots.by_turn(latency, path, xlabel="turn", ylabel="time to first token, ms", share=False)
        drawn.append(("Time to first token by turn", path))
    if found.study:
        drawn += study.draw(found.study, folder / "study")
    return drawn


def _losses(curve: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in curve:
        for key, name in (("loss", "training"), ("eval_loss", "held out")):
            if isinstance(row.get(key), int | float) and math.isfinite(row[key]) and isinstance(row.get("step"), int):
                series.setdefault(name, []).append((row["step"], row[key]))
    return series


def write_report(found: Findings, folder: Path, seconds: float = 0.0) -> None:
    """report.md, report.json and plots/ in `folder`."""
    facts = summary(found, seconds)
    drawn = draw(found, facts, folder / "plots")
    head = [f"# Report\n\n{facts['date']}, source {facts['git_commit'] or 'unknown'}"]
    if facts["wall_s"] is not None:
        head.append(f"Wall time {number(facts['wall_s'])} s, peak memory {number(facts['peak_mb'])} MB.\n")
    pictures = [f"![{title}]({path.relative_to(folder).as_posix()})\n" for title, path in drawn]
    sections = [
        "\n\n".join(head),
        stage_section(found),
        reasoning_section(found, facts),
        benchmark_section(found),
        memory_section(facts),
        study_section(found),
        "## Plots\n\n" + "\n".join(pictures) if pictures else "",
        sample_section(found),
        "## Read\n\n" + "\n".join(f"- {path.as_posix()}" for path in found.files) + "\n",
    ]
    write_json(folder / "report.json", facts)
    write_text(folder / "report.md", "\n".join(section for section in sections if section))


def main() -> None:
    """Command line."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS")
    parser.add_argument("--output-dir", type=Path, help="where to write; with one folder given, that folder")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args()
    setup_logging(options.log_level)
    with exit_status():
        folder = options.output_dir
        if folder is None:
            if len(options.results) > 1 or options.results[0].is_file():
                raise InputError("several RESULTS, or a file: name the folder of the report with --output-dir")
            folder = options.results[0]
        found = read(options.results)
        write_report(found, folder, time.monotonic() - begun)
        print(folder / "report.md")


if __name__ == "__main__":
    main()
