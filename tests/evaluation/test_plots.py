"""What the pictures show, read off the figure before it is saved."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from evaluation import plots


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were to be saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure) or path)
    return figures


def test_every_line_is_drawn_however_many_there_are(drawn):
    lines = {f"model_{i}": [(1.0, 0.5), (2.0, 0.1 * i)] for i in range(11)} | {"reset_control": [(1.0, 0.0)]}
    plots.by_turn(lines, Path("x.png"), xlabel="turn", ylabel="recall", share=True)
    (axes,) = drawn[0].axes
    shown = {line.get_label(): line for line in axes.get_lines()}
    assert list(shown) == [*(f"model {i}" for i in range(11)), "reset control"]
    assert shown["model 10"].get_ydata().tolist() == [0.5, 1.0]
    assert (shown["reset control"].get_linestyle(), shown["model 1"].get_linestyle()) == ("--", "-")


def test_the_mean_of_several_runs_is_marked_as_one(drawn):
    plots.dots({"two_seeds": [0.5, 0.7], "one": [0.6]}, Path("x.png"), xlabel="recall", line=("the_start", 0.55))
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["mean 60.0", "60.0"]
    (mark,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert mark.get_xdata().tolist() == pytest.approx([0.6])
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["the start 55.0"]


def test_bars_bear_their_figures(drawn):
    plots.bars({"stage_1": {"sums": (0.045, 0.01)}, "stage_2": {"sums": (1.0, None)}}, Path("x.png"), ylabel="share")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["4.5", "100"]


def test_tables_become_points_in_order_and_anything_else_is_passed_over():
    tables = {"a": {"16": 0.5, "2": 1, "all": 0.7}, "b": 3, "c": {"all": 1.0}}
    assert plots.curves(tables) == {"a": [(2.0, 1), (16.0, 0.5)]}
    assert plots.curves(None) == {}


def test_intervals_are_drawn_where_they_are_known(drawn):
    spans = plots.spans({"memory": {"8": [0.8, 0.95], "1": [0.9, 1.0], "all": [0.9, 0.9], "2": None}, "other": 3})
    assert spans == {"memory": [(1.0, 0.9, 1.0), (8.0, 0.8, 0.95)]}
    lines = {"memory": [(float(turn), 0.95) for turn in range(1, 12)], "reset_control": [(1.0, 0.0)]}
    plots.by_turn(lines, Path("x.png"), xlabel="turn", ylabel="recall", share=True, spans=spans)
    (bars,) = drawn[0].axes[0].collections
    assert [segment.tolist() for segment in bars.get_segments()] == [
        [[1.0, 0.9], [1.0, 1.0]],
        [[8.0, 0.8], [8.0, 0.95]],
    ]
    assert [label.get_text() for label in drawn[0].axes[0].get_xticklabels()] == ["1", "2", "4", "8"]
