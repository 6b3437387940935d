"""What all recipes of mrl/ share: frozen, ranged, old names taken with a warning."""

import dataclasses
import logging

import pytest

from mrl.memory_pretrain import MemoryPretrainStage
from mrl.memory_sft import MemorySFTStage
from mrl.pretrain import PretrainStage
from mrl.train import MRLStage
from mrl.training.optimizer import OptimizerConfig
from pipeline.config import parse_config, to_dict
from pipeline.errors import InputError
from pipeline.renamed_keys import wrong_renames

STAGES = (PretrainStage, MemoryPretrainStage, MemorySFTStage, MRLStage)
LEAST = {
    "output_dir": "out",
    "model": {"path": "start"},
    "data": {"train": [{"path": "rows"}], "held_out": [{"path": "rows"}]},
    "trainer": {"max_steps": 3},
}


@pytest.mark.parametrize("cls", STAGES)
def test_renames_lead_to_settings_and_nothing_can_be_changed_after_loading(cls):
    assert wrong_renames(cls) == []
    stage = parse_config(cls, LEAST)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.optimizer.learning_rate = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.seed = 1


@pytest.mark.parametrize(
    ("cls", "old", "new", "value"),
    [
        *((cls, "optimiser", "optimizer", OptimizerConfig(learning_rate=0.5)) for cls in STAGES),
        *((cls, "optimizer.rates", "optimizer.lr_multipliers", {"memory_attention": 0.5}) for cls in STAGES),
        (MemorySFTStage, "curriculum.least", "curriculum.min_steps", 3),
        (MemorySFTStage, "curriculum.most", "curriculum.max_steps", 3),
        (MemorySFTStage, "curriculum.review", "curriculum.replay_fraction", 0.5),
        (MemorySFTStage, "curriculum.turns", "curriculum.max_batch_turns", 7),
        (MemoryPretrainStage, "turns", "max_turns", 3),
    ],
)
def test_an_old_name_is_taken_with_a_warning_that_names_the_new_one(cls, old, new, value, caplog):
    tree = to_dict(value)
    for part in reversed(old.split(".")):
        tree = {part: tree}
    with caplog.at_level(logging.WARNING):
        stage = parse_config(cls, LEAST | tree)
    for part in new.split("."):
        stage = getattr(stage, part)
    assert stage == value
    assert any(f"{old} is now called {new}" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("cls", "key", "value"),
    [
        (PretrainStage, "trainer.max_steps", 0),
        (PretrainStage, "trainer.accumulation", -1),
        (PretrainStage, "trainer.patience", 0),
        (PretrainStage, "trainer.max_minutes", 0),
        (PretrainStage, "optimizer.learning_rate", 0),
        (PretrainStage, "optimizer.learning_rate", float("nan")),
        (PretrainStage, "optimizer.weight_decay", -1),
        (PretrainStage, "optimizer.betas", [0.9, 1.0]),
        (PretrainStage, "optimizer.lr_multipliers.decoder", -1),
        (PretrainStage, "optimizer.lr_multipliers.decodr", 1),
        (PretrainStage, "optimizer.unfreeze.decoder", -5),
        (PretrainStage, "optimizer.decay_share", 0),
        (PretrainStage, "optimizer.final_share", 2),
        (PretrainStage, "held_out_turns", 0),
        (PretrainStage, "model.path", ""),
        (MemoryPretrainStage, "optimizer.lr_multipliers.decoder", 0.5),
        (MemoryPretrainStage, "max_turns", 0),
        (MemorySFTStage, "stop_at", 7),
        (MemorySFTStage, "curriculum.start", 0),
        (MemorySFTStage, "curriculum.threshold", 1.5),
        (MemorySFTStage, "curriculum.replay_fraction", 1.0),
        (MemorySFTStage, "objective.other_turns", -1),
        (MemorySFTStage, "objective.other_share", 5),
        (MemorySFTStage, "objective.bptt_steps", 0),
        (PretrainStage, "objective.mask_share", 1.5),
        (PretrainStage, "objective.scored", "some"),
        (MemoryPretrainStage, "objective.noise", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(cls, key, value):
    tree = value
    *_, last = key.split(".")
    for part in reversed(key.split(".")):
        tree = {part: tree}
    merged = {**LEAST, **{k: {**LEAST.get(k, {}), **v} if isinstance(v, dict) else v for k, v in tree.items()}}
    with pytest.raises(InputError, match=last):
        parse_config(cls, merged)
