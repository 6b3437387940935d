"""The reasoner that was given a memory: the same logits at the start, puzzles before and after, what it recalls."""

from collections.abc import Mapping
from typing import Any

from evaluation.reporting.tour_stage import Files, TourStage

FILES = {
    "converted": "tour/convert/converted/metrics.json",
    "before": "lm_eval/stage_3/*/results_*.json",
    "after": "tour/convert/lm_eval/*/results_*.json",
    "retention": "tour/convert/retention/retention.json",
}
AT = "8"
MODEL = "memory_sft"
"""What evaluation/retention.py calls the model's own answers."""


def accuracy(output: Mapping[str, Any]) -> tuple[float, int]:
    """Exact match over all items of all tasks of one results file of lm_eval, and their number."""
    sizes = {task: output["n-samples"][task]["effective"] for task in output["results"]}
    first = {
        task: next(value for key, value in found.items() if key.startswith("exact_match,"))
        for task, found in output["results"].items()
    }
    total = sum(sizes.values())
    return sum(sizes[task] * value for task, value in first.items()) / total, total


def keys(files: Files) -> dict[str, Any]:
    """`convert`."""
    recall = files["retention"]["recall"][MODEL]
    return {
        "convert": {
            "logit_difference": files["converted"]["logit_difference"],
            "reasoning_accuracy_before": round(accuracy(files["before"])[0], 4),
            "reasoning_accuracy_after": round(accuracy(files["after"])[0], 4),
            "recall_8": recall.get(AT),
        }
    }


def section(files: Files) -> str:
    """The figures in words, with the interval of recall and the controls."""
    found, total = keys(files)["convert"], accuracy(files["after"])[1]
    retention = files["retention"]
    shown = {name: table.get(AT) for name, table in retention["recall"].items() if table.get(AT) is not None}
    spans = retention["intervals"][MODEL].get(AT)
    interval = f" (95 per cent {100 * spans[0]:.1f} to {100 * spans[1]:.1f})" if spans else ""
    controls = ", ".join(f"{name} {100 * value:.1f}" for name, value in shown.items() if name != MODEL)
    recalled = f"{100 * shown[MODEL]:.1f} per cent{interval}; {controls}" if MODEL in shown else "not measured"
    return (
        "## A memory for the reasoner\n\n"
        "Stage 3's model, after conversations, with a memory: on one interaction its logits differed by "
        f"{found['logit_difference']:.1e} before it was trained. Afterwards it recalls at distance {AT}: {recalled}. "
        f"Its puzzles ({total} held-out ones): {100 * found['reasoning_accuracy_before']:.1f} per cent before, "
        f"{100 * found['reasoning_accuracy_after']:.1f} after.\n"
    )


STAGE = TourStage(order=70, files=FILES, keys=keys, section=section)
