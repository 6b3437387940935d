"""Runs that are compared with their start: what is run, and their figures by hand."""

import json

import pytest

from evaluation.study import scheduler
from evaluation.study.config import Job, Variant
from evaluation.study.preferences import preference_results, seed_difference
from evaluation.study.scheduler import measure_start, ordered_jobs, train_and_measure
from evaluation.study.tables import study_tables
from tests.evaluation.study.small_study import small


@pytest.fixture
def study(tmp_path):
    made = small(tmp_path)
    both = {"script": "rlhf.py", "compare_with": "polite", "data_folder": "pairs", "data": "pairs/test"}
    made.parts["rlhf"] = {name: Variant(**both, config=f"{name}.yaml", seeds=[1, 2, 3]) for name in ("apart", "both")}
    return made


def finish(study, job: Job, won: float, seconds: float) -> None:
    folder = job.folder(study)
    folder.mkdir(parents=True)
    told = {"untold_before": 0.1, "untold_after": 0.9, "told_before": 0.8, "told_after": 0.75}
    figures = {"win_rate": won, "recall_8_before": 0.9, "recall_8_after": 0.88, "abstention": told}
    (folder / "preferences.json").write_text(json.dumps({folder.name: figures}))
    (folder / "metrics.json").write_text(json.dumps({"train_s": seconds, "steps": 3}))


def test_such_a_run_starts_from_what_it_is_compared_with_and_is_done_once(study, monkeypatch):
    called = []
    monkeypatch.setattr(scheduler, "run_command", lambda command, log, threads: called.append(command))
    jobs = ordered_jobs(study, ["rlhf"])
    measure_start(study, jobs)
    assert called == [], "recall of the study's start is nothing to them"
    train_and_measure(study, jobs[0], 1)
    train, compare = called
    assert (train[1], {"model.path=polite", "data.folder=pairs", "seed=1"} <= set(train)) == ("rlhf.py", True)
    folder = str(jobs[0].folder(study))
    assert compare[1:] == [
        "evaluation/preferences.py", "--start", "polite", "--model", folder, "--data", "pairs/test",
        "--output-dir", folder,
    ]  # fmt: skip
    finish(study, jobs[0], 0.7, 60.0)
    (jobs[0].folder(study) / "model").mkdir()
    (jobs[0].folder(study) / "model" / "manifest.json").write_text("{}")
    called.clear()
    train_and_measure(study, jobs[0], 1)
    assert called == []


def test_runs_of_the_same_seed_are_compared(study):
    for seed, one, two in ((1, 0.7, 0.9), (2, 0.6, 0.7)):
        finish(study, Job("rlhf", "apart", seed), one, 60.0)
        finish(study, Job("rlhf", "both", seed), two, 90.0)
    finish(study, Job("rlhf", "apart", 3), 0.2, 60.0)
    found = preference_results(study)
    won = found["rlhf"]["differences"]["apart - both"]["win_rate"]
    # -0.2 and -0.1; with 2 seeds the t quantile is 12.706 and the standard error 0.05.
    assert (won["difference"], won["n"]) == (-0.15, 2)
    assert won["interval"] == pytest.approx([-0.15 - 12.706 * 0.05, -0.15 + 12.706 * 0.05], abs=1e-3)
    assert found["rlhf"]["differences"]["apart - both"]["train_s"]["difference"] == -30.0
    shown = study_tables({"preferences": found})
    assert "| apart | 3 | 50.0 | -2.0 | 90.0 | -5.0 | 60 |" in shown
    assert "| apart - both | 2 | -15.0 (-78.5 to 48.5) | 0.0 (0.0 to 0.0) |" in shown
    assert seed_difference([0.5]) == {"difference": 0.5, "interval": None, "n": 1}
