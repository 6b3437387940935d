"""What rows become: exactly the tensors that are trained, and an account of every row."""

import json

import pytest

from pipeline.errors import InputError
from post_training.chat import IGNORED, ChatEncoder
from post_training.conversations import ConversationsConfig, encode_conversations
from post_training.dataset import EvaluationSetConfig, HeldOutConfig, load_splits
from post_training.pairs import COLUMNS, PairsConfig, ScoredPairCollator, encode_pairs, labels_of
from tests.post_training import toy

LONG = " ".join(["red blue green"] * 12)


def sft_args(**settings):
    from trl import SFTConfig

    return SFTConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", **settings)


def examples(tmp_path, rows, *, dataset=None, template=None, **settings):
    """Examples of SFT rows under the toy tokenizer, and that tokenizer."""
    config = ConversationsConfig(name=str(toy.write_rows(tmp_path / "rows.jsonl", rows)), **(dataset or {}))
    tokenizer = toy.tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    made = encode_conversations(load_splits(config, seed=0), ChatEncoder(tokenizer), config, sft_args(**settings))
    return made, tokenizer


def pair_examples(tmp_path, rows, max_length=None, max_prompt_length=None, template=None, **dataset):
    from trl import DPOConfig

    config = PairsConfig(name=str(toy.write_rows(tmp_path / "pairs.jsonl", rows)), **dataset)
    args = DPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", max_length=max_length)
    tokenizer = toy.tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    made = encode_pairs(load_splits(config, seed=0), ChatEncoder(tokenizer), config, args, max_prompt_length)
    return made, tokenizer


def trained(tokenizer, row) -> str:
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


def chat(question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("completion_only", "starts"), [(None, "yes red"), (True, "yes red"), (False, "<|im_start|>user\nsay red")]
)
def test_the_prompt_of_prompt_and_completion_is_context_unless_the_recipe_says_otherwise(
    completion_only, starts, tmp_path
):
    rows = [{"prompt": "say red", "completion": "yes red"}, {"prompt": "say blue", "completion": "yes blue"}]
    made, tokenizer = examples(tmp_path, rows, completion_only_loss=completion_only)
    text = trained(tokenizer, made.train[0])
    assert text.startswith(starts)
    assert text.endswith("yes red<|im_end|>")
    if completion_only is not False:
        assert made.counts["trained_prompt_tokens"] == 0
        assert made.counts["trained_answer_tokens"] == made.counts["trained_tokens"] > 0
    with pytest.raises(InputError, match="completion_only_loss"):
        examples(tmp_path, [chat("a", "b")], completion_only_loss=True)


def test_only_the_last_answer_is_trained_and_old_thoughts_are_gone(tmp_path):
    thinking = [{"role": "user", "content": "say red"}, {"role": "assistant", "content": "<think>hm</think>red"}]
    rows = [{"messages": [*thinking, *thinking]}]
    for marked in (True, False):
        made, tokenizer = examples(
            tmp_path,
            rows,
            dataset={"trained_turns": "last", "history_thoughts": "drop"},
            assistant_only_loss=marked,
        )
        assert trained(tokenizer, made.train[0]) == "<think>hm</think>red<|im_end|>"
        assert tokenizer.decode(made.train[0]["input_ids"]).count("hm") == 1
    with pytest.raises(ValueError, match="trained_turns"):
        ConversationsConfig(name="x", history_thoughts="drop")


def test_plain_text_is_trained_as_it_stands(tmp_path):
    made, tokenizer = examples(tmp_path, [{"story": "red blue"}, {"story": "green"}], dataset_text_field="story")
    assert trained(tokenizer, made.train[0]) == "red blue<|im_end|>"
    both = [{"story": "red", "messages": toy.rows(1)[0]["messages"]}]
    made, _ = examples(tmp_path, both, dataset_text_field="story")  # a column that is named isn't passed over
    assert trained(tokenizer, made.train[0]) == "red<|im_end|>"
    for settings, dataset in (({"assistant_only_loss": True}, {}), ({}, {"trained_turns": "last"})):
        with pytest.raises(InputError, match="plain text"):
            examples(tmp_path, [{"text": "a"}], dataset=dataset, **settings)
    with pytest.raises(InputError, match="no column messages"):
        examples(tmp_path, [{"story": "a"}])


