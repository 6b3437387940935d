"""Numbers on command lines: what isn't one, or is too small, is refused by option before any work."""

import pytest

from evaluation import babi, retention
from evaluation.command_line import at_least, temperature
from evaluation.study import run

NEEDED = ["--model", "x", "--data", "y"]


@pytest.mark.parametrize(
    ("parse", "option", "value", "words"),
    [
        (retention.parse_options, "--temperature", "-1", "-1 is no temperature; give 0 (greedy) or more"),
        (retention.parse_options, "--temperature", "nan", "nan is no temperature; give 0 (greedy) or more"),
        (retention.parse_options, "--episodes", "0", "0 is too small; give 1 or more"),
        (retention.parse_options, "--max-new-tokens", "1.5", "'1.5' is no whole number"),
        (retention.parse_options, "--repeats", "1", "1 is too small; give 2 or more"),
        (babi.parse_options, "--episodes", "-3", "-3 is too small; give 1 or more"),
        (run.parse_options, "--jobs", "0", "0 is too small; give 1 or more"),
    ],
)
def test_a_wrong_number_is_refused_by_option(parse, option, value, words, capsys):
    needed = [] if parse is run.parse_options else NEEDED
    with pytest.raises(SystemExit) as stopped:
        parse([*needed, f"{option}={value}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {option}: {words}")


def test_right_numbers_are_taken():
    assert (at_least(0)("0"), at_least(1)("7")) == (0, 7)
    assert (temperature("0"), temperature("0.7")) == (0.0, 0.7)
