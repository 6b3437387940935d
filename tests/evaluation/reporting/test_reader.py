"""Which files of which folders are read, and under which names."""

import os

import pytest

from evaluation.reporting.reader import merge, read_results
from evaluation.reporting.records import natural
from evaluation.reporting.summary import preference, summarize
from pipeline.errors import InputError
from tests.evaluation.results_on_disk import harness, put, stage, task


def test_stages_in_folders_of_their_own_follow_in_the_order_they_ran(out):
    for age, name in ((300, "pretrain"), (200, "memory_pretrain"), (100, "memory_sft")):
        stage(out / "mrl" / name, wall_s=1.0)
        written = (out / "stage_1" / "metrics.json").stat().st_mtime - age
        os.utime(out / "mrl" / name / "metrics.json", (written, written))
    results = read_results([out])
    assert list(results.stages)[3:] == ["mrl/pretrain", "mrl/memory_pretrain", "mrl/memory_sft"]
    assert preference(results)["stage_2"] == 0.55


def test_stages_of_one_folder_stand_in_the_order_they_ran_and_a_series_by_number(out):
    """stage_1 was run again last; it still comes before stage_2, and all three before what began later."""
    first = (out / "stage_2" / "metrics.json").stat().st_mtime
    for name, seconds in (("reactive_base", 10), ("memory_sft", 20), ("full_history", 30), ("stage_1", 40)):
        if name != "stage_1":
            stage(out / name, wall_s=1.0)
        os.utime(out / name / "metrics.json", (first + seconds, first + seconds))
    results = read_results([out])
    assert list(results.stages) == ["stage_1", "stage_2", "stage_3", "reactive_base", "memory_sft", "full_history"]
    assert preference(results)["stage_2"] == 0.55


def test_bad_input_is_named(tmp_path, caplog):
    with pytest.raises(InputError, match="missing does not exist"):
        read_results([tmp_path / "missing"])
    with pytest.raises(InputError, match=r"no metrics\.json, results_\*\.json"):
        read_results([tmp_path])
    put(tmp_path / "a" / "metrics.json", '{"wall_s": 1')
    stage(tmp_path / "b", wall_s=2.0)
    assert summarize(read_results([tmp_path]))["stages"]["b"]["wall_s"] == 2.0
    assert "a/metrics.json can't be read" in caplog.text


def test_models_outside_lm_eval_folders_go_by_their_name(tmp_path):
    for model in ("org/one", "org/two"):
        folder = tmp_path / "results" / model.replace("/", "__")
        harness(folder, {"piqa": task(0.6, 0.01, 400, "acc,none")}, model_name=model)
    assert list(read_results([tmp_path]).evaluations) == ["one", "two"]


def test_small_things():
    assert sorted(["stage_10", "stage_2"], key=natural) == ["stage_2", "stage_10"]
    table = {"a": {"x": 1}}
    merge(table, {"a": {"y": 2}, "b": 3})
    assert table == {"a": {"x": 1, "y": 2}, "b": 3}
