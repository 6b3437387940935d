"""A handful of what the models wrote, for the eye."""

from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.reporting.records import Evaluation, Results
from evaluation.reporting.summary import REASONING


def sample_section(results: Results, most: int = 4) -> str:
    """A handful of generations of each model for the eye."""
    parts = []
    for label, evaluation in results.evaluations.items():
        shown = [text for text, _ in zip(excerpts(evaluation), range(most), strict=False)]
        if shown:
            parts.append(f"### {label}\n\n" + "\n".join(shown))
    return "## Samples\n\n" + "\n".join(parts) if parts else ""


def excerpts(evaluation: Evaluation, per_task: int = 2) -> Iterator[str]:
    """A few generations as blocks: asked, answered, wanted; a right and a wrong one where both exist."""
    for task, rows in sorted(evaluation.samples.items(), key=lambda item: not item[0].startswith(REASONING)):
        written = [r for r in rows if is_written(r)]
        by_outcome = {is_right(r): r for r in reversed(written)}
        for right, row in sorted(by_outcome.items(), reverse=True)[:per_task]:
            asked = asked_of(row)
            block = [
                ("asked", "…" + asked[-420:] if len(asked) > 420 else asked),
                ("answered", answer[:600] + "…" if len(answer := str(answer_of(row))) > 600 else answer),
                ("wanted", str(row.get("target"))[-200:]),
            ]
            body = "\n".join(f"[{name}]\n{text.strip()}" for name, text in block).replace("```", "'''")
            yield f"{task}, {'right' if right else 'wrong'}:\n\n```text\n{body}\n```\n"


def is_written(row: Mapping[str, Any]) -> bool:
    """Whether a sample has words of the model's own; choices among given texts have none."""
    return isinstance(row.get("resps"), list) and isinstance(answer_of(row), str)


def is_right(row: Mapping[str, Any]) -> bool:
    """Whether lm_eval counted the sample as right."""
    return bool(row.get("exact_match", row.get("prompt_level_strict_acc")))


def asked_of(row: Mapping[str, Any]) -> str:
    """The prompt as the model read it."""
    return str(row.get("arguments", {}).get("gen_args_0", {}).get("arg_0", row.get("doc")))


def answer_of(row: Mapping[str, Any]) -> Any:
    """The first generation of a sample; choices among given texts have pairs here instead of a string."""
    answers = row["resps"][0] if row["resps"] else None
    return answers[0] if isinstance(answers, list) and answers else answers
