"""Cells and tables."""

from evaluation.reporting.markdown import number, percent, table
from evaluation.reporting.records import Figure


def test_cells():
    assert percent(Figure(0.5, 0.01, 5, 10)) == "50.00 ± 1.00 (5 of 10)"
    assert percent(None) == "–"
    assert [number(x) for x in (1234.5, 0.12345, True, False, None, "fp32")] == [
        "1,234", "0.1235", "yes", "no", "–", "fp32",
    ]  # fmt: skip


def test_words_stand_left_and_numbers_right():
    lines = table(["asked", "said", "turns"], [["a|b", "c", "3"]], text=2).splitlines()
    assert lines[1:] == ["| --- | --- | ---: |", "| a\\|b | c | 3 |"]
