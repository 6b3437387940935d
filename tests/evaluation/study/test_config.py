"""The study's YAML: names of other variants, what is taken from them, the published study itself."""

from pathlib import Path

import pytest
import yaml

from evaluation.study import scheduler
from evaluation.study.config import StudyConfig, Variant
from evaluation.study.run import chosen_parts
from mrl.dpo import DPOStage
from mrl.memory_sft import MemorySFTStage
from mrl.train import MRLStage
from pipeline.config import load_config
from pipeline.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def test_the_published_studyloads_and_names_only_recipes_that_exist():
    published = load_config(StudyConfig, ROOT / "evaluation/config/study.yaml")
    assert set(published.parts) >= {
        "seeds",
        "long",
        "more_supervision",
        "gradient",
        "critic",
        "algorithms",
        "strategies",
    }
    assert published.parts["seeds"]["mrl"].seeds == [1, 2, 3, 4, 5]
    for variants in published.parts.values():
        for variant in variants.values():
            assert (ROOT / variant.script).exists()
            assert (ROOT / (variant.config or published.config)).exists()
    assert all((ROOT / config).exists() for config in published.data_configs.values())


def test_fresh_weights_have_the_shape_of_the_quickstarts_model():
    published = load_config(StudyConfig, ROOT / "evaluation/config/study.yaml")
    given = published.parts["fresh_weights"]["mimetic_content"].settings
    (shape,) = (text.removeprefix("model.new=") for text in given if text.startswith("model.new="))
    recipe = yaml.safe_load((ROOT / "mrl/config/quickstart/pretrain.yaml").read_text())
    assert yaml.safe_load(shape) == recipe["model"]["new"]


def test_runs_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="waits for"):
        StudyConfig(
            output_dir=Path(), start="", config="", data_folder="", data="",
            parts={"a": {"b": Variant(like="a/c"), "c": Variant(start="a/b")}},
        )  # fmt: skip


def test_a_run_takes_start_and_settings_from_the_one_it_is_based_on(tmp_path):
    parts = {"a": {"first": Variant(), "base": Variant(start="a/first", settings=["x=1"])}}
    parts["b"] = {"own": Variant(based_on="a/base", settings=["x=2"])}
    made = StudyConfig(output_dir=tmp_path, start="s", config="c", data_folder="", data="", parts=parts)
    assert made.parts["b"]["own"] == Variant(start="a/first", settings=["x=1", "x=2"])
    assert made.runs_before("b/own") == 1
    parts["b"]["third"] = Variant(based_on="b/own")
    with pytest.raises(ValueError, match="based on another"):
        StudyConfig(output_dir=tmp_path, start="s", config="c", data_folder="", data="", parts=parts)


def test_made_rows_that_nobody_learns_from_are_refused():
    with pytest.raises(ValueError, match="data_configs: no variant has the data_folder rows"):
        StudyConfig(
            output_dir=Path(), start="", config="", data_folder="rows", data="", parts={"a": {"b": Variant()}},
            data_configs={"rows": "blend.yaml"},
        )  # fmt: skip


def test_the_usual_parts_are_done_unless_others_are_named():
    given = {"output_dir": Path(), "start": "", "config": "", "data_folder": "", "data": ""}
    parts = {name: {"run": Variant()} for name in ("a", "b", "c")}
    study = StudyConfig(**given, parts=parts, usual=["c", "a"])
    assert chosen_parts(study, None) == ["c", "a"]
    assert chosen_parts(study, ["b"]) == ["b"]
    assert chosen_parts(study, ["all"]) == ["a", "b", "c"]
    assert chosen_parts(StudyConfig(**given, parts=parts), None) == ["a", "b", "c"]
    with pytest.raises(InputError, match="there is no part d; there are a, b, c, or all"):
        chosen_parts(study, ["a", "d"])
    with pytest.raises(ValueError, match="usual: there is no part d"):
        StudyConfig(**given, parts=parts, usual=["d"])


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no part/variant"):
        StudyConfig(
            output_dir=Path(), start="", config="", data_folder="", data="",
            parts={"a": {"b": Variant(like="a/c")}},
        )  # fmt: skip


def test_every_run_of_the_published_study_is_understood_by_its_script(monkeypatch, caplog):
    """Its settings are text, so no recipe's loader reads them before hours have gone by."""
    stages = {"mrl/train.py": MRLStage, "mrl/rlhf.py": MRLStage, "mrl/memory_sft.py": MemorySFTStage}
    stages["mrl/dpo.py"] = DPOStage
    monkeypatch.setattr(scheduler, "read_result", lambda _: {"train_s": 60.0})
    study = load_config(StudyConfig, ROOT / "evaluation/config/study.yaml")
    jobs = scheduler.ordered_jobs(study, list(study.parts))
    assert len(jobs) > 25
    for job in jobs:
        _, script, _, recipe, *flags = scheduler.training_command(study, job)
        loaded = load_config(stages[script], ROOT / recipe, flags[1::2])
        assert loaded.seed == job.seed
    assert [r.getMessage() for r in caplog.records if "is now" in r.getMessage()] == [], "an old key"
