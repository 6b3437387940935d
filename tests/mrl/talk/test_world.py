"""Examples of a made-up world come from the data that a run names, wherever run and data were moved together."""

import json

import pytest

from mrl.talk.world import describe_world


@pytest.fixture
def run(episodes, tmp_path):
    metadata = {"name": "pets", "description": "Who has which pet.", "blends": {}, "files": []}
    (episodes / "dataset_metadata.json").write_text(json.dumps(metadata))
    run = tmp_path / "mrl"
    (run / "model").mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    source = {"path": "steps-3", "split": "test", "limit": None}
    config = {"output_dir": "elsewhere/mrl", "data": {"folder": "elsewhere/episodes", "held_out": [source]}}
    (run / "config.json").write_text(json.dumps(config))
    return run


def test_a_run_and_its_model_folder_show_a_held_out_dialogue(run, episodes):
    rows = [json.loads(line) for line in (episodes / "steps-3" / "test.jsonl").read_text().splitlines()]
    dialogues = [[row["query"], *(turn["query"] for turn in row["interactions"])] for row in rows]
    world = describe_world(str(run))
    assert world is not None
    assert world.description == "Its little world is pets: Who has which pet."
    assert any(list(world.examples) == list(dict.fromkeys(d)) for d in dialogues)
    assert describe_world(str(run / "model")) == world


def test_a_model_without_its_data_has_no_examples(run, episodes):
    (episodes / "dataset_metadata.json").unlink()
    assert describe_world(str(run)) is None
    assert describe_world("some/model") is None
