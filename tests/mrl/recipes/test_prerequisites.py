"""What a run needs first: what it names, and what making that needs; nothing else."""

import json
from pathlib import Path

import pytest

from mrl.recipes.prerequisites import needed_by
from mrl.recipes.reinforcement import MRLStage
from pipeline.artifact import seal
from pipeline.config import load_config
from pipeline.errors import InputError

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "mrl" / "config" / "quickstart" / "mrl.yaml"
CHAIN = ["data/episodes", "memory_tokenizer", "reactive_base", "reactive_sft", "memory_pretrain", "memory_sft"]


@pytest.fixture
def needed(tmp_path, monkeypatch):
    """Which prerequisites the shipped recipe has with some values set, in a place where nothing is built yet."""
    (tmp_path / "mrl").symlink_to(ROOT / "mrl")
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)

    def found(*overrides: str) -> list[str]:
        stage = load_config(MRLStage, SHIPPED, [*overrides, "output_dir=elsewhere/run"])
        chosen = needed_by({"model": vars(stage.model), "data": stage.data}, stage.prerequisites)
        return [each.folder.removeprefix("outputs/quickstart/") for each in chosen]

    return found


def test_all_is_needed_by_the_recipe_as_it_is_shipped(needed):
    assert needed() == CHAIN


def test_another_model_needs_none_of_what_would_make_this_one(needed):
    assert needed("model.path=mine/model") == ["data/episodes"]


def test_other_data_still_need_what_the_model_is_made_of(needed):
    assert needed("data.folder=mine") == CHAIN
    assert needed("data.folder=mine", "model.path=someone/model") == []


def test_data_below_a_folder_are_found_whatever_the_folder_is(needed):
    assert needed("model.path=m", "data.folder=outputs/quickstart", "data.train=[{path: data/episodes/steps_8}]") == [
        "data/episodes"
    ]


def test_what_is_built_needs_nothing_more(needed, tmp_path):
    made = tmp_path / "outputs/quickstart/memory_sft/model"
    made.mkdir(parents=True)
    seal(made, {})
    assert needed() == ["data/episodes", "memory_sft"]


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    one = [{"folder": str(tmp_path / "never"), "script": "x.py", "config": str(tmp_path / "no.yaml")}]
    stage = load_config(MRLStage, SHIPPED, [f"prerequisites={json.dumps(one)}", f"model.path={tmp_path}/never"])
    with pytest.raises(InputError, match=r"no\.yaml"):
        needed_by({"path": stage.model.path}, stage.prerequisites)
