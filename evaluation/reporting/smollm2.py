"""The real model after each stage of `make smollm2`: seven benchmarks, changes on the same items, how answers end."""

from collections.abc import Mapping
from typing import Any

from evaluation.metrics import paired_difference
from evaluation.reporting.markdown import table
from evaluation.reporting.records import Evaluation, Results

START = "untouched"
MODELS = (START, "stage_1", "stage_2", "stage_3", "grpo")
MEASURES = {
    "arc_challenge": "acc_norm,none",
    "bbh": "exact_match,get-answer",
    "boolq": "acc,none",
    "gsm8k": "exact_match,flexible-extract",
    "gsm8k_0shot": "exact_match,flexible-extract",
    "ifeval": "prompt_level_strict_acc,none",
    "mmlu": "acc,none",
    "piqa": "acc_norm,none",
}
"""The figure of each benchmark, as lm_eval calls it: measure, filter."""


def keys(results: Results) -> dict[str, Any]:
    """`smollm2` of report.json: value, stderr, n of each task after each stage; the change since the untouched weights
    on the same items with its 95 % interval; how written answers end. Empty where nothing untouched was asked."""
    if START not in results.evaluations:
        return {}
    found: dict[str, dict[str, Any]] = {}
    before = results.evaluations[START]
    for model in MODELS:
        if (after := results.evaluations.get(model)) is None:
            continue
        found[model] = {}
        for task, measure in MEASURES.items():
            figure = after.figures.get(f"local_{task}", {}).get(measure)
            if figure is None:
                continue
            entry: dict[str, Any] = {"value": figure.value, "stderr": figure.stderr, "n": figure.n}
            entry |= after.answers.get(f"local_{task}", {}) and {"answers": after.answers[f"local_{task}"]}
            if model != START and (change := _change(before, after, task, measure)):
                entry["change"] = change
            found[model][task] = entry
    return {"smollm2": found}


def _change(before: Evaluation, after: Evaluation, task: str, measure: str) -> dict[str, Any] | None:
    """The paired difference over the items that both were asked."""
    scores = [_scores(evaluation, task, measure) for evaluation in (before, after)]
    shared = sorted(scores[0].keys() & scores[1].keys())
    if not shared:
        return None
    return paired_difference(*([one[item] for item in shared] for one in scores), groups=range(len(shared)))


def _scores(evaluation: Evaluation, task: str, measure: str) -> dict[tuple[str, Any], float]:
    """The score of each item, by task (or the group's member) and place in it."""
    name, _, chosen = measure.partition(",")
    return {
        (member, row.get("doc_id")): float(row[name])
        for member, rows in evaluation.samples.items()
        if member == f"local_{task}" or member in evaluation.members.get(f"local_{task}", ())
        for row in rows
        if name in row and row.get("filter") == chosen
    }


def section(report: Mapping[str, Any]) -> str:
    """A table of the seven benchmarks, and one of how written answers end."""
    found: Mapping[str, Any] = report.get("smollm2", {})
    if not found:
        return ""
    rows = [
        [f"{task} ({MEASURES[task]})", *(_cell(tasks.get(task)) for tasks in found.values())]
        for task in MEASURES
        if any(task in tasks for tasks in found.values())
    ]
    told = (
        "Per cent ± standard error of so many items, the same for every model; in brackets the 95 % interval of the "
        "change since the untouched weights, item by item."
    )
    ends = [
        [model, task, *(f"{100 * a[key]:.0f}" for key in ("ended", "thinks", "closed")), f"{a['thought_tokens']:.0f}",
         str(a["n"])]
        for model, tasks in found.items() for task, entry in tasks.items() if (a := entry.get("answers"))
    ]  # fmt: skip
    parts = [f"## The real model\n\n{told}\n\n{table(['benchmark', *found], rows)}\n"]
    if ends:
        head = ["model", "task", "ended by EOS, %", "with `<think>`, %", "closed, %", "tokens of a thought", "answers"]
        parts.append(f"Written answers, and how they end:\n\n{table(head, ends, text=2)}\n")
    return "\n".join(parts)


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "–"
    error = "" if entry["stderr"] is None else f" ± {100 * entry['stderr']:.1f}"
    change = entry.get("change")
    low_high = "" if change is None else " [{:+.1f}, {:+.1f}]".format(*(100 * end for end in change["interval"]))
    return f"{100 * entry['value']:.1f}{error} (n {entry['n']}){low_high}"


__all__ = ["MEASURES", "MODELS", "keys", "section"]
