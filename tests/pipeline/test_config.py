"""The strict loader: what is right loads with the right type, what is wrong is named by file, line, key and remedy."""

import logging
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from pipeline.config import check_arguments, config_hash, load_config, load_yaml, parse_config, place_error, to_dict
from pipeline.errors import InputError, SettingError


@dataclass(kw_only=True)
class Optimiser:
    learning_rate: float = 1e-3
    name: Literal["adamw", "sgd"] = "adamw"


@dataclass(kw_only=True)
class Linear:
    kind: Literal["linear"]
    steps: int = 1


@dataclass(kw_only=True)
class Custom:
    kind: Literal["custom"]
    values: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Stage:
    output_dir: Path
    seed: int = 0
    push: bool = False
    optimiser: Optimiser = field(default_factory=Optimiser)
    sources: list[Optimiser] = field(default_factory=list)
    curriculum: Annotated[Linear | Custom, Field(discriminator="kind")] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("seed must not be negative; use 0 or more")


def load(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> Stage:
    path = tmp_path / "stage.yaml"
    path.write_text(text)
    return load_config(Stage, path, overrides)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path / "stage.yaml"), "F")


@pytest.mark.parametrize(
    ("written", "value"), [("3e-4", 3e-4), ("1e5", 1e5), ("1.5E-3", 1.5e-3), ("2", 2.0), ("-.5", -0.5)]
)
def test_floats_as_people_write_them(tmp_path, written, value):
    stage = load(tmp_path, f"output_dir: out\noptimiser: {{learning_rate: {written}}}")
    assert stage.optimiser.learning_rate == value
    assert isinstance(stage.optimiser.learning_rate, float)


def test_paths_lists_and_tagged_unions(tmp_path):
    stage = load(tmp_path, "output_dir: a/b\nsources: [{learning_rate: 1}]\ncurriculum: {kind: custom, values: [1, 2]}")
    assert stage.output_dir == Path("a/b")
    assert stage.sources == [Optimiser(learning_rate=1.0)]
    assert stage.curriculum == Custom(kind="custom", values=[1, 2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "output_dir: o\noptimiser:\n  lerning_rate: 1\n",
            "F:3: optimiser.lerning_rate is not a setting; did you mean learning_rate?",
        ),
        ("output_dir: o\noutput_dirs: p\n", "F:2: output_dirs is not a setting; did you mean output_dir?"),
        ("seed: 1\n", "F:1: output_dir is missing; add it"),
        ("output_dir: o\nseed: 2.7\n", "F:2: seed should be a valid integer, not 2.7"),
        ("output_dir: o\npush: no\n", "F:2: push should be a valid boolean (write true or false), not 'no'"),
        ("output_dir: o\nseed: -1\n", "F:1: seed must not be negative; use 0 or more"),
        ("output_dir: o\n\noutput_dir: p\n", "F:3: output_dir is given twice (first on line 1); keep one"),
        ("output_dir: o\nsources:\n- name: adam\n", "F:3: sources[0].name: 'adam' is not one of 'adamw' or 'sgd'"),
        (
            "output_dir: o\ncurriculum:\n  kind: custom\n  steps: 3\n",
            "F:4: curriculum.steps is not a setting; valid here: kind, values",
        ),
        (
            "output_dir: o\noptimiser: {learning_rate: .inf}",
            "F:2: optimiser.learning_rate should be a finite number, not inf",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, expected):
    assert refusal(tmp_path, text) == expected


def test_several_problems_are_all_named(tmp_path):
    assert refusal(tmp_path, "output_dir: o\nseed: x\npushh: true\n").endswith("(also wrong: seed)")


def test_missing_file_and_broken_yaml_are_one_line_each(tmp_path):
    with pytest.raises(InputError, match="no such configuration file"):
        load_config(Stage, tmp_path / "absent.yaml")
    assert refusal(tmp_path, "a: [1,").startswith("F:1: not valid YAML")
    assert "expected `key: value` lines" in refusal(tmp_path, "- 1\n")


def test_merge_keys_may_be_overridden(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  x: 3\n")
    assert load_yaml(path)["more"] == {"x": 3, "y": 2}
    path.write_text("base: &b {x: 1, y: 2}\nmore: &m\n  <<: *b\n  x: 3\nagain: *m\nlast: {<<: *m, x: 4}\n")
    assert load_yaml(path)["again"] == {"x": 3, "y": 2}
    assert load_yaml(path)["last"] == {"x": 4, "y": 2}


def test_overrides_are_typed_and_checked(tmp_path):
    stage = load(tmp_path, "output_dir: o", ("optimiser.learning_rate=2e-5", "seed=3"))
    assert (stage.optimiser.learning_rate, stage.seed) == (2e-5, 3)
    with pytest.raises(InputError, match=r"optimiser\.rate is not a setting"):
        load(tmp_path, "output_dir: o", ("optimiser.rate=1",))
    with pytest.raises(InputError, match="expected dotted\\.key=value"):
        load(tmp_path, "output_dir: o", ("seed",))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sources[1].learning_rate=0.5"], None),
        (["sources[2].learning_rate=0.5"], "--set sources[2].learning_rate: sources has 2 items, counted from 0"),
        (["seed[0]=1"], "--set seed[0]: seed is not a list"),
        (["sources.name=sgd"], "--set sources.name: sources is not a section"),
        (["sources[0]=3"], "--set sources[0]: sources[0] should be an object, not 3"),
        (["sources=[{name: adam}]"], "--set sources: sources[0].name: 'adam' is not one of 'adamw' or 'sgd'"),
        (["optimizer.name=sgd"], "--set optimizer.name: optimizer is not a setting; did you mean optimiser?"),
        (["sources[0].name=x", "sources=[]", "seed=x"], "--set seed: seed should be a valid integer, not 'x'"),
    ],
)
def test_overrides_reach_into_lists_and_are_named_where_they_are_wrong(tmp_path, overrides, expected):
    text = "output_dir: o\nsources:\n- name: adamw\n- name: sgd\n"
    if expected is None:
        assert load(tmp_path, text, overrides).sources[1] == Optimiser(learning_rate=0.5, name="sgd")
        return
    with pytest.raises(InputError) as caught:
        load(tmp_path, text, overrides)
    assert str(caught.value) == expected


