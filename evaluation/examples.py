"""Writes interesting_examples.md: what models of successive stages answered to the same questions, right and wrong.

    uv run evaluation/examples.py outputs/quickstart --output interesting_examples.md

Reads what lm_eval left with --log_samples. Nothing is picked by hand: of each task come the first questions, in the
order of lm_eval, of each of these kinds that there are: learnt (the first model was wrong, the last one is right),
forgotten (the other way round), never right, always right.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.reporting.reader import read_results
from evaluation.reporting.records import Evaluation
from evaluation.reporting.samples import answer_of, asked_of, is_right, is_written
from evaluation.reporting.smollm2 import MEASURES, MODELS
from pipeline.artifact import write_text
from pipeline.errors import InputError, nearest
from pipeline.run import exit_status, setup_logging

KINDS = {
    "learnt": (False, True),
    "forgotten": (True, False),
    "never right": (False, False),
    "always right": (True, True),
}
"""What a question is called by whether the first and the last model answered it right."""
LONGEST = 1200


def by_question(evaluation: Evaluation, task: str) -> dict[Any, Mapping[str, Any]]:
    """The samples of a task that have words, by question; of several readings of an answer the one that the report
    counts, else the first."""
    rows: dict[Any, Mapping[str, Any]] = {}
    written = [row for row in evaluation.samples.get(task, []) if is_written(row)]
    counted = MEASURES.get(task.removeprefix("local_"), "").rpartition(",")[2]
    chosen = [row for row in written if row.get("filter") == counted]
    for row in chosen or written:
        rows.setdefault(row.get("doc_id"), row)
    return rows


def pick(answers: Sequence[Mapping[Any, Mapping[str, Any]]], each: int) -> list[tuple[str, Any]]:
    """Kind and question of the first `each` questions of every kind. answers: of each model, by question."""
    shared = [question for question in answers[0] if all(question in others for others in answers)]
    outcomes = {question: (is_right(answers[0][question]), is_right(answers[-1][question])) for question in shared}
    return [
        (kind, question)
        for kind, outcome in KINDS.items()
        for question in [q for q in shared if outcomes[q] == outcome][:each]
    ]


def page(evaluations: Mapping[str, Evaluation], each: int, command: str, only: Sequence[str] = ()) -> str:
    """The Markdown page, of `only` these tasks where some are given. Raises InputError where one of those has no
    samples, and where no question was answered in words by every model."""
    # As the stages follow one another: stage_1 does before stage_2 by its name, the untouched model doesn't.
    labels = sorted(evaluations, key=lambda label: MODELS.index(label) if label in MODELS else 0)
    sections = []
    logged = sorted({task for evaluation in evaluations.values() for task in evaluation.samples})
    for task in only:
        if task not in logged:
            raise InputError(f"--tasks {task}: no samples of it in there{nearest(task, logged)}")
    tasks = only or logged
    for task in tasks:
        having = [label for label in labels if by_question(evaluations[label], task)]
        if not having:
            continue
        answers = [by_question(evaluations[label], task) for label in having]
        counts = ", ".join(
            f"{label} {sum(map(is_right, rows.values()))} of {len(rows)}"
            for label, rows in zip(having, answers, strict=True)
        )
        blocks = [f"## {task}\n\nRight: {counts}."]
        for kind, question in pick(answers, each):
            blocks.append(f"### {kind}: question {question}\n\n" + _block([rows[question] for rows in answers], having))
        sections.append("\n\n".join(blocks))
    if not sections:
        raise InputError("no samples in there that were written freely; run lm_eval with --log_samples")
    told = f"Made by `{command}`; none is written or chosen by hand. Models: {', '.join(labels)}."
    head = f"# Interesting examples\n\n{told}"
    return "\n\n".join([head, *sections]) + "\n"


def _block(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    said = [
        f"[{label}, {'right' if is_right(row) else 'wrong'}]\n{shortened(str(answer_of(row)))}"
        for label, row in zip(labels, rows, strict=True)
    ]
    parts = ["[asked]\n" + shortened(asked_of(rows[0])), *said, f"[wanted]\n{str(rows[0].get('target'))[-200:]}"]
    return "```text\n" + "\n\n".join(parts).replace("```", "'''") + "\n```"


def shortened(text: str) -> str:
    """The text without blanks around it; of a long one the beginning and the end."""
    text = text.strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST * 2 // 3]}\n[…]\n{text[-LONGEST // 3 :]}"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="folders with lm_eval's output")
    parser.add_argument("--output", type=Path, default=Path("interesting_examples.md"))
    parser.add_argument("--each", type=int, default=1, help="questions of each kind and task")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=[], help="these alone, by commas")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Read, choose, write."""
    if options.each < 1:
        raise InputError(f"--each {options.each}: give at least 1")
    results = read_results(options.results)
    if not results.evaluations:
        raise InputError(f"{options.results[0]}: no results of lm_eval in there; run it with --log_samples")
    read = " ".join(path.as_posix() for path in options.results)
    command = f"uv run evaluation/examples.py {read} --output {options.output.as_posix()} --each {options.each}"
    command += f" --tasks {','.join(options.tasks)}" if options.tasks else ""
    write_text(options.output, page(results.evaluations, options.each, command, options.tasks))
    print(options.output)


if __name__ == "__main__":
    setup_logging()
    with exit_status():
        main(parse_options())
