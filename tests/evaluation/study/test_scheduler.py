"""Which runs a study makes and in which order, and that finished ones aren't made again."""

import json
import threading

import pytest

from evaluation.study import scheduler
from evaluation.study.config import Job, StudyConfig, Variant
from evaluation.study.results import SAMPLED, collect
from evaluation.study.scheduler import measure_start, ordered_jobs, run_all, train_and_measure, training_command
from evaluation.study.tables import study_tables
from pipeline.errors import InputError
from tests.evaluation.study.small_study import finish, small, write_answers


def test_runs_that_copy_a_wall_time_come_last_and_get_it(tmp_path):
    made = small(tmp_path)
    jobs = ordered_jobs(made, ["more", "seeds"])
    assert [(job.part, job.name, job.seed) for job in jobs] == [
        ("seeds", "mrl", 1),
        ("seeds", "mrl", 2),
        ("more", "sft", 42),
    ], "the run that another waits for comes first"
    with pytest.raises(InputError, match="run that part of the study first"):
        training_command(made, jobs[-1])
    finish(made, jobs[0], 0.9)
    command = training_command(made, jobs[-1])
    assert command[1:4] == ["sft.py", "--config-path", "sft.yaml"]
    assert "t.minutes=1.500" in command
    assert "d=[{path: a}]" in command
    assert "model.path=start" in command
    made.settings = ["trainer.max_steps=9"]
    assert "trainer.max_steps=9" in training_command(made, jobs[0])
    assert "trainer.max_steps=9" not in training_command(made, jobs[-1])


def test_a_part_brings_the_runs_of_others_that_it_needs(tmp_path):
    made = small(tmp_path)
    made.parts["start"] = {"other": Variant(), "short": Variant(seeds=[1, 2])}
    made.parts["long"] = {"flat": Variant(same_as="middle/flat"), "grown": Variant(start="start/short")}
    made.parts["middle"] = {"flat": Variant(start="start/short", seeds=[3, 4]), "unnamed": Variant()}
    assert [(job.path, job.seed) for job in ordered_jobs(made, ["long"])] == [
        ("start/short", 1),
        ("middle/flat", 3),
        ("middle/flat", 4),
        ("long/grown", 42),
    ]


def test_a_run_may_start_from_another_and_waits_for_it(tmp_path):
    made = small(tmp_path)
    made.parts["weak"] = {
        "after": Variant(start="weak/first", like="weak/middle"),
        "middle": Variant(start="weak/first"),
        "first": Variant(),
    }
    jobs = ordered_jobs(made, ["weak"])
    assert [job.name for job in jobs] == ["first", "middle", "after"]
    with pytest.raises(InputError, match="run that part of the study first"):
        training_command(made, jobs[1])
    finish(made, jobs[0], 0.4)
    assert f"model.path={jobs[0].folder(made)}" in training_command(made, jobs[1])
    finish(made, jobs[1], 0.6)
    start = tmp_path / "start" / "retention.json"
    start.parent.mkdir()
    start.write_text(json.dumps({"recall": {"recall": {"2": 0.9}}}))
    shown = study_tables(collect(made))
    assert "### Weak" in shown
    weak = [row for row in shown.split("### Weak")[1].splitlines() if row.startswith("| ")][1:]
    assert weak == [
        "| start: first | 40.0 | 40.0 | 40.0 | 40.0 | 40.0 | – | 40.0 | 40.0 | – | – | – | – | – |",
        "| middle | 60.0 | 60.0 | 60.0 | 60.0 | 60.0 | – | 60.0 | 60.0 | – | – | – | – | 90 |",
    ]


def test_a_run_starts_once_those_it_needs_are_done(tmp_path, monkeypatch):
    made = small(tmp_path)
    made.parts["chain"] = {"last": Variant(start="chain/first"), "first": Variant()}
    done: list[str] = []
    together, first_two = threading.Barrier(2, timeout=20), iter(range(2))

    def do(_: StudyConfig, job: Job, threads: int) -> None:
        if next(first_two, None) is not None:
            together.wait()  # two at a time, or this never opens
        done.append(f"{job.name}{job.seed}")

    monkeypatch.setattr(scheduler, "train_and_measure", do)
    jobs = ordered_jobs(made, ["seeds", "chain"])
    assert len(list(run_all(made, jobs, 2))) == 4
    assert done.index("last42") > done.index("first42")
    assert {"mrl1", "mrl2"} < set(done)


