"""Whatever stands in a recipe: the class that reads it gives a configuration or refuses in one short line."""

import dataclasses
import re
import types
import typing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import config_hash, load_config, parse_config
from pipeline.errors import InputError
from pipeline.renamed_keys import dataclasses_in, renames_of, wrong_renames

ROOT = Path(__file__).parents[1]
STAGES = [
    ("data.blending.blend", "BlendConfig"),
    ("data.tokenizer", "TokenizerConfig"),
    ("post_training.initialise", "InitialiseConfig"),
    ("post_training.sft", "SFTStage"),
    ("post_training.dpo", "DPOStage"),
    ("post_training.grpo", "GRPOStage"),
    ("mrl.pretrain", "PretrainStage"),
    ("mrl.memory_pretrain", "MemoryPretrainStage"),
    ("mrl.memory_sft", "MemorySFTStage"),
    ("mrl.train", "MRLStage"),
    ("mrl.reward_model", "RewardModelStage"),
    ("mrl.convert", "ConvertStage"),
    ("evaluation.study.config", "StudyConfig"),
]
ODD = [
    None, True, False, 0, -1, -7, 1, 3, 10**30, 2**63, 0.0, -0.5, 0.5, 7.5, 1e300, float("nan"), float("inf"), "", " ",
    "x", "a/b", ".", "..", "\x00", "\x1b[0m", "\ud800", "é" * 3000, "auto", "never", [], [0], [""], [[]], {},
    {"kind": "custom"}, {"": 1}, {"x": None}, b"bytes", {1, 2},
]  # fmt: skip
"""Values that people and files bring."""


def class_of(module: str, name: str) -> type:
    return getattr(import_module(module), name)


def values_for(annotation: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Mostly values of the annotated shape with odd ones inside, so that the checks behind the types are reached."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    odd = st.sampled_from(ODD)
    if dataclasses.is_dataclass(annotation):
        return odd if depth > 3 else st.one_of(mappings_for(annotation, depth + 1), odd)
    if origin is typing.Literal:
        return st.sampled_from([*arguments, "none of them"])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values_for(a, depth) for a in arguments if a is not types.NoneType])
    if origin in (list, tuple) and arguments:
        return st.one_of(st.lists(values_for(arguments[0], depth + 1), max_size=2), odd)
    if origin is dict:
        return st.one_of(st.dictionaries(st.sampled_from(["a", "8", ""]), values_for(arguments[1], depth + 1)), odd)
    if annotation is int:
        return st.one_of(st.integers(-2, 300), odd)
    if annotation is float:
        return st.one_of(st.floats(-1, 2), odd)
    return odd