def test_tools_and_template_arguments_of_a_row_reach_the_template(tmp_path):
    template = (
        "{% for t in tools or [] %}TOOL {{ t.function.name }} {% endfor %}{% if brief %}BRIEF {% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    tools = [{"type": "function", "function": {"name": "weather"}}]
    rows = [
        {**chat("a", "b"), "tools": json.dumps(tools), "chat_template_kwargs": {"brief": True}},
        {**chat("a", "b"), "tools": None, "chat_template_kwargs": {"brief": None}},
    ]
    made, tokenizer = examples(tmp_path, rows, template=template)
    texts = [tokenizer.decode(row["input_ids"]) for row in made.train]
    assert texts[0].startswith("TOOL weather BRIEF <|im_start|>user")
    assert texts[1].startswith("<|im_start|>user")


def test_cut_rows_are_counted_dropped_or_refused(tmp_path):
    rows = [chat("say it", LONG), chat("say red", "red"), chat(LONG, "no room for an answer"), chat("say blue", "blue")]
    made, tokenizer = examples(tmp_path, rows, max_length=24, assistant_only_loss=True)
    assert {k: made.counts[k] for k in ("rows_read", "rows", "cut", "dropped_nothing_to_train")} == {
        "rows_read": 4, "rows": 3, "cut": 1, "dropped_nothing_to_train": 1,
    }  # fmt: skip
    assert [len(row["input_ids"]) <= 24 for row in made.train] == [True] * 3
    assert not trained(tokenizer, made.train[0]).endswith("<|im_end|>")
    labels = [label for row in made.train for label in row["labels"] if label != IGNORED]
    assert made.counts["trained_tokens"] == made.counts["trained_answer_tokens"] == len(labels)
    dropped, tokenizer = examples(tmp_path, rows, max_length=24, dataset={"over_length": "drop"})
    assert (dropped.counts["rows"], dropped.counts["dropped_too_long"], dropped.counts["cut"]) == (2, 2, 0)
    assert all(trained(tokenizer, row).endswith("<|im_end|>") for row in dropped.train)
    with pytest.raises(InputError, match=r"rows.jsonl:1: \d+ tokens, more than trainer.max_length 24"):
        examples(tmp_path, rows, max_length=24, dataset={"over_length": "refuse"})


@pytest.mark.parametrize("packing", [False, True])
def test_nothing_left_to_train_is_refused_with_and_without_packing(packing, tmp_path):
    rows = [chat(f"{n} {LONG}", "yes") for n in range(4)]
    with pytest.raises(InputError, match="4 with nothing to train"):
        examples(tmp_path, rows, max_length=16, assistant_only_loss=True, packing=packing)


def test_bad_rows_are_named_by_place_or_dropped_and_counted(tmp_path):
    rows = [chat("a", "b"), {"messages": [{"role": "user", "content": "bye"}]}, chat("c", "d"), {"messages": None}]
    with pytest.raises(InputError, match=r"rows\.jsonl:2: .*assistant"):
        examples(tmp_path, rows)
    made, _ = examples(tmp_path, rows, dataset={"bad_rows": "drop"})
    assert (made.counts["rows_read"], made.counts["rows"], made.counts["dropped_bad"]) == (4, 2, 2)
    held_out = {"held_out": HeldOutConfig(rows=2)}
    with pytest.raises(
        InputError, match=r"rows.jsonl:[24]: "
    ):  # the number is the file's, whatever was held out before it
        examples(tmp_path, rows, dataset=held_out)


def test_other_shapes_are_converted_by_named_options(tmp_path):
    sharegpt = [{"conversations": [{"from": "human", "value": "say red"}, {"from": "gpt", "value": "red"}]}]
    with pytest.raises(InputError, match="conversations: sharegpt"):
        examples(tmp_path, sharegpt)
    made, tokenizer = examples(tmp_path, sharegpt, dataset={"conversations": "sharegpt"}, assistant_only_loss=True)
    assert trained(tokenizer, made.train[0]) == "red<|im_end|>"
    turns = [
        {"role": "developer", "content": "be nice"},
        *chat("a", "b")["messages"],
        {"role": "user", "content": "bye"},
    ]
    options = {"roles": {"developer": "system"}, "last_turn": "cut"}
    made, tokenizer = examples(tmp_path, [{"messages": turns}], dataset=options)
    assert tokenizer.decode(made.train[0]["input_ids"]).startswith("<|im_start|>system\nbe nice<|im_end|>")
    for name in options:
        with pytest.raises(InputError, match=r"rows\.jsonl:1: "):
            examples(tmp_path, [{"messages": turns}], dataset={k: v for k, v in options.items() if k != name})


def test_held_out_sets_have_names_and_figures_of_their_own(tmp_path):
    other = toy.write_rows(tmp_path / "other.jsonl", toy.rows(9, seed=3))
    named = {"other": EvaluationSetConfig(name=str(other), rows=5)}
    dataset = {"held_out": HeldOutConfig(rows=2), "evaluate_on": named}
    made, _ = examples(tmp_path, toy.rows(6), dataset=dataset)
    assert {name: len(rows) for name, rows in made.held_out.items()} == {"held_out": 2, "other": 5}
    assert made.held_out_counts["other"]["rows_read"] == 5
    assert set(made.evaluated) == {"held_out", "other"}
    toy.write_rows(other, [{"text": "a"}])
    with pytest.raises(InputError, match=r"evaluate_on\.other"):
        examples(tmp_path, toy.rows(6), dataset=dataset)
    with pytest.raises(ValueError, match="evaluate_on"):
        ConversationsConfig(name="x", evaluate_on={"a b": named["other"]})


def test_the_fingerprint_is_that_of_the_tensors(tmp_path):
    rows = toy.rows(6)
    prints = [examples(tmp_path, rows)[0].examples_fingerprint for _ in range(2)]
    assert prints[0] == prints[1]
    others = [
        examples(tmp_path, rows, max_length=8)[0],
        examples(tmp_path, rows, assistant_only_loss=True)[0],
        examples(tmp_path, [*rows[1:], rows[0]])[0],
        examples(tmp_path, rows, template=toy.CHATML.replace("im_start|>{{", "im_start|> {{"))[0],
    ]
    assert len({prints[0], *(other.examples_fingerprint for other in others)}) == 5


def test_pairs_that_are_equal_after_the_cut_are_left_out(tmp_path):
    turn = {"role": "user", "content": "say"}

    def pair(one: str, other: str) -> dict:
        answers = ({"role": "assistant", "content": text} for text in (one, other))
        return dict(zip(("chosen", "rejected"), ([turn, answer] for answer in answers), strict=True))

    rows = [pair("red", "blue"), pair(f"{LONG} thanks", f"{LONG} go away"), pair("red", "red"), pair(LONG, "blue")]
    made, _ = pair_examples(tmp_path, rows, max_length=32)
    wanted = {"rows_read": 4, "rows": 2, "identical": 1, "identical_after_cut": 1, "cut": 1}
    assert {name: made.counts[name] for name in wanted} == wanted
    assert all(len(row["prompt_ids"]) + len(row["chosen_ids"]) <= 32 for row in made.train)
    with pytest.raises(InputError, match="once they are cut"):
        pair_examples(tmp_path, rows[1:3], max_length=32)


def test_what_only_the_prompt_says_is_kept_in_a_pair(tmp_path):
    system = {"role": "system", "content": "you are a pirate"}
    rows = [{**row, "prompt": [system, *row["prompt"]]} for row in toy.pairs(2)]
    made, tokenizer = pair_examples(tmp_path, rows)
    assert "you are a pirate" in tokenizer.decode(made.train[0]["prompt_ids"])


def test_only_the_assistant_is_scored_where_conversations_part_early(tmp_path):
    def talk(*texts: str) -> list[dict]:
        return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]

    rows = [{"chosen": talk("say", "red", "more blue", "blue"), "rejected": talk("say", "green", "and white", "white")}]
    made, tokenizer = pair_examples(tmp_path, rows)
    for answer, wanted in (("chosen", "red<|im_end|>blue<|im_end|>"), ("rejected", "green<|im_end|>white<|im_end|>")):
        _, labels = labels_of(made.train[0], answer)
        assert tokenizer.decode([label for label in labels if label != IGNORED]) == wanted
    batch = ScoredPairCollator(tokenizer.pad_token_id)([{c: made.train[0][c] for c in COLUMNS}] * 2)
    scored = batch["input_ids"][0][batch["completion_mask"][0].bool()]
    assert tokenizer.decode(scored) == "red<|im_end|>blue<|im_end|>"
    assert made.counts["trained_answer_tokens"] == int(batch["completion_mask"].sum()) // 2
    unmarked = toy.CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(InputError, match=r"pairs.jsonl:1: .*generation"):
        pair_examples(tmp_path, rows, template=unmarked)


def test_pairs_with_long_prompts_are_left_out(tmp_path):
    rows = toy.pairs(12)
    lengths = [len(row["prompt_ids"]) for row in pair_examples(tmp_path, rows)[0].train]
    limit = sorted(lengths)[6]
    made, _ = pair_examples(tmp_path, rows, max_prompt_length=limit)
    assert made.counts["dropped_too_long"] == sum(length > limit for length in lengths) > 0
