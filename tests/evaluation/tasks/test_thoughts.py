"""What stands after the thought is scored: a real tokenizer, lm_eval's own decoding, the filters of our tasks."""

from pathlib import Path

import pytest
import yaml
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.utils import postprocess_generated_text
from transformers import AutoTokenizer

from post_training.policy import PolicyConfig, load_policy
from tests.post_training import toy

ROOT = Path(__file__).parents[3]
TEXT = "<think>\nblue, so The answer is: red\n</think>\nThe answer is: blue<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """As it lies beside a model that was trained here with the marks as new tokens."""
    folder = toy.save(tmp_path_factory.mktemp("thoughts") / "toy")
    special = ["<think>", "</think>"]
    before = AutoTokenizer.from_pretrained(folder)
    before.add_special_tokens({"additional_special_tokens": special}, replace_extra_special_tokens=False)
    before.save_pretrained(folder)
    _, made, _ = load_policy(PolicyConfig(name=str(folder), special_tokens=special), None)
    assert made.encode(TEXT) == before.encode(TEXT)
    assert "think" not in before.decode(before.encode(TEXT), skip_special_tokens=True)  # what this guards against
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_the_marks_are_one_token_each_and_outlive_decoding(tokenizer):
    for mark in ("<think>", "</think>"):
        assert len(tokenizer.encode(mark)) == 1
        assert mark not in tokenizer.all_special_tokens
    decoded = tokenizer.decode(tokenizer.encode(TEXT), skip_special_tokens=True)
    assert decoded == TEXT.removesuffix("<|im_end|>")
    assert postprocess_generated_text(decoded, None, "</think>") == "The answer is: blue"


def test_documented_commands_name_the_end_of_the_thought():
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if "lm_eval run --model hf" in line]
    assert commands
    for command in commands:
        assert "think_end_token=" in command, command


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (TEXT, "blue"),
        ("Answer: red", "red"),
        ("<think>The answer is: red</think>I don't know", "[invalid]"),
        ("<think>The answer is: red", "[invalid]"),
        ("<think>a</think>Answer: red <think>b</think>Answer: blue. The answer is: green", "green"),
    ],
)
def test_the_quickstarts_tasks_read_the_answer_after_the_thought(said, answer):
    task = yaml.safe_load((ROOT / "evaluation/tasks/quickstart/_puzzle.yaml").read_text().replace("!function", ""))
    settings = {k: v for k, v in task["filter_list"][0]["filter"][0].items() if k != "function"}
    assert RegexFilter(**settings).apply([[said]], [{}]) == [[answer]]
