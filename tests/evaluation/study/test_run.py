"""The study: which runs it makes, that finished ones aren't made again, and what its tables say."""

import json
import threading
from pathlib import Path

import pytest
import yaml

from evaluation.study import run as study
from evaluation.study.run import Job, Study, Variant, collect, command_of, jobs_of, mean_recall, tables
from pipeline.config import load_config
from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def small(folder: Path) -> Study:
    settings = ["t.minutes={minutes}", "d=[{path: a}]"]
    return Study(
        output_dir=folder, start="start", config="mrl.yaml", data_folder="episodes", data="test",
        parts={
            "seeds": {"mrl": Variant(seeds=[1, 2])},
            "more": {
                "mrl": Variant(same_as="seeds/mrl"),
                "sft": Variant(script="sft.py", config="sft.yaml", like="seeds/mrl", settings=settings),
            },
        },
    )  # fmt: skip


def finish(study_: Study, job: Job, recall: float, seconds: float = 90.0) -> None:
    folder = job.folder(study_)
    folder.mkdir(parents=True)
    by = dict.fromkeys(("1", "2", "4", "8", "16", "all"), recall)
    table = {"recall": by, "recall_reset_control": {"2": 0.1}, "recall_foreign_control": {"2": 0.2}}
    (folder / "retention.json").write_text(json.dumps({"recall": table}))
    (folder / "metrics.json").write_text(json.dumps({"train_s": seconds, "peak_mb": 9.0, "steps": 3}))
    known = [{"step": n, "rollout_explained_variance": n / 10} for n in range(8)]
    lines = [{"step": 0, "eval_recall": 1.0}, *(known if job.name == "mrl" else [])]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_the_published_study_loads_and_names_only_recipes_that_exist():
    published = load_config(Study, ROOT / "evaluation/config/study.yaml")
    assert set(published.parts) >= {
        "seeds",
        "long",
        "more_supervision",
        "gradient",
        "critics",
        "algorithms",
        "strategies",
    }
    assert published.parts["seeds"]["mrl"].seeds == [1, 2, 3, 4, 5]
    for variants in published.parts.values():
        for variant in variants.values():
            assert (ROOT / variant.script).exists()
            assert (ROOT / (variant.config or published.config)).exists()


def test_fresh_weights_have_the_shape_of_the_quickstarts_model():
    published = load_config(Study, ROOT / "evaluation/config/study.yaml")
    given = published.parts["fresh_weights"]["mimetic_content"].settings
    (shape,) = (text.removeprefix("model.new=") for text in given if text.startswith("model.new="))
    recipe = yaml.safe_load((ROOT / "mrl/config/quickstart/pretrain.yaml").read_text())
    assert yaml.safe_load(shape) == recipe["model"]["new"]


def test_runs_that_copy_a_wall_time_come_last_and_get_it(tmp_path):
    made = small(tmp_path)
    jobs = jobs_of(made, ["more", "seeds"])
    assert [(job.part, job.name, job.seed) for job in jobs] == [
        ("seeds", "mrl", 1),
        ("more", "sft", 42),
        ("seeds", "mrl", 2),
    ], "the run that another waits for comes first"
    jobs = [jobs[0], jobs[2], jobs[1]]
    with pytest.raises(InputError, match="run that part of the study first"):
        command_of(made, jobs[-1])
    finish(made, jobs[0], 0.9)
    command = command_of(made, jobs[-1])
    assert command[1:4] == ["sft.py", "--config-path", "sft.yaml"]
    assert "t.minutes=1.500" in command
    assert "d=[{path: a}]" in command
    assert "model.path=start" in command
    made.settings = ["trainer.max_steps=9"]
    assert "trainer.max_steps=9" in command_of(made, jobs[0])
    assert "trainer.max_steps=9" not in command_of(made, jobs[-1])


