"""Cells and tables of Markdown."""

from typing import Any

from evaluation.reporting.records import Figure

OTHER_FIGURES = "Everything else that they counted"
"""Heading of what few read; the page folds it."""


def percent(figure: Figure | None) -> str:
    """`12.3 ± 0.9`, and on how many of how many items where that isn't all of them."""
    if figure is None:
        return "–"
    error = "" if figure.stderr is None else f" ± {100 * figure.stderr:.2f}"
    part = f" ({figure.n} of {figure.total})" if figure.n and figure.total and figure.n < figure.total else ""
    return f"{100 * figure.value:.2f}{error}{part}"


def number(value: Any) -> str:
    """A cell: 1,234 or 0.1234; yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def table(head: list[str], rows: list[list[str]], text: int = 1) -> str:
    """A Markdown table; the first `text` columns are words, the others are numbers."""
    lines = [head, ["---"] * text + ["---:"] * (len(head) - text), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
