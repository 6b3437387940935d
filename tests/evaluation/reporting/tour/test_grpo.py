"""What the report says of GRPO."""

from evaluation.reporting.tour.grpo import STAGE


def test_figures_and_interval_are_those_of_the_run():
    answers = {"before": 0.5, "after": 0.62, "low": 0.04, "high": 0.2, "n": 300}
    files = {"metrics": {"answers_puzzles": answers, "steps": 3}}
    assert STAGE.keys(files) == {"grpo": answers}
    assert "| 50.0 | 62.0 | +12.0 [+4.0, +20.0] | 300 |" in STAGE.section(files)
