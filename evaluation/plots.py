"""The report's pictures. Each function draws one PNG from plain numbers whatever their source."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display on a training machine

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

Points = Sequence[tuple[float, float]]
Spans = Sequence[tuple[float, float, float]]
"""Intervals: place, low end, high end."""

CONTROLS = ("_control", "_baseline")
"""How names of lines end that only stand beside what is measured."""
COLOURS = ("#2f6db3", "#d1742f", "#3a8f5c", "#8a5aa8", "#a8443d", "#6b6b6b", "#b08d1f", "#3d9aa0")


def curves(tables: object) -> dict[str, Points]:
    """`{name: {"1": 0.98, ...}}` as points; entries that aren't tables of numbers by turn are passed over."""
    lines: dict[str, Points] = {}
    for name, by_turn in (tables if isinstance(tables, dict) else {}).items():
        if isinstance(by_turn, dict):
            points = [(float(t), v) for t, v in by_turn.items() if t.isdigit() and isinstance(v, int | float)]
            if points:
                lines[name] = sorted(points)
    return lines


def spans(tables: object) -> dict[str, Spans]:
    """`{name: {"1": [0.95, 0.99], ...}}` as intervals; what isn't one is passed over."""
    found: dict[str, Spans] = {}
    for name, by_turn in (tables if isinstance(tables, dict) else {}).items():
        if isinstance(by_turn, dict):
            ends = [(t, e) for t, e in by_turn.items() if t.isdigit() and isinstance(e, list) and len(e) == 2]
            found[name] = sorted((float(t), low, high) for t, (low, high) in ends)
    return found


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> Path:
    """A picture, and the same as a drawing beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):  # words stay words, ids the same
        figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None})
    plt.close(figure)
    return path


def loss_curves(
    stages: Mapping[str, Mapping[str, Points]], path: Path, bands: Mapping[str, Mapping[str, Spans]] | None = None
) -> Path:
    """A panel a stage: `stages[stage][series]` are (step, loss) points; short series get markers, `bands` a shade."""
    columns = min(len(stages), 3)
    rows = -(-len(stages) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False, layout="constrained")
    panels = list(grid.flat)
    for axes, (stage, series) in zip(panels, stages.items(), strict=False):
        for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
            style = "o-" if len(points) <= 16 else "-"
            axes.plot(*zip(*points, strict=True), style, color=colour, label=name, linewidth=1.3, markersize=3.5)
            if band := ((bands or {}).get(stage) or {}).get(name):
                axes.fill_between(*zip(*band, strict=True), color=colour, alpha=0.25, linewidth=0)
        axes.set_title(stage, fontsize=10)
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(fontsize=8, frameon=False)
        _tidy(axes)
    for axes in panels[len(stages) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("loss")
    return _save(figure, path)


def bars(groups: Mapping[str, Mapping[str, tuple[float, float | None]]], path: Path, *, ylabel: str) -> Path:
    """Grouped bars of shares (0 to 1): `groups[group][bar]` is (value, standard error or None)."""
    names = list(dict.fromkeys(bar for bars_ in groups.values() for bar in bars_))
    width = 0.8 / max(len(names), 1)
    figure, axes = plt.subplots(
        figsize=(max(4.5, 1.2 + 0.75 * len(groups) * len(names) ** 0.7), 3.6), layout="constrained"
    )
    for i, name in enumerate(names):
        shown = [(x, *group[name]) for x, group in enumerate(groups.values()) if name in group]
        places = [x + (i - (len(names) - 1) / 2) * width for x, _, _ in shown]
        values = [value for _, value, _ in shown]
        errors = [error or 0.0 for _, _, error in shown]
        drawn = axes.bar(
            places, values, width * 0.92, yerr=errors if any(errors) else None, capsize=2.5,
            color=COLOURS[i % len(COLOURS)], label=name, error_kw={"elinewidth": 1},
        )  # fmt: skip
        axes.bar_label(drawn, [f"{100 * v:.3g}" for v in values], padding=2, fontsize=8)
    axes.set_xticks(range(len(groups)), [group.replace("_", " ") for group in groups], fontsize=9)
    axes.set_ylim(0, 1.08)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel(ylabel)
    if len(names) > 1:
        axes.legend(fontsize=8, frameon=False, ncols=min(len(names), 4), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _tidy(axes)
    return _save(figure, path)


def dots(rows: Mapping[str, Sequence[float]], path: Path, *, xlabel: str, line: tuple[str, float]) -> Path:
    """A row a variant and a dot a run, shares (0 to 1) on an axis that shows small differences; of several runs a bar
    marks the mean. `line`: name and value of what they are held against."""
    figure, axes = plt.subplots(figsize=(6.2, 1.1 + 0.42 * len(rows)), layout="constrained")
    for place, values in enumerate(rows.values()):
        axes.plot(values, [place] * len(values), "o", color=COLOURS[0], markersize=6, alpha=0.8)
        mean = sum(values) / len(values)
        label = f"{100 * mean:.1f}"
        if len(values) > 1:
            axes.plot(mean, place, "|", color=COLOURS[0], markersize=16, markeredgewidth=2)
            label = f"mean {label}"
        axes.annotate(label, (max(values), place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    name = line[0].replace("_", " ")
    axes.axvline(line[1], color=COLOURS[5], linestyle="--", linewidth=1, label=f"{name} {100 * line[1]:.1f}")
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    every = [line[1], *(value for values in rows.values() for value in values)]
    margin = 0.1 * (max(every) - min(every)) + 0.004
    axes.set_xlim(min(every) - margin, max(every) + 2 * margin)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(xlabel)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _tidy(axes)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    return _save(figure, path)


def by_turn(
    lines: Mapping[str, Points],
    path: Path,
    *,
    xlabel: str,
    ylabel: str,
    share: bool,
    dashed: Sequence[str] = (),
    zoom: bool = False,
    spans: Mapping[str, Spans] | None = None,
) -> Path:
    """Values over turns. With `share` they run from 0 to 1 over distances that double, or with `zoom` over what is
    there. Controls and baselines are dashed, and what `dashed` names. `spans`: intervals of a line's values."""
    figure, axes = plt.subplots(figsize=(6.2, 3.8), layout="constrained")
    for colour, (name, points) in zip(cycle(COLOURS), lines.items(), strict=False):
        style = ("o" if len(points) <= 16 else "") + ("--" if name in dashed or name.endswith(CONTROLS) else "-")
        label = name.removesuffix("_ms").replace("_", " ")
        axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)
        if band := (spans or {}).get(name):
            axes.vlines(*zip(*band, strict=True), color=colour, linewidth=3, alpha=0.35)
    if share:
        turns = sorted({turn for points in lines.values() for turn, _ in points})
        if len(turns) > 8:  # no room for all on such an axis: those that double
            turns = [turn for turn in turns if turn >= 1 and math.log2(turn).is_integer()]
        axes.set_xscale("log", base=2)
        axes.set_xticks(turns, [f"{turn:g}" for turn in turns])
        axes.minorticks_off()
        if not zoom:
            axes.set_ylim(-0.03, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])  # values close to each other leave no room above them
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _tidy(axes)
    return _save(figure, path)
