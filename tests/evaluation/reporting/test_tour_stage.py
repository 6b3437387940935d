"""Stages of the tour in a report: absent without their files, one line where these are damaged."""

import os
from dataclasses import replace

import pytest

from evaluation.report import write_report
from evaluation.reporting import tour_stage
from evaluation.reporting.reader import read_results
from evaluation.reporting.summary import summarize
from evaluation.reporting.tour_stage import TourStage, tour_stages
from tests.evaluation.results_on_disk import put, stage


def picture(files, folder):
    return [("Marbles", put(folder / "marbles.png", str(files["before"]["n"])))]


MARBLES = TourStage(
    order=1,
    files={"before": "tour/marbles/before.json", "after": "tour/marbles/after.json"},
    keys=lambda files: {"marbles": files["after"]["n"] - files["before"]["n"]},
    section=lambda files: f"## Marbles\n\nFrom {files['before']['n']} to {files['after']['n']}.\n",
    plots=picture,
)


@pytest.fixture
def marbles(tmp_path, monkeypatch):
    """A quickstart's folder in which one half of the stage's files is there."""
    monkeypatch.setattr(tour_stage, "tour_stages", lambda: {"marbles": MARBLES})
    stage(tmp_path / "stage_1", wall_s=3.0)
    put(tmp_path / "started_at", "100")
    os.utime(tmp_path / "stage_1" / "metrics.json", (130, 130))
    put(tmp_path / "tour" / "marbles" / "before.json", {"n": 3, "recall": {"memory_sft": {"1": 0.5}}})
    return tmp_path


def test_a_stage_gives_its_keys_its_section_and_its_picture(marbles):
    put(marbles / "tour" / "marbles" / "after.json", {"n": 8})
    stage(marbles / "tour" / "marbles", wall_s=9.0)
    results = read_results([marbles])
    report = summarize(results)
    assert report["marbles"] == 5
    assert "recall" not in report, "what a stage of the tour leaves is its own module's to read"
    assert report["wall_s"] == 30.0, "the tour is no part of the quickstart's time"
    assert list(report["stages"]) == ["stage_1", "tour/marbles"]
    write_report(results, marbles)
    page = (marbles / "report.md").read_text()
    assert "## Marbles\n\nFrom 3 to 8.\n" in page
    assert "![Marbles](plots/tour/marbles.png)" in page
    assert page.count("tour/marbles/after.json\n") == 1


def test_what_retention_says_in_passing_does_not_hide_a_stage(marbles):
    put(marbles / "tour" / "marbles" / "after.json", {"n": 8})
    put(
        marbles / "retention" / "retention.json",
        {"recall": {"memory_sft": {"1": 0.5}}, "marbles": {}, "state_bytes": 7},
    )
    report = summarize(read_results([marbles]))
    assert (report["marbles"], report["state_bytes"]) == (5, 7)


def test_of_files_whose_names_differ_from_run_to_run_the_newest_counts(marbles, monkeypatch):
    files = {"before": "tour/marbles/before.json", "after": "tour/marbles/*/results_*.json"}
    monkeypatch.setattr(tour_stage, "tour_stages", lambda: {"marbles": replace(MARBLES, files=files)})
    assert tour_stage.read_tour(marbles) == []
    for at, n in ((200, 8), (100, 5)):
        file = put(marbles / "tour" / "marbles" / "model" / f"results_2026-11-2{at}.json", {"n": n})
        os.utime(file, (at, at))
    assert summarize(read_results([marbles]))["marbles"] == 5
    assert "lm_eval" not in {key for key, value in summarize(read_results([marbles])).items() if value}


def test_absent_files_give_no_key_and_damaged_ones_a_line(marbles, caplog):
    assert "marbles" not in summarize(read_results([marbles]))
    assert "tour" not in caplog.text
    for text, message in (('{"n": 8', "can't be read"), ('{"m": 8}', "not what the tour's marbles leaves")):
        put(marbles / "tour" / "marbles" / "after.json", text)
        caplog.clear()
        assert "marbles" not in summarize(read_results([marbles]))
        [line] = [line for line in caplog.messages if "metrics.jsonl" not in line]
        assert "after.json" in line
        assert message in line


def test_every_module_of_the_tour_is_a_stage_that_reads_its_own_files():
    paths = [path for found in tour_stages().values() for path in found.files.values()]
    assert len(paths) == len(set(paths))
    assert all(path.startswith(("tour/", "lm_eval/")) for path in paths)
    places = [found.order for found in tour_stages().values()]
    assert places == sorted(places)
