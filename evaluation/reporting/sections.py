"""The sections of report.md; each is empty where there are no figures for it."""

from collections.abc import Mapping
from typing import Any

from evaluation.gains import MEAN_OVER, in_points
from evaluation.plots import Points, curves
from evaluation.reporting.markdown import OTHER_FIGURES, number, percent, table
from evaluation.reporting.records import Results
from evaluation.reporting.summary import REASONING, STAGE_FIGURES, pooled, reasoning
from evaluation.study.tables import NOTE, study_tables

ABSTENTION = {"untold": "untold, said so", "told": "told, recalled", "told_abstained": "told, called untold"}
"""Columns of the table of untold questions, by their keys in a retention file."""


def stage_section(results: Results) -> str:
    """Time, memory, speed and loss by stage, and whatever else a stage reported as one number."""
    if not results.stages:
        return ""
    known = {*STAGE_FIGURES, "seed", "preference_accuracy", "preference_accuracy_before"}
    rows = [[name, *(number(s.metrics.get(key)) for key in STAGE_FIGURES)] for name, s in results.stages.items()]
    lines = [table(["stage", "wall s", "peak MB", "real tokens/s", "final loss"], rows)]
    others = []
    for name, stage in results.stages.items():
        more = {k: v for k, v in stage.metrics.items() if k not in known and isinstance(v, int | float)}
        if more:
            others.append(f"- {name}: " + ", ".join(f"{k} {number(v)}" for k, v in more.items()))
        if (status := stage.metrics.get("status", "complete")) != "complete":
            lines.append(f"**{name} is {status}**: its figures are those of a run that didn't end.")
    if others:
        lines += [f"### {OTHER_FIGURES}", "\n".join(others)]
    return "## Stages\n\n" + "\n\n".join(lines) + "\n"


def derived_section(results: Results) -> str:
    """What mrl/remember.py made of somebody's dialogues before it trained on them."""
    if not (counts := results.derived.get("counts")):
        return ""
    rows = [["dialogues to learn from", number(results.derived.get("dialogues"))]]
    rows += [[what, number(count)] for what, count in counts.items()]
    parts = ["## Rows made of the dialogues", table(["what is trained on", "how many"], rows)]
    if answer := results.derived.get("untold_answer"):
        parts.append(f"Asked for what was never told, these copies answer {answer}.")
    return "\n\n".join(parts) + "\n"


def command_section(results: Results) -> str:
    """Where the time went, by command, the longest first."""
    if not results.commands:
        return ""
    rows = [
        [f"`{c['command'].removeprefix('uv run ')[:100]}`", number(c["wall_s"]), number(c["start_s"])]
        for c in sorted(results.commands, key=lambda c: -(c["wall_s"] or 0.0))
    ]
    total = sum(c["wall_s"] or 0.0 for c in results.commands)
    note = f"{len(rows)} commands, {total:.0f} s; two of them at the same time, on half of the cores each."
    return (
        "\n\n".join(["## Time by command", note, table(["command", "wall s", "of it loading s"], rows, text=1)]) + "\n"
    )


def reasoning_section(results: Results, report: Mapping[str, Any]) -> str:
    """Held-out reasoning and preference accuracy."""
    parts = []
    held_out = {label: tasks for label, e in results.evaluations.items() if (tasks := reasoning(e))}
    if held_out:
        tasks = sorted({task for by_task in held_out.values() for task in by_task})
        rows = [[t.removeprefix(REASONING), *(percent(by.get(t)) for by in held_out.values())] for t in tasks]
        rows.append(["**all items**", *(percent(pooled(list(by.values()))) for by in held_out.values())])
        parts.append("## Held-out reasoning\n\nExact match of the final answer, per cent ± standard error.\n")
        parts.append(table(["task", *held_out], rows) + "\n")
    if report["preference_accuracy"]:
        rows = [[stage, f"{100 * value:.2f}"] for stage, value in report["preference_accuracy"].items()]
        parts.append("## Held-out preference\n\nShare of pairs whose chosen answer is preferred, per cent.\n")
        parts.append(table(["after", "accuracy"], rows) + "\n")
    return "\n".join(parts)


def memory_section(report: Mapping[str, Any]) -> str:
    """Recall by distance with its controls, latency by turn."""
    parts = []
    if recall := curves(report.get("recall")):
        turns = sorted({turn for points in recall.values() for turn, _ in points})
        rows = [[f"{t:g}", *(_share_at(points, t) for points in recall.values())] for t in turns]
        parts.append("## Memory\n\nExact recall on held-out episodes, per cent, by distance in turns.\n")
        parts.append(table(["distance", *(name.replace("_", " ") for name in recall)], rows) + "\n")
    if gains := (report.get("recall") or {}).get("mrl_gain"):
        rows = [[d, in_points(found), f"{found['n']:,}"] for d, found in gains.items()]
        parts.append(
            "What reinforcement gains over the model that it started from, in points: paired 95 per cent intervals "
            f"over dialogues; *mean* is over the distances {', '.join(d for d in MEAN_OVER if d in gains)}.\n"
        )
        parts.append(table(["distance", "gain", "questions"], rows) + "\n")
    if by_model := report.get("abstention_by_model"):
        rows = [
            [name.replace("_", " "), *(f"{100 * found[key]:.1f}" if key in found else "–" for key in ABSTENTION),
             *(number(found["n"][part]) for part in ("untold", "told"))]
            for name, found in by_model.items()
        ]  # fmt: skip
        head = ["model", *ABSTENTION.values(), "untold", "told"]
        parts.append("Questions for what was never told, in per cent, and how many questions that is:\n")
        parts.append(table(head, rows) + "\n")
    if (ratio := report.get("latency_ratio_64_1")) is not None:
        parts.append(f"Time to first token at turn 64, as a multiple of turn 1: {number(ratio)}.\n")
    if samples := report.get("retention_samples"):
        rows = [[s["query"], s["answer"], s["wanted"], str(s["distance"])] for s in samples]
        parts.append("What was answered from memory alone:\n")
        parts.append(table(["asked", "answered", "wanted", "turns ago"], rows, text=3) + "\n")
    return "\n".join(parts)


def _share_at(points: Points, turn: float) -> str:
    """The share at `turn` in per cent."""
    return next((f"{100 * share:.1f}" for t, share in points if t == turn), "–")


def study_section(results: Results) -> str:
    """The tables of evaluation/study/run.py: seeds, and one part changed at a time."""
    if not results.study:
        return ""
    return f"## Study of memory reinforcement learning\n\n{NOTE}\n\n{study_tables(results.study)}"
