"""A handful of what the models wrote, for the eye."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby, islice
from typing import Any

from evaluation.reporting.records import Evaluation, Results
from evaluation.reporting.summary import REASONING


@dataclass(frozen=True)
class Excerpt:
    """One generation of a model."""

    task: str
    right: bool
    asked: str
    answered: str
    wanted: str


def sample_section(results: Results) -> str:
    """A handful of generations of each model as Markdown."""
    parts = []
    for label, shown in excerpts_by_model(results).items():
        parts.append(f"### {label}\n\n" + "\n".join(map(_markdown, shown)))
    return "## Samples\n\n" + "\n".join(parts) if parts else ""


def _markdown(excerpt: Excerpt) -> str:
    block = [("asked", excerpt.asked), ("answered", excerpt.answered), ("wanted", excerpt.wanted)]
    body = "\n".join(f"[{name}]\n{text.strip()}" for name, text in block).replace("```", "'''")
    return f"{excerpt.task}, {'right' if excerpt.right else 'wrong'}:\n\n```text\n{body}\n```\n"


def samples_side_by_side(results: Results) -> str:
    """The same as HTML, a task's right and wrong answers next to each other."""
    parts = []
    for label, shown in excerpts_by_model(results).items():
        parts.append(f"<h3>{escape(label)}</h3>")
        for task, pair in groupby(shown, key=lambda excerpt: excerpt.task):
            parts.append(f'<p class="task">{escape(task)}</p><div class="pair">{"".join(map(_html, pair))}</div>')
    return '<section id="samples"><h2>Samples</h2>' + "".join(parts) + "</section>" if parts else ""


def _html(excerpt: Excerpt) -> str:
    rows = [("asked", excerpt.asked), ("answered", excerpt.answered), ("wanted", excerpt.wanted)]
    body = "".join(f"<dt>{name}</dt><dd>{escape(text.strip())}</dd>" for name, text in rows)
    outcome = "right" if excerpt.right else "wrong"
    return f'<article class="{outcome}"><h4>{outcome}</h4><dl>{body}</dl></article>'


def excerpts_by_model(results: Results, most: int = 4) -> dict[str, list[Excerpt]]:
    """At most so many generations of each model that wrote some."""
    found = {label: list(islice(excerpts(evaluation), most)) for label, evaluation in results.evaluations.items()}
    return {label: shown for label, shown in found.items() if shown}


def excerpts(evaluation: Evaluation, per_task: int = 2) -> Iterator[Excerpt]:
    """A few generations; of each task a right and a wrong one where both exist."""
    for task, rows in sorted(evaluation.samples.items(), key=lambda item: not item[0].startswith(REASONING)):
        written = [r for r in rows if is_written(r)]
        by_outcome = {is_right(r): r for r in reversed(written)}
        for right, row in sorted(by_outcome.items(), reverse=True)[:per_task]:
            asked, answer = asked_of(row), str(answer_of(row))
            yield Excerpt(
                task,
                right,
                "…" + asked[-420:] if len(asked) > 420 else asked,
                answer[:600] + "…" if len(answer) > 600 else answer,
                str(row.get("target"))[-200:],
            )


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
