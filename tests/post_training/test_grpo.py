"""grpo.py in this process: prompts from rows, a resume that ends as the unbroken run, refusals."""

import shutil

import pytest
import torch

from pipeline.config import parse_config
from pipeline.device import cpu_has_bf16
from pipeline.errors import InputError
from post_training.prompts import PromptsConfig, asked
from post_training.recipes.stages import GRPOStage
from post_training.stages import grpo
from post_training.stages.grpo import settled
from tests.post_training import toy
from tests.post_training.test_runs import same, steps_logged, weights


def recipe(start, data, output, *, rows: int | None = None, **changes) -> dict:
    made = toy.recipe(
        start, data, output, dataset={"held_out": {"rows": 6}, "rows": rows}, per_device_train_batch_size=8,
        num_generations=4, max_completion_length=6, max_steps=4, save_strategy="steps", save_steps=2, beta=0.01,
        learning_rate=1e-3,
    )  # fmt: skip
    return made | {"rewards": [{"kind": "string"}, {"kind": "length", "tokens": 3, "weight": 0.5}]} | changes


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return toy.write_rows(tmp_path_factory.mktemp("rows") / "asked.jsonl", toy.rows(30))


@pytest.fixture(scope="module")
def talking(start, rows, tmp_path_factory):
    """A start that says colours and ends, so that its answers are worth different rewards."""
    output = tmp_path_factory.mktemp("talking")
    toy.run("sft", toy.recipe(start, rows, output, max_steps=60, assistant_only_loss=True))
    return output


def test_held_out_rows_that_are_all_too_long_are_refused(start, rows, tmp_path):
    short = toy.write_rows(tmp_path / "short.jsonl", toy.rows(1))
    dataset = {
        "name": str(short),
        "max_prompt_length": 100,
        "evaluate_on": {"far": {"name": str(tmp_path / "long.jsonl")}},
    }
    toy.write_rows(tmp_path / "long.jsonl", [{"prompt": "red " * 200, "completion": "x", "answer": "x"}])
    with pytest.raises(InputError, match="none of the 1 held-out rows of far can be asked"):
        toy.run("grpo", recipe(start, rows, tmp_path / "run") | {"dataset": dataset | {"bad_rows": "drop"}})


@pytest.mark.parametrize("asked_of", [24, 4])
def test_a_run_that_is_taken_up_again_ends_as_the_unbroken_one(asked_of, talking, rows, tmp_path):
    """Of 4 rows: the two steps that are done again are the second epoch."""
    found = toy.run("grpo", whole_run := recipe(talking, rows, tmp_path, rows=asked_of))
    assert (found["steps"], found["rows_read"], found["rows"]) == (4, asked_of, asked_of)
    assert found["answers"]["n"] == 6
    assert found["answers"]["low"] <= found["answers"]["after"] - found["answers"]["before"] <= found["answers"]["high"]
    whole = weights(tmp_path)
    assert not same(weights(talking), whole)  # there was something to learn
    shutil.rmtree(tmp_path / "checkpoint-4")  # killed after the second step
    shutil.rmtree(tmp_path / "model")
    again = toy.run("grpo", whole_run)
    assert same(weights(tmp_path), whole)
    assert steps_logged(tmp_path) == [1, 2, 3, 4]
    assert (again["answers"], again["tokens"]) == (found["answers"], found["tokens"])
    assert "rewards" in (tmp_path / "config.json").read_text()
    assert not list(tmp_path.rglob("training_args.bin"))


def test_answers_are_measured_in_the_same_precision_before_and_after(start, rows, tmp_path, monkeypatch):
    found: list[bool] = []

    def recorded(model, tokenizer, asked, *_, **__):
        found.append(torch.is_autocast_enabled("cpu"))
        return [0.0] * len(asked)

    monkeypatch.setattr(grpo, "rights", recorded)
    made = recipe(start, rows, tmp_path, rows=4)
    made["trainer"] |= {"max_steps": 1, "bf16": True, "save_strategy": "no"}
    toy.run("grpo", made)
    assert found == [cpu_has_bf16()] * 2


def test_rows_become_prompts_and_references():
    config, by_column = PromptsConfig(name="x"), PromptsConfig(name="x", answer="right")
    user = {"role": "user", "content": "2+2?"}
    answer = {"role": "assistant", "content": "<think>so</think> 4"}
    assert asked({"messages": [user, answer]}, "f:1", config) == ([user], "4")
    assert asked({"messages": [user, answer], "right": 5}, "f:1", by_column) == ([user], "5")
    assert asked({"prompt": "2+2?", "right": "four"}, "f:1", by_column) == ([user], "four")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rewards": [{"kind": "thought"}]}, "rewards: none says what is right"),
        ({"rewards": [{"kind": "number"}, {"kind": "number"}]}, "two entries of kind number"),
        ({"early_stopping": {"patience": 2}}, "early_stopping"),
        ({"rewrds": []}, "rewards"),
    ],
)
def test_recipes_without_sense_are_refused(changes, said, start, rows, tmp_path):
    with pytest.raises(InputError, match=said):
        parse_config(GRPOStage, recipe(start, rows, tmp_path, **changes))


def test_what_can_not_be_resumed_or_is_not_here_is_refused():
    with pytest.raises(InputError, match="trainer.num_iterations"):
        settled({"num_iterations": 2})
    with pytest.raises(InputError, match="trainer.num_iterations and trainer.steps_per_generation"):
        settled({"steps_per_generation": 4})
    with pytest.raises(InputError, match="trainer.use_vllm: needs the package vllm and a GPU"):
        settled({"use_vllm": True})
    assert settled({"steps_per_generation": 2, "gradient_accumulation_steps": 2})["use_vllm"] is False


def test_rows_that_nothing_can_be_asked_of_are_refused_or_counted(start, tmp_path):
    bad = [*toy.rows(9), {"messages": [{"role": "user", "content": "say red"}]}]
    data = toy.write_rows(tmp_path / "bad.jsonl", bad)
    with pytest.raises(InputError, match="bad.jsonl.*10.*no answer in the last message"):
        toy.run("grpo", recipe(start, data, tmp_path / "out"))