def test_a_run_may_start_from_another_and_waits_for_it(tmp_path):
    made = small(tmp_path)
    made.parts["weak"] = {
        "after": Variant(start="weak/first", like="weak/middle"),
        "middle": Variant(start="weak/first"),
        "first": Variant(),
    }
    jobs = jobs_of(made, ["weak"])
    assert [job.name for job in jobs] == ["first", "middle", "after"]
    with pytest.raises(InputError, match="run that part of the study first"):
        command_of(made, jobs[1])
    finish(made, jobs[0], 0.4)
    assert f"model.path={jobs[0].folder(made)}" in command_of(made, jobs[1])
    finish(made, jobs[1], 0.6)
    start = tmp_path / "start" / "retention.json"
    start.parent.mkdir()
    start.write_text(json.dumps({"recall": {"recall": {"2": 0.9}}}))
    shown = tables(collect(made))
    assert "### Weak" in shown
    weak = [row for row in shown.split("### Weak")[1].splitlines() if row.startswith("| ")][1:]
    assert weak == [
        "| start: first | 40.0 | 40.0 | 40.0 | 40.0 | 40.0 | – | 40.0 | 40.0 | – | – | – |",
        "| middle | 60.0 | 60.0 | 60.0 | 60.0 | 60.0 | – | 60.0 | 60.0 | – | – | 90 |",
    ]


def test_runs_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="waits for"):
        Study(
            output_dir=Path(), start="", config="", data_folder="", data="",
            parts={"a": {"b": Variant(like="a/c"), "c": Variant(start="a/b")}},
        )  # fmt: skip


def test_a_run_starts_once_those_it_needs_are_done(tmp_path, monkeypatch):
    made = small(tmp_path)
    made.parts["chain"] = {"last": Variant(start="chain/first"), "first": Variant()}
    done: list[str] = []
    together, first_two = threading.Barrier(2, timeout=20), iter(range(2))

    def do(_: Study, job: Job, threads: int) -> None:
        if next(first_two, None) is not None:
            together.wait()  # two at a time, or this never opens
        done.append(f"{job.name}{job.seed}")

    monkeypatch.setattr(study, "do", do)
    jobs = jobs_of(made, ["seeds", "chain"])
    assert len(list(study.do_all(made, jobs, 2))) == 4
    assert done.index("last42") > done.index("first42")
    assert {"mrl1", "mrl2"} < set(done)


