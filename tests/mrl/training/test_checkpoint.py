"""Checkpoints: read without running code, damaged or foreign ones named, logs cut back to where they were."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from mrl.training.checkpoint import (
    cut_logs,
    find_checkpoint,
    load_state,
    load_weights,
    refuse_objects,
    resume_from,
    save_checkpoint,
)
from pipeline.errors import InputError
from pipeline.resumable import RESUMABLE, differing_keys
from pipeline.run import Run
from pipeline.stage_config import TrainingStageConfig


@dataclass(kw_only=True, frozen=True)
class Section:
    weights: dict[str, float] = field(default_factory=lambda: {"facts": 1.0})
    every: int = field(default=1, metadata=RESUMABLE)


@dataclass(kw_only=True, frozen=True)
class Stage(TrainingStageConfig):
    rewards: Section = field(default_factory=Section)


class Counter:
    """A part of a checkpoint."""

    def __init__(self) -> None:
        self.state = {"count": 0}

    def state_dict(self) -> dict:
        return dict(self.state)

    def load_state_dict(self, state: dict) -> None:
        if state["count"] > 100:
            raise ValueError("counted too far")
        self.state = dict(state)


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def run(tmp_path):
    stage = Stage(output_dir=tmp_path / "run")
    run = Run(stage, stage="test", output_dir=stage.output_dir, seed=1)
    run.dir.mkdir()
    return run


def save(run: Run, step: int, model: torch.nn.Module, **state) -> Path:
    return save_checkpoint(run, step, model.save_pretrained, {"fingerprint": "abc", **state}, keep=3)


def test_a_planted_pickle_does_not_run(run, model, tmp_path):
    folder = save(run, 1, model)
    victim = tmp_path / "ran"
    torch.save({"loop": Planted(victim)}, folder / "training_state.pt")
    with pytest.raises(InputError, match=r"training_state.pt holds objects that could run code"):
        load_state(folder)
    assert not victim.exists()


def test_what_could_not_be_read_again_is_never_written(run, model):
    for odd in (Counter(), {"a": [Path("x")]}, {1, 2}):
        with pytest.raises(TypeError, match="checkpoints hold tensors and plain values"):
            save(run, 1, model, part=odd)
    assert not list(run.dir.iterdir()), "nothing is left behind"
    refuse_objects({"a": [1, 2.0, "x", None, True, (torch.ones(2),)]})


def test_parts_get_their_state_back_or_the_reason_why_not(run, model):
    folder = save(run, 1, model, counter={"count": 7}, far={"count": 101})
    state, counter = load_state(folder, "abc"), Counter()
    resume_from(folder, {"counter": counter}, state)
    assert counter.state == {"count": 7}
    with pytest.raises(InputError, match="counted too far; give the old values"):
        resume_from(folder, {"far": counter}, state)
    with pytest.raises(InputError, match="has no state of pool: another version or recipe made it"):
        resume_from(folder, {"pool": counter}, state)
    with pytest.raises(InputError, match=r"other data \(fingerprint abc, now def\)"):
        load_state(folder, "def")


def test_a_damaged_checkpoint_gives_way_to_the_older_sound_one(run, model, caplog):
    older, newest = save(run, 1, model), save(run, 2, model)
    assert find_checkpoint(run) == newest
    weights = newest / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    assert find_checkpoint(run) == older
    assert "is damaged" in caplog.text


def test_truncated_weights_are_one_line(run, model):
    folder = save(run, 1, model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="model.safetensors can't be read"):
        load_weights(model, folder)


def test_logs_are_cut_back_to_the_checkpoint_whatever_stands_in_them(run, model):
    metrics, samples = run.dir / "metrics.jsonl", run.dir / "samples.jsonl"
    before = '{"step": 0, "a": 1}\nodd line\n{"step": 3, "rollout": 1}\n'
    metrics.write_text(before)
    samples.write_text('{"step": 0}\n')
    folder = save(run, 3, model)
    for file in (metrics, samples):
        with file.open("a") as lines:
            lines.write('{"step": 3, "rollout": 2}\n{"step": 4, "cut')
    cut_logs(run.dir, load_state(folder)["logs"])
    assert metrics.read_text() == before
    assert samples.read_text() == '{"step": 0}\n', "step 0 stays"


def test_a_shortened_log_is_said(run, model, caplog):
    (run.dir / "metrics.jsonl").write_text("{}\n")
    folder = save(run, 1, model)
    os.truncate(run.dir / "metrics.jsonl", 1)
    cut_logs(run.dir, load_state(folder)["logs"])
    assert "2 bytes that stood there at the checkpoint are gone" in caplog.text


def test_resume_needs_the_same_settings_of_every_section():
    old = {"rewards": {"weights": {"facts": 1.0}, "every": 1}, "seed": 42, "output_dir": "a", "name": None}
    new = {"rewards": {"weights": {"facts": 0.5}, "every": 9}, "seed": 42, "output_dir": "b", "name": "x"}
    assert differing_keys(Stage, old, new) == ["rewards.weights.facts"]
    assert differing_keys(Stage, {**old, "gone": 1}, old) == ["gone"]
    younger = {"rewards": {"weights": {"facts": 1.0}}, "output_dir": "a"}
    assert differing_keys(Stage, younger, old) == [], "keys that the checkpoint lacks stand for their defaults"
    assert differing_keys(Stage, younger, {**old, "seed": 1}) == ["seed"]


def test_a_checkpoint_of_other_settings_is_refused_before_anything_is_cut(run, model):
    (run.dir / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    save(run, 1, model)
    changed = Stage(output_dir=run.dir, rewards=Section(weights={"bleu": 1.0}))
    with pytest.raises(InputError, match="was made with another rewards.weights"):
        find_checkpoint(Run(changed, stage="test", output_dir=run.dir, seed=1))
    assert (run.dir / "metrics.jsonl").read_text()
