"""Old names of settings: accepted with a warning that names today's, never beside it, and the lines stay right."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from pipeline.config import load_config, parse_config, with_changes
from pipeline.errors import InputError
from pipeline.ranges import PositiveInt
from pipeline.renamed_keys import renames_of, wrong_renames


@dataclass(kw_only=True)
class Update:
    RENAMED: ClassVar[Mapping[str, str]] = {"turns_at_once": "micro_batch_turns"}
    micro_batch_turns: PositiveInt = 1
    passes: int = 1


@dataclass(kw_only=True)
class Strategy:
    RENAMED: ClassVar[Mapping[str, str]] = {"least": "min_steps"}
    kind: Literal["recall", "talk"] = "recall"
    min_steps: int = 1


@dataclass(kw_only=True)
class Curriculum:
    RENAMED: ClassVar[Mapping[str, str]] = {"replay": "replay_fraction"}
    replay_fraction: float = 0.0
    strategies: list[Strategy] = field(default_factory=list)
    by_name: dict[str, Strategy] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Stage:
    RENAMED: ClassVar[Mapping[str, str]] = {"replay": "update", "trainer.longest": "curriculum.replay_fraction"}
    update: Update = field(default_factory=Update)
    curriculum: Curriculum = field(default_factory=Curriculum)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class LaterStage(Stage):
    RENAMED: ClassVar[Mapping[str, str]] = {"rounds": "trainer.rounds"}


def load(tmp_path, text, *overrides, cls=Stage):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return load_config(cls, path, overrides)


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("replay: {passes: 3}", lambda s: s.update.passes, 3),
        ("replay: {turns_at_once: 4}", lambda s: s.update.micro_batch_turns, 4),
        ("update: {turns_at_once: 4}", lambda s: s.update.micro_batch_turns, 4),
        ("curriculum: {replay: 0.5}", lambda s: s.curriculum.replay_fraction, 0.5),
        ("curriculum: {strategies: [{}, {least: 7}]}", lambda s: s.curriculum.strategies[1].min_steps, 7),
        ("curriculum: {by_name: {least: {least: 7}}}", lambda s: s.curriculum.by_name["least"].min_steps, 7),
        ("trainer: {longest: 0.25}", lambda s: s.curriculum.replay_fraction, 0.25),
    ],
)
def test_an_old_name_works_in_the_file_and_in_set(tmp_path, caplog, text, read, value):
    with caplog.at_level(logging.WARNING):
        assert read(load(tmp_path, text)) == value
    assert "s.yaml:1" in caplog.text
    assert "is now called" in caplog.text


def test_set_takes_old_names_and_wins_over_both_spellings_in_the_file(tmp_path, caplog):
    for text in ("update: {micro_batch_turns: 2, passes: 9}", "replay: {turns_at_once: 2, passes: 9}"):
        for key in ("update.micro_batch_turns", "replay.turns_at_once", "update.turns_at_once"):
            update = load(tmp_path, text, f"{key}=5").update
            assert (update.micro_batch_turns, update.passes) == (5, 9)
    assert load(tmp_path, "", "replay={turns_at_once: 6}").update.micro_batch_turns == 6
    assert load(tmp_path, "", "trainer.longest=0.5").curriculum.replay_fraction == 0.5
    assert "--set replay.turns_at_once: replay.turns_at_once is now called update" not in caplog.text  # replay first
    assert "--set replay.turns_at_once: replay is now called update; write that" in caplog.text


@pytest.mark.parametrize(
    ("text", "line", "old", "new"),
    [
        ("update: {}\nreplay: {}\n", 2, "replay", "update"),
        (
            "curriculum:\n  replay: 1\n  replay_fraction: 1\n",
            2, "curriculum.replay", "curriculum.replay_fraction",
        ),
        (
            "curriculum:\n  strategies:\n  - least: 1\n    min_steps: 1\n",
            3, "curriculum.strategies[0].least", "curriculum.strategies[0].min_steps",
        ),
        ("curriculum: {replay_fraction: 1}\ntrainer: {longest: 1}", 2, "trainer.longest", "curriculum.replay_fraction"),
    ],
)  # fmt: skip
def test_both_names_together_are_refused(tmp_path, text, line, old, new):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    expected = f"s.yaml:{line}: {old} is the old name of {new}, which is given as well; keep {new}"
    assert str(caught.value).endswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nreplay:\n  turns_at_once: 0\n", "s.yaml:3: update.micro_batch_turns should be at least 1"),
        ("replay:\n\n  turns_at_onse: 3\n", "s.yaml:3: update.turns_at_onse is not a setting"),
        ("\nreplay: 3\n", "s.yaml:2: update should be an object"),
    ],
)
def test_lines_of_moved_keys_stay_right(tmp_path, text, expected):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert expected in str(caught.value)


def test_subclasses_inherit_old_names(tmp_path):
    assert renames_of(LaterStage)["replay"] == "update"
    later = load(tmp_path, "rounds: 3\nreplay: {passes: 2}", cls=LaterStage)
    assert (later.trainer, later.update.passes) == ({"rounds": 3}, 2)


def test_changes_of_a_loaded_configuration_take_old_names_and_name_their_line(tmp_path, caplog):
    stage = load(tmp_path, "curriculum:\n  overrides:\n    '4':\n      replay.turns_at_once: 0\nreplay: {passes: 2}\n")
    changed = with_changes(stage, {"replay.turns_at_once": 8, "curriculum.replay": 0.5}, "curriculum.overrides.4")
    assert (changed.update, changed.curriculum.replay_fraction) == (Update(micro_batch_turns=8, passes=2), 0.5)
    assert stage.update.micro_batch_turns == 1
    with pytest.raises(InputError) as caught:
        with_changes(stage, stage.curriculum.overrides["4"], "curriculum.overrides.4")
    expected = "s.yaml:4: curriculum.overrides.4: update.micro_batch_turns should be at least 1, not 0"
    assert str(caught.value).endswith(expected)


def test_mappings_in_memory_stay_as_they_were():
    given = {"replay": {"turns_at_once": 2}}
    assert parse_config(Stage, given).update.micro_batch_turns == 2
    assert given == {"replay": {"turns_at_once": 2}}


def test_wrong_declarations_are_found():
    @dataclass
    class Wrong:
        RENAMED: ClassVar[Mapping[str, str]] = {"a": "b", "c": "d.e", "old": "update.none"}
        a: int = 0
        b: int = 0
        update: Update = field(default_factory=Update)

    assert wrong_renames(LaterStage) == []
    assert wrong_renames(Wrong) == [
        "Wrong: a is a setting of today", "Wrong: d.e is no setting", "Wrong: update.none is no setting",
    ]  # fmt: skip
