"""report.json: each figure in it can be worked out on paper."""

import json
import math

import pytest

from evaluation.reporting.reader import read_results
from evaluation.reporting.records import Figure
from evaluation.reporting.summary import pooled, summarize
from tests.evaluation.results_on_disk import put


def test_report_json_has_the_names_others_read_results(out):
    report = summarize(read_results([out]))
    assert report["wall_s"] == 35.5
    assert report["peak_mb"] == 900.0
    assert list(report["stages"]) == ["stage_1", "stage_2", "stage_3"]
    assert report["stages"]["stage_2"] == {
        "wall_s": 20.5, "peak_mb": 900.0, "tokens_per_s": 4000.0, "final_loss": 0.5, "status": "complete",
    }  # fmt: skip
    # 300 items at 0.1 and 100 at 0.2: 50 of 400. The group's own unweighted 0.15 is not used.
    assert report["reasoning_accuracy"] == pytest.approx({"stage_1": 0.125, "stage_2": 0.825, "stage_3": 0.825})
    # sqrt((3/4 * 0.02)^2 + (1/4 * 0.04)^2)
    assert report["reasoning_stderr"]["stage_1"] == pytest.approx(math.sqrt(0.015**2 + 0.01**2))
    assert report["preference_accuracy"] == {"stage_2": 0.55, "stage_3": 0.95}
    json.dumps(report)


def test_wall_time_runs_from_the_recorded_start(out):
    newest = max(path.stat().st_mtime for path in out.rglob("*.json"))
    put(out / "started_at", f"{newest - 100}\n")
    assert summarize(read_results([out]), seconds=2.0)["wall_s"] == pytest.approx(102.0, abs=0.1)
    put(out / "started_at", "yesterday")
    assert summarize(read_results([out]))["wall_s"] == 35.5


def test_pooling_without_errors_or_sizes():
    assert pooled([Figure(0.5, None, 10), Figure(1.0, 0.1, 30)]) == Figure(0.875, None, 40)
    assert pooled([Figure(0.0), Figure(1.0)]) == Figure(0.5)
