"""Each word for a range takes its border values and refuses what lies beyond, in a line that names both."""

from dataclasses import dataclass

import pytest

from pipeline import ranges
from pipeline.config import parse_config
from pipeline.errors import InputError
from pipeline.ranges import (
    NamedPath,
    NonNegativeFloat,
    NonNegativeInt,
    OpenShare,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Seed,
    Share,
    ShareBelowOne,
    Text,
)
from pipeline.stage_config import TrainingStageConfig


@dataclass(kw_only=True)
class Section:
    count: PositiveInt = 1
    extra: NonNegativeInt = 0
    rate: PositiveFloat = 1.0
    decay: NonNegativeFloat = 0.0
    share: Share = 0.5
    kept: ShareBelowOne = 0.5
    part: OpenShare = 0.5
    some: PositiveShare = 0.5
    seed: Seed = 0
    name: Text | None = None
    folder: NamedPath | None = None
    sizes: list[PositiveInt] | None = None


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("count", [1, 9], [0, -1]),
        ("extra", [0, 1], [-1]),
        ("rate", [1e-9, 3], [0, -1e-9, float("nan"), float("inf")]),
        ("decay", [0, 2.5], [-1e-9, float("nan"), float("inf")]),
        ("share", [0, 1], [-0.1, 1.1, float("nan")]),
        ("kept", [0, 0.999], [1, -0.1]),
        ("part", [0.001, 0.999], [0, 1]),
        ("some", [0.001, 1], [0, 1.01]),
        ("seed", [0, 2**32 - 1], [-1, 2**32]),
        ("name", ["x", " x "], ["", " ", "\n"]),
        ("folder", ["x", ".", "/"], ["", "  "]),
        ("sizes", [[1, 2]], [[1, 0]]),
    ],
)
def test_borders(key, good, bad):
    for value in good:
        parse_config(Section, {key: value})
    for value in bad:
        with pytest.raises(InputError, match=rf"config: {key}"):
            parse_config(Section, {key: value})


def test_every_word_is_tested():
    tested = {annotation for name, annotation in vars(ranges).items() if name in ranges.__all__}
    used = {str(hint) for hint in Section.__annotations__.values()}
    assert all(any(str(word) in hint for hint in used) for word in tested)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"count": 0}, "config: count should be at least 1, not 0"),
        ({"kept": 1.0}, "config: kept should be below 1, not 1.0"),
        ({"name": ""}, "config: name is empty; fill it in or leave it out"),
        ({"folder": ""}, "config: folder: is empty; name a folder or a file"),
        ({"sizes": [1, 0]}, "config: sizes[1] should be at least 1, not 0"),
        ({"rate": float("nan")}, "config: rate should be a finite number, not nan"),
    ],
)
def test_messages(mapping, message):
    with pytest.raises(InputError) as caught:
        parse_config(Section, mapping)
    assert str(caught.value) == message


def test_an_empty_output_dir_is_refused_and_stages_are_frozen():
    with pytest.raises(InputError, match="output_dir"):
        parse_config(TrainingStageConfig, {"output_dir": ""})
    stage = parse_config(TrainingStageConfig, {"output_dir": "out"})
    with pytest.raises(AttributeError):
        stage.seed = 7  # ty: ignore