def test_hash_follows_values_not_key_order():
    first = parse_config(Stage, {"output_dir": "o", "seed": 1})
    assert config_hash(first) == config_hash(parse_config(Stage, {"seed": 1, "output_dir": "o"}))
    assert config_hash(first) != config_hash(parse_config(Stage, {"output_dir": "o", "seed": 2}))
    assert to_dict(first)["output_dir"] == "o"


class Schedule(Enum):
    COSINE = "cosine"
    LINEAR = "linear"


@dataclass
class ThirdParty:
    warmup_steps: float = 0
    max_steps: int = -1
    scheduler: Schedule | str = "linear"
    bf16: bool | None = None
    level: str = field(default="passive", metadata={"choices": {"passive": 1, "debug": 2}})
    debug: str = ""
    reports: list[str] | str = "none"


def test_third_party_arguments(caplog):
    with caplog.at_level(logging.WARNING):
        checked = check_arguments(
            ThirdParty, {"warmup_ratio": 0.1, "scheduler": "cosine"}, "trainer", {"warmup_ratio": "warmup_steps"}
        )
    assert checked == {"warmup_steps": 0.1, "scheduler": "cosine"}
    assert check_arguments(ThirdParty, {"debug": "", "level": "debug"}, "trainer") == {"debug": "", "level": "debug"}
    assert "trainer.warmup_ratio is now called warmup_steps" in caplog.text


@pytest.mark.parametrize(
    ("given_arguments", "message"),
    [
        ({"max_step": 1}, "trainer.max_step is not a setting of ThirdParty; did you mean max_steps?"),
        ({"max_steps": 2.7}, "trainer.max_steps should be a valid integer"),
        ({"scheduler": "cosin"}, "trainer.scheduler: 'cosin' is not one of cosine, linear; did you mean cosine?"),
        ({"bf16": "yes"}, "trainer.bf16 should be a valid boolean"),
        ({"warmup_steps": float("nan")}, "trainer.warmup_steps should be a finite number, not nan"),
        ({"level": "debugg"}, "trainer.level: 'debugg' is not one of passive, debug; did you mean debug?"),
        ({"debug": " "}, "trainer.debug is empty; fill it in or leave it out"),
        ({"reports": [""]}, "trainer.reports is empty"),
        ({"max_steps": -2}, "trainer.max_steps should be at least -1, not -2"),
        ({"warmup_ratio": 0.1, "warmup_steps": 3}, "keep warmup_steps"),
    ],
)
def test_third_party_arguments_are_refused_by_name(given_arguments, message):
    with pytest.raises(InputError) as caught:
        limits = {"max_steps": Annotated[int, Field(ge=-1)]}
        check_arguments(ThirdParty, given_arguments, "trainer", {"warmup_ratio": "warmup_steps"}, limits)
    assert message in str(caught.value)


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=True) | st.text(max_size=4)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
keys = st.sampled_from(["output_dir", "seed", "push", "optimiser", "sources", "curriculum", "nonsense"])