def mappings_for(cls: Any, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    hints = typing.get_type_hints(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    given_always = {name: values_for(hints[name], depth) for name in needed}
    sometimes = {f.name: values_for(hints[f.name], depth) for f in fields if f.name not in needed}
    old = {name: st.sampled_from(ODD) for name in renames_of(cls) if "." not in name}
    return st.fixed_dictionaries(given_always, optional={**sometimes, **old, "nonsense": st.just(1)})


@pytest.mark.parametrize(("module", "name"), STAGES, ids=lambda part: part)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mapping_is_a_configuration_or_one_short_line(module: str, name: str, data: st.DataObject) -> None:
    cls = class_of(module, name)
    mapping = data.draw(mappings_for(cls))
    try:
        config = parse_config(cls, mapping, source="recipe.yaml")
    except InputError as error:
        message = str(error)
        assert message.startswith("recipe.yaml")
        assert len(message) < 500
        assert message.isprintable()
    else:
        assert len(config_hash(config)) == 12


@pytest.mark.parametrize(("module", "name"), STAGES, ids=lambda part: part)
def test_every_refused_value_is_named_with_its_line(module: str, name: str, tmp_path) -> None:
    """Each key of the stage by itself, in a file: a refusal names a line of the file, and the key or its section."""
    cls = class_of(module, name)
    for field in dataclasses.fields(cls):
        for value in ("!!binary aGVsbG8=", "!!timestamp 2026-01-01", "9" * 5000, '"\\0"', "x" * 300_000, "[[[[[]]]]]"):
            path = tmp_path / "recipe.yaml"
            path.write_text(f"# a line before\n{field.name}: {value}\n")
            try:
                load_config(cls, path)
            except InputError as error:
                message = str(error).removeprefix(str(path))
                assert message.startswith((":1: ", ":2: ", ": ")), message
                assert len(str(error)) < 500


@pytest.mark.parametrize(("module", "name"), STAGES, ids=lambda part: part)
def test_old_names_lead_to_settings_of_today(module: str, name: str) -> None:
    assert wrong_renames(class_of(module, name)) == []


@pytest.mark.parametrize(("module", "name"), [s for s in STAGES if s[1] != "StudyConfig"])
def test_sections_are_frozen(module: str, name: str) -> None:
    """What was written into config.json is what ran: no section of a stage can change."""
    seen, waiting = set(), [class_of(module, name)]
    while waiting:
        section = waiting.pop()
        if section not in seen:
            seen.add(section)
            waiting += [c for hint in typing.get_type_hints(section).values() for c in dataclasses_in(hint)]
    assert [c.__name__ for c in seen if not c.__dataclass_params__.frozen] == []


@pytest.mark.parametrize(("module", "name"), [s for s in STAGES if s[1] not in ("BlendConfig", "StudyConfig")])
def test_an_empty_output_dir_is_refused(module: str, name: str) -> None:
    with pytest.raises(InputError, match="output_dir"):
        parse_config(class_of(module, name), {"output_dir": ""})


def test_every_class_of_a_script_is_here() -> None:
    scripts = [path for room in ("data", "post_training", "mrl") for path in (ROOT / room).rglob("*.py")]
    named = {name for path in scripts for name in re.findall(r"stage_main\((\w+)", path.read_text(encoding="utf-8"))}
    assert len(named) > 5
    assert named <= {name for _, name in STAGES}


ACCEPTED_ONCE = {
    ("data.blending.blend", "BlendConfig", "data/config/quickstart/stage_1.yaml"): [
        "name=''", "seed=-1", "held_out=-1", "datasets[0].entries=0", "datasets=[]", "datasets=[{name: ''}]",
        "license=''", "subsets={../x: {datasets: [{name: a.jsonl}]}}", "length={min: 5, max: 3}",
    ],
    ("data.tokenizer", "TokenizerConfig", "data/config/quickstart/tokenizer.yaml"): [
        "datasets=['']", "datasets=[]", "vocab_size=0", "rows=0", "model_max_length=0", "special_tokens.eos_token=''",
        "special_tokens.additional=['']", "seed=-1", "chat_template=''",
    ],
    ("post_training.initialise", "InitialiseConfig", "post_training/config/quickstart/model.yaml"): [
        "tokenizer=''", "architecture.hidden_size=0", "architecture.num_attention_heads=0", "start.copying=-1",
        "architecture.num_hidden_layers=0", "architecture.rope_theta=0", "architecture.num_key_value_heads=0",
        "start.look_back=[-1]", "architecture.initializer_range=.nan", "architecture.rope_theta=.inf",
    ],
    ("post_training.sft", "SFTStage", "post_training/config/quickstart/stage_1.yaml"): [
        "name=''", "description=''", "output_dir=''", "seed=-1", "seed=4294967296", "dataset.held_out.rows=0",
        "model.name=''", "dataset.name=''", "dataset.split=''", "dataset.rows=0", "dataset.rows=-3", "chat_template=''",
        "model.special_tokens=['']", "early_stopping={patience: 0}",
    ],
    ("mrl.pretrain", "PretrainStage", "mrl/config/quickstart/pretrain.yaml"): [
        "trainer.max_steps=0", "trainer.max_steps=-7", "trainer.accumulation=-1", "trainer.patience=0",
        "trainer.patience=-1", "optimizer.weight_decay=-1", "optimizer.learning_rate=0", "optimizer.learning_rate=.nan",
        "optimizer.learning_rate=-1", "optimizer.lr_multipliers.encoder=-1", "optimizer.betas=[1.0, 0.9]",
        "data.folder=''", "data.train=[{path: ''}]", "model.tokenizer=''", "trainer.processes=0", "push_to_hub=''",
        "trainer.max_minutes=0",
    ],
    ("mrl.memory_sft", "MemorySFTStage", "mrl/config/quickstart/memory_sft.yaml"): [
        "objective.other_turns=-1", "objective.other_share=-1", "held_out_dialogues=0",
    ],
    ("mrl.memory_pretrain", "MemoryPretrainStage", "mrl/config/quickstart/memory_pretrain.yaml"): [
        "max_turns=0", "held_out_dialogues=-1", "objective.mse_weight=-1",
    ],
    ("mrl.train", "MRLStage", "mrl/config/quickstart/mrl.yaml"): [
        "ppo.entropy_coef=-1", "ppo.target_kl=-1", "ppo.gamma=2", "ppo.gae_lambda=-1", "ppo.clip_range=-1",
        "ppo.algorithm=ppoo", "curriculum.resets.pool_size=0", "curriculum.resets.probability=2", "rewards.scale=0",
        "rollout.episodes=0", "rollout.temperature=-1", "rollout.max_new_tokens=0", "rewards.weights={fcts: 1}",
        "rounds_per_epoch=0", "critic.kind=foo", "curriculum.promote_at=9", "curriculum.unfreeze=[{parts: []}]",
        "curriculum.unfreeze=[{parts: [encoder], epoch: -5}]", "curriculum.turns=[]", "update.micro_batch_turns=0",
        "rounds_per_epoch=-1",
    ],
}  # fmt: skip
"""Values that a recipe took without a word, or that ended in a traceback (a walk over 195 of them)."""


@pytest.mark.parametrize(
    ("stage", "setting"),
    [(stage, setting) for stage, settings in ACCEPTED_ONCE.items() for setting in settings],
    ids=lambda part: part if isinstance(part, str) else part[1],
)
def test_values_outside_their_range_are_refused_by_key_and_place(stage: tuple[str, str, str], setting: str) -> None:
    module, name, recipe = stage
    load_config(class_of(module, name), ROOT / recipe)
    key = setting.partition("=")[0]
    with pytest.raises(InputError) as caught:
        load_config(class_of(module, name), ROOT / recipe, [setting])
    message = str(caught.value)
    assert message.startswith((f"--set {key}: ", f"{ROOT / recipe}:"))
    assert "is not a setting" not in message
    assert key.rpartition(".")[2] in message