def test_a_failed_run_stops_the_study(tmp_path, monkeypatch):
    def do(*_: object) -> None:
        raise InputError("no such model")

    monkeypatch.setattr(study, "do", do)
    made = small(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        list(study.do_all(made, jobs_of(made, ["seeds"]), 1))


def test_a_run_takes_start_and_settings_from_the_one_it_is_based_on(tmp_path):
    parts = {"a": {"first": Variant(), "base": Variant(start="a/first", settings=["x=1"])}}
    parts["b"] = {"own": Variant(based_on="a/base", settings=["x=2"])}
    made = Study(output_dir=tmp_path, start="s", config="c", data_folder="", data="", parts=parts)
    assert made.parts["b"]["own"] == Variant(start="a/first", settings=["x=1", "x=2"])
    assert made.waits("b/own") == 1
    parts["b"]["third"] = Variant(based_on="b/own")
    with pytest.raises(ValueError, match="based on another"):
        Study(output_dir=tmp_path, start="s", config="c", data_folder="", data="", parts=parts)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no part/variant"):
        Study(
            output_dir=Path(), start="", config="", data_folder="", data="",
            parts={"a": {"b": Variant(like="a/c")}},
        )  # fmt: skip


def test_a_finished_run_is_not_made_again(tmp_path, monkeypatch):
    made, called = small(tmp_path), []
    monkeypatch.setattr(study, "run", lambda command, log, threads: called.append(command[1]))
    job = Job("seeds", "mrl", 1)
    study.do(made, job, 1)
    assert called == ["mrl/train.py", "evaluation/retention.py"]
    finish(made, job, 0.9)
    (job.folder(made) / "model").mkdir()
    (job.folder(made) / "model" / "manifest.json").write_text("{}")
    called.clear()
    study.do(made, job, 1)
    assert called == []


def test_drawn_answers_are_measured_where_that_is_asked_for(tmp_path, monkeypatch):
    made, temperatures = small(tmp_path), []
    monkeypatch.setattr(study, "run", lambda command, log, threads: temperatures.append(command))
    made.parts["seeds"]["mrl"].sampled = True
    study.do(made, Job("seeds", "mrl", 1), 1)
    found = [c[c.index("--temperature") + 1] for c in temperatures if "--temperature" in c]
    assert found == ["0.0", "1.0"]
    assert temperatures[-1][-1] == str(Job("seeds", "mrl", 1).folder(made) / study.SAMPLED)


def test_longer_dialogues_have_a_start_of_their_own(tmp_path, monkeypatch):
    made = small(tmp_path)
    made.parts["long"] = {"far": Variant(data="far_32")}
    measured = []
    monkeypatch.setattr(
        study, "measure", lambda _, model, data, folder, threads: measured.append((model, data, folder))
    )
    monkeypatch.setattr(study, "do", lambda *_: None)
    monkeypatch.setattr(study, "load_config", lambda *_: made)
    monkeypatch.setattr(study, "collect", lambda _: {})
    monkeypatch.setattr(study, "tables", lambda _: "")
    monkeypatch.setattr(study, "draw", lambda *_: None)
    study.main(study.parse_options(["--parts", "long"]))
    assert measured == [("start", "test", tmp_path / "start"), ("start", "far_32", tmp_path / "start-far_32")]


def test_figures_by_hand(tmp_path):
    made = small(tmp_path)
    finish(made, Job("seeds", "mrl", 1), 0.9)
    finish(made, Job("seeds", "mrl", 2), 0.8)
    for seed, value in ((1, 0.44), (2, 0.42)):
        drawn = Job("seeds", "mrl", seed).folder(made) / study.SAMPLED / "retention.json"
        drawn.parent.mkdir()
        drawn.write_text(json.dumps({"recall": {"recall": {"all": value}}}))
    start = tmp_path / "start" / "retention.json"
    start.parent.mkdir()
    start.write_text(json.dumps({"recall": {"recall": {"1": 1.0, "2": 0.5, "8": 0.7}}}))
    found = collect(made)
    assert [(row["seed"], row["start"], row["end"]) for row in found["mrl_seeds"]] == [(1, 0.6, 0.9), (2, 0.6, 0.8)]
    summary = found["mrl_seeds_summary"]
    assert (summary["mean"], summary["lowest"], summary["standard_deviation"]) == (0.85, 0.8, 0.0707)
    assert found["mrl_ablation"] == {}, "of the part there is only what it shares with the seeds"
    shown = tables(found)
    assert "| supervised start | 100.0 | 50.0 | – | 70.0 | – | – | 60.0 | – | – | – | – |" in shown
    assert "| seed 2 | 80.0 | 80.0 | 80.0 | 80.0 | 80.0 | – | 80.0 | 80.0 | 42.0 | 0.65 | 90 |" in shown
    finish(made, Job("more", "sft", 42), 0.7)
    found = collect(made)
    assert [row["mean"] for row in found["mrl_ablation"]["more"]["mrl"]] == [0.9, 0.8]
    assert "| sft | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | – | 70.0 | 70.0 | – | – | 90 |" in tables(found)
    mean = "| mrl, mean of 2 seeds | 85.0 | 85.0 | 85.0 | 85.0 | 85.0 | – | 85.0 | 85.0 | 43.0 | 0.65 | 90 |"
    assert mean in tables(found)
    assert mean_recall({"1": 0.0, "4": 0.5, "16": 1.0}) == 0.75
