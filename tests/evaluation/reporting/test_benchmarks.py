"""The published figures."""

import json

from evaluation.reporting.benchmarks import BENCHMARKS, PUBLISHED


def test_published_figures_have_sources_and_rows():
    published = json.loads(PUBLISHED.read_text())["models"]
    rows = {row for _, row, _ in BENCHMARKS}
    for model in published.values():
        assert model["source"].startswith("https://")
        assert set(model["figures"]) - {"mt_bench"} <= rows  # which lm_eval doesn't have
    assert rows - {"hellaswag"} == set(published["trlm-135M"]["figures"])