def test_a_failed_run_stops_the_study(tmp_path, monkeypatch):
    def do(*_: object) -> None:
        raise InputError("no such model")

    monkeypatch.setattr(scheduler, "train_and_measure", do)
    made = small(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        list(run_all(made, ordered_jobs(made, ["seeds"]), 1))


def test_a_finished_run_is_not_made_again(tmp_path, monkeypatch):
    made, called = small(tmp_path), []
    monkeypatch.setattr(scheduler, "run_command", lambda command, log, threads: called.append(command[1]))
    job = Job("seeds", "mrl", 1)
    train_and_measure(made, job, 1)
    assert called == ["mrl/train.py", "evaluation/retention.py"]
    finish(made, job, 0.9)
    (job.folder(made) / "model").mkdir()
    (job.folder(made) / "model" / "manifest.json").write_text("{}")
    called.clear()
    train_and_measure(made, job, 1)
    assert called == []


def test_drawn_answers_are_measured_where_that_is_asked_for(tmp_path, monkeypatch):
    made, temperatures = small(tmp_path), []
    monkeypatch.setattr(scheduler, "run_command", lambda command, log, threads: temperatures.append(command))
    made.parts["seeds"]["mrl"].sampled = True
    train_and_measure(made, Job("seeds", "mrl", 1), 1)
    values = [c[c.index("--temperature") + 1] for c in temperatures if "--temperature" in c]
    assert values == ["0.0", "1.0"]
    assert temperatures[-1][-1] == str(Job("seeds", "mrl", 1).folder(made) / SAMPLED)


def test_the_start_is_measured_on_every_set_of_episodes_that_runs_are_measured_on(tmp_path, monkeypatch):
    made, measured = small(tmp_path), []
    made.parts["long"] = {"far": Variant(data="far_32")}
    monkeypatch.setattr(scheduler, "measure", lambda _, *what, **__: measured.append(what[:3]))
    measure_start(made, ordered_jobs(made, ["long"]))
    assert measured == [("start", "test", tmp_path / "start"), ("start", "far_32", tmp_path / "start-far_32")]


def test_a_run_measured_elsewhere_is_compared_with_its_start_there(tmp_path, monkeypatch):
    made, called = small(tmp_path), []
    made.parts["weak"] = {
        "usual": Variant(start="seeds/mrl"),
        "other": Variant(start="seeds/mrl", data="full_16", seeds=[1, 2]),
    }
    monkeypatch.setattr(scheduler, "run_command", lambda command, log, threads: called.append(command))
    finish(made, Job("seeds", "mrl", 1), 0.5)
    started = tmp_path / "runs" / "seeds" / "mrl-seed1"
    train_and_measure(made, Job("weak", "usual", 42), 1)
    assert [command[1] for command in called] == ["mrl/train.py", "evaluation/retention.py"], "its start is measured"
    called.clear()
    train_and_measure(made, Job("weak", "other", 1), 1)
    (of_start,) = (command for command in called if str(started) in command)
    assert of_start[of_start.index("--data") + 1] == "full_16"
    assert of_start[-1] == str(started / "on-full_16")
    called.clear()
    measure_start(made, ordered_jobs(made, ["weak"]))
    assert [command[command.index("--data") + 1] for command in called] == ["test"], "no run from it is measured there"
    # What was measured on other episodes has questions of its own: the first file has none of them.
    for folder, name, hits in ((started, "test", (False, False)), (started / "on-full_16", "full_16", (True, False))):
        write_answers(folder, hits, name)
    (tmp_path / "start").mkdir()
    for folder, recall in ((tmp_path / "start", 0.9), (started / "on-full_16", 0.25)):
        (folder / "retention.json").write_text(json.dumps({"recall": {"recall": {"2": recall, "all": recall}}}))
    usual, other = Job("weak", "usual", 42), Job("weak", "other", 1)
    for job, data, hits in ((usual, "test", (False, True)), (other, "full_16", (True, True))):
        finish(made, job, 0.7)
        write_answers(job.folder(made), hits, data)
    results = collect(made)
    assert results["gains"]["weak"]["other"]["all"] == {"gain": 0.5, "low": 0.0, "high": 1.0, "n": 2}
    assert results["gains"]["weak"]["usual"]["all"]["gain"] == 0.5
    table = study_tables(results).split("### Weak")[1]
    rows = [row.split(" | ")[:3] for row in table.splitlines() if row.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") + " " + row[2] for row in rows] == [
        "start: mrl 50.0", "usual 70.0", "start, of full_16 25.0", "other, of full_16 70.0",
    ]  # fmt: skip


def test_rows_are_made_once_for_all_runs_that_learn_from_them(tmp_path, monkeypatch):
    made, called = small(tmp_path), []
    rows, there = str(tmp_path / "rows"), str(tmp_path / "there")
    made.parts["more"] |= {n: Variant(data_folder=x) for n, x in (("one", rows), ("two", rows), ("three", there))}
    made.data_configs = {rows: "blend.yaml"}
    monkeypatch.setattr(scheduler, "run_command", lambda command, log, threads: called.append((command[1:], log)))
    scheduler.make_data(made, ordered_jobs(made, ["seeds"]))
    assert called == []
    scheduler.make_data(made, ordered_jobs(made, ["more"]))
    blend = ["data/data_collection.py", "--config-path", "blend.yaml", "--output-dir", rows]
    assert called == [(blend, made.output_dir / "rows.log")]
