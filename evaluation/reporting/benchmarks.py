"""lm_eval's seven benchmarks beside published figures."""

import json
from pathlib import Path

from evaluation.reporting.markdown import percent, table
from evaluation.reporting.records import Evaluation, Figure, Results

PUBLISHED = Path(__file__).with_name("published.json")

# Row of the benchmark table, the published figure beside it, and the lm_eval figures it is the mean of.
BENCHMARKS = (
    ("arc_challenge (acc)", "arc_challenge", ("acc,none",)),
    ("arc_challenge (acc_norm)", "arc_challenge", ("acc_norm,none",)),
    ("bbh", "bbh", ("exact_match,get-answer",)),
    ("boolq", "boolq", ("acc,none",)),
    ("gsm8k (strict)", "gsm8k", ("exact_match,strict-match",)),
    ("gsm8k (flexible)", "gsm8k", ("exact_match,flexible-extract",)),
    ("hellaswag (acc_norm)", "hellaswag", ("acc_norm,none",)),
    ("ifeval (prompt, strict)", "ifeval", ("prompt_level_strict_acc,none",)),
    ("ifeval (mean of prompt and instruction, strict)", "ifeval",
     ("prompt_level_strict_acc,none", "inst_level_strict_acc,none")),
    ("mmlu", "mmlu", ("acc,none",)),
    ("piqa (acc)", "piqa", ("acc,none",)),
    ("piqa (acc_norm)", "piqa", ("acc_norm,none",)),
)  # fmt: skip


def _mean(evaluation: Evaluation, task: str, keys: tuple[str, ...]) -> Figure | None:
    figures = evaluation.figures.get(task) or evaluation.figures.get(f"local_{task}") or {}
    chosen = [figures[key] for key in keys if key in figures]
    if len(chosen) != len(keys):
        return None
    if len(chosen) == 1:
        return chosen[0]
    return Figure(sum(f.value for f in chosen) / len(chosen), None, chosen[0].n, chosen[0].total)


def benchmark_section(results: Results) -> str:
    """lm_eval's seven benchmarks beside the published figures."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["models"]
    measured = {
        label: figures
        for label, evaluation in results.evaluations.items()
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
        values = [model["figures"].get(task, {}).get("value") for model in published.values()]
        change = "–" if None in values else f"{values[0] - values[1]:+.2f}"
        rows.append([row, *map(percent, ours), *theirs, change])
    if not rows:
        return ""
    notes = [
        f"- {name}: {model['source']}. Measured with {model['measured_with']}." for name, model in published.items()
    ]
    local = any(task.startswith("local_") for e in results.evaluations.values() for task in e.figures)
    if local:
        notes.append(
            "- Figures of local tasks: `evaluation/tasks/local_files.py` says how those rows differ from the Hub's."
        )
    head = ["benchmark", *measured, *published, "published difference"]
    title = "## Benchmarks\n\nPer cent ± standard error; the last three columns are published figures.\n\n"
    return title + table(head, rows) + "\n\n" + "\n".join(notes) + "\n"