@settings(max_examples=150)
@given(st.dictionaries(keys, trees, max_size=4))
def test_no_mapping_gives_anything_but_a_config_or_one_line(mapping):
    try:
        assert isinstance(parse_config(Stage, mapping), Stage)
    except InputError as error:
        assert "\n" not in str(error)


@settings(max_examples=150)
@given(st.text(alphabet="ab:-[]{}?|>&*!%@`'\"#, \n\t0.e", max_size=30))
def test_no_text_gives_anything_but_data_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    path.write_text(text)
    try:
        assert isinstance(load_yaml(path), dict)
    except InputError as error:
        assert str(path) in str(error)


def test_a_line_break_in_a_key_doesnt_break_the_line():
    with pytest.raises(InputError) as caught:
        parse_config(Stage, {"optimiser": {"\n": None}})
    assert "\n" not in str(caught.value)
    assert "is not a setting" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output_dir: o\nseed: !!binary aGVsbG8=\n", "F:2: seed has the tag 'tag:yaml.org,2002:binary'"),
        ("output_dir: o\nseed: !!timestamp 2026-01-01\n", "F:2: seed has the tag 'tag:yaml.org,2002:timestamp'"),
        ("output_dir: o\nseed: !!set {a, b}\n", "F:2: seed has the tag"),
        ("output_dir: o\nseed: !!python/object/apply:os.getcwd []\n", "F:2: seed has the tag"),
        ("output_dir: o\nseed: " + "9" * 5000, "F:2: not valid YAML: a number of 5000 digits; write at most 19"),
        ("output_dir: o\nseed: 9999999999999999999\n", "F:2: seed is a number of more than 19 digits"),
        ("output_dir: o\nseed: !!int x\n", "F: not valid YAML: invalid literal for int()"),
        ('output_dir: "a\\0b"\n', "F:1: output_dir holds the control character '\\x00'"),
        ('output_dir: "a\\ud800b"\n', "F:1: output_dir holds the control character"),
        ("output_dir: a\x07b\n", "F: not valid YAML: special characters are not allowed"),
        ("output_dir: o\n? [a, b]\n: c\n", "F:2: a key is itself a list or a section"),
        ("output_dir: o\nseed: '" + "x" * 300_000 + "'\n", "F:2: seed should be a valid integer, not 'xxx"),
        ("output_dir: o\n" + "k" * 1000 + ": 1\n", "is not a setting"),
        ("output_dir: o\nseed: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{n}: &{n} [{', '.join(['*' + p] * 9)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)),
            "F: holds more than 100,000 values",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_hostile_values_are_one_short_line(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    assert expected in message
    assert len(message) < 500


def test_a_setting_error_names_the_line_of_its_key(tmp_path):
    @dataclass
    class Section:
        first: int = 0
        second: int = 0

        def __post_init__(self) -> None:
            if self.second < self.first:
                raise SettingError("second", f"second is {self.second}; give at least first ({self.first})")

    @dataclass
    class Whole:
        section: Section = field(default_factory=Section)

    (tmp_path / "a.yaml").write_text("section:\n  first: 3\n  second: 2\n")
    with pytest.raises(InputError) as caught:
        load_config(Whole, tmp_path / "a.yaml")
    assert str(caught.value).endswith("a.yaml:3: section: second is 2; give at least first (3)")


def test_refusals_after_loading_get_the_line_of_the_key_they_begin_with(tmp_path):
    stage = load(tmp_path, "output_dir: o\nsources:\n- learning_rate: 1\n", ("seed=3",))
    source = f"{tmp_path / 'stage.yaml'}"
    for message, place in [
        ("sources[0].learning_rate: too high", f"{source}:3: "),
        ("sources[0].names is not a setting", f"{source}:3: "),
        ("output_dir: it is full", f"{source}:1: "),
        ("optimiser.name: unknown", f"{source}:1: "),
        ("seed: give another", "--set seed: "),
        ("push is an ordinary word here", ""),
        ("rows.jsonl:3: no answer", ""),
    ]:
        assert str(place_error(stage, InputError(message))) == place + message
    assert str(place_error(parse_config(Stage, {"output_dir": "o"}), InputError("seed: x"))) in ("config: seed: x",)


def test_messages_are_bounded_and_hold_no_secret(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    message = str(
        InputError("model.path: " + "x" * 10_000_000 + " hf_abcdefghijklmnopqrst and 0123456789abcdef\x1b[0m")
    )
    assert len(message) < 500
    assert message.startswith("model.path: xxx")
    assert message.endswith("*** and *** [0m")
