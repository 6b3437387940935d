"""Local tasks ask what stock tasks ask: prompts by hand, and the stock task on the Hub's own row beside ours."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evaluation.tasks.local_files import DEFAULT_DATA, STOCK, load_splits
from evaluation.tasks.punkt_fallback import import_ifeval
from pipeline.errors import InputError

TASKS = Path(__file__).parents[3] / "evaluation" / "tasks"
NAMES = [f"local_{n}" for n in ("gsm8k", "bbh", "arc_challenge", "boolq", "piqa", "ifeval", "mmlu")]

needs_data = pytest.mark.skipif(not DEFAULT_DATA.is_dir(), reason="the benchmark files are not beside the repository")


@pytest.fixture(scope="module")
def local():
    """Every local task, loaded by lm_eval from the folder (its own 14,000 YAMLs left out: they take 8 s to index)."""
    return TaskManager(include_path=str(TASKS), include_defaults=False).load(NAMES)


# The first row of each file as the Hub has it, and what the stock prompt makes of it, written out by hand.
HUB = {
    "local_arc_challenge": (
        "arc/arc_challenge.yaml",
        {
            "question": "An astronomer observes that a planet rotates faster after a meteorite impact. "
            "Which is the most likely effect of this increase in rotation?",
            "choices": {
                "text": [
                    "Planetary density will decrease.",
                    "Planetary years will become longer.",
                    "Planetary days will become shorter.",
                    "Planetary gravity will become stronger.",
                ],
                "label": ["A", "B", "C", "D"],
            },
            "answerKey": "C",
        },
        "Question: An astronomer observes that a planet rotates faster after a meteorite impact. "
        "Which is the most likely effect of this increase in rotation?\nAnswer:",
        2,
    ),
    "local_piqa": (
        "piqa/piqa.yaml",
        {
            "goal": "dresser",
            "sol1": "replace drawer with bobby pin",
            "sol2": "finish, woodgrain with  bobby pin",
            "label": 1,
        },
        "Question: dresser\nAnswer:",
        1,
    ),
    "local_mmlu::stem::abstract_algebra": (
        "mmlu/default/mmlu_abstract_algebra.yaml",
        {
            "question": "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.",
            "subject": "abstract_algebra",
            "choices": ["0", "4", "2", "6"],
            "answer": 1,
        },
        "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.\n"
        "A. 0\nB. 4\nC. 2\nD. 6\nAnswer:",
        1,
    ),
    "local_bbh::navigate": (
        "bbh/cot_fewshot/navigate.yaml",
        {
            "input": "If you follow these instructions, do you return to the starting point? Always face forward. "
            "Take 1 step backward. Take 9 steps left. Take 2 steps backward. Take 6 steps forward. "
            "Take 4 steps forward. Take 4 steps backward. Take 3 steps right.\nOptions:\n- Yes\n- No",
            "target": "No",
        },
        "Q: If you follow these instructions, do you return to the starting point? Always face forward. "
        "Take 1 step backward. Take 9 steps left. Take 2 steps backward. Take 6 steps forward. "
        "Take 4 steps forward. Take 4 steps backward. Take 3 steps right.\nOptions:\n- Yes\n- No\n"
        "A: Let's think step by step.\n",
        "No",
    ),
    "local_gsm8k": (
        "gsm8k/gsm8k.yaml",
        {
            "question": "A robe takes 2 bolts of blue fiber and half that much white fiber.  "
            "How many bolts in total does it take?",
            "answer": "It takes 2/2=<<2/2=1>>1 bolt of white fiber\n"
            "So the total amount of fabric is 2+1=<<2+1=3>>3 bolts of fabric\n#### 3",
        },
        "Question: A robe takes 2 bolts of blue fiber and half that much white fiber.  "
        "How many bolts in total does it take?\nAnswer:",
        "It takes 2/2=<<2/2=1>>1 bolt of white fiber\n"
        "So the total amount of fabric is 2+1=<<2+1=3>>3 bolts of fabric\n#### 3",
    ),
}


def row_like(task, row: dict) -> dict:
    """Our row of the same question."""
    for key in ("question", "goal", "input"):
        if key in row:
            return next(doc for doc in task.eval_docs if doc[key] == row[key])
    raise KeyError


@needs_data
@pytest.mark.parametrize("name", HUB)
def test_asks_what_the_stock_task_asks(local, name):
    stock_file, row, prompt, target = HUB[name]
    config = load_yaml(STOCK / stock_file)
    splits = ("train", "validation", "test", "dev")
    hub = DatasetDict({split: Dataset.from_list([row] * 8) for split in splits})
    stock = ConfigurableTask(config=config | {"custom_dataset": lambda **_: hub})
    ours = local["tasks"][name]
    doc = row_like(ours, row)
    assert ours.doc_to_text(doc) == stock.doc_to_text(row) == prompt
    assert ours.doc_to_target(doc) == stock.doc_to_target(row) == target
    if config["output_type"] == "multiple_choice":
        assert ours.doc_to_choice(doc) == stock.doc_to_choice(row)
    same = ("metric_list", "filter_list", "generation_kwargs", "num_fewshot", "output_type", "description",
            "target_delimiter", "fewshot_delimiter", "process_results", "repeats")  # fmt: skip
    assert {k: getattr(ours.config, k) for k in same} == {k: getattr(stock.config, k) for k in same}
    shots = 3 if "bbh" in name else 0  # bbh's few-shots are part of the task, the others' come from the data
    ours.set_fewshot_seed(1)
    stock.set_fewshot_seed(1)
    asked = [
        task.fewshot_context(d, shots, apply_chat_template=True, fewshot_as_multiturn=True,
                             chat_template=lambda turns, **_: json.dumps(turns))
        for task, d in ((ours, doc), (stock, row))
    ]  # fmt: skip
    assert asked[0] == asked[1]
    assert len(json.loads(asked[0])) == 2 * shots + 1 + bool(config.get("description"))


@needs_data
def test_covers_every_item_of_the_files(local):
    sizes = {name: len(task.eval_docs) for name, task in local["tasks"].items()}
    singles = {name: size for name, size in sizes.items() if "::" not in name}
    assert singles == {
        "local_gsm8k": 1319, "local_arc_challenge": 1172, "local_boolq": 2807, "local_piqa": 1838, "local_ifeval": 541,
    }  # fmt: skip
    bbh = [size for name, size in sizes.items() if name.startswith("local_bbh::")]
    mmlu = [size for name, size in sizes.items() if name.startswith("local_mmlu::")]
    assert (len(bbh), sum(bbh)) == (27, 6511)
    assert (len(mmlu), sum(mmlu)) == (57, 14042)
    groups = {name: len(members) for name, members in local["group_map"].items()}
    assert groups == {
        "local_bbh": 27, "local_mmlu": 4, "local_mmlu::stem": 19, "local_mmlu::humanities": 13,
        "local_mmlu::social_sciences": 12, "local_mmlu::other": 13,
    }  # fmt: skip


@needs_data
def test_group_averages_are_the_stock_ones(local):
    for group, stock in (("local_bbh", "bbh/cot_fewshot/_bbh.yaml"), ("local_mmlu", "mmlu/default/_mmlu.yaml"),
                         ("local_mmlu::stem", "mmlu/default/_mmlu_stem.yaml")):  # fmt: skip
        for ours, theirs in zip(
            local["groups"][group].aggregate_metric_list, load_yaml(STOCK / stock)["aggregate_metric_list"], strict=True
        ):
            given = {k: getattr(ours, k) for k in theirs}
            filters = theirs.get("filter_list", given.get("filter_list"))
            theirs["filter_list"] = [filters] if isinstance(filters, str) else filters
            assert given | {"filter_list": theirs["filter_list"]} == theirs
            assert ours.weight_by_size


@needs_data
def test_gsm8k_few_shots_have_the_original_form(local):
    task = local["tasks"]["local_gsm8k"]
    answers = task.fewshot_docs()["answer"]
    assert len(answers) == 7473
    assert answers[0] == (
        "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May.\n#### 72"
    )
    # what the task's own strict filter looks for
    pattern = task.config.filter_list[0]["filter"][0]["regex_pattern"]
    assert all(re.search(pattern, answer) for answer in answers)
    asked = {doc["question"] for doc in task.eval_docs}
    assert not asked & set(task.fewshot_docs()["question"])


@needs_data
def test_boolq_and_ifeval_rows_have_the_stock_shape(local):
    boolq = local["tasks"]["local_boolq"]
    doc = boolq.eval_docs[0]
    text = boolq.doc_to_text(doc)
    assert text.startswith(doc["passage"])
    assert re.search(r"\nQuestion: [^\n]*[^?]\?\nAnswer:$", text)
    assert boolq.doc_to_choice(doc) == ["no", "yes"]
    labels = boolq.eval_docs["label"]
    assert set(labels) == {0, 1}
    assert 0.55 < sum(labels) / len(labels) < 0.7  # BoolQ: 62% yes
    doc = local["tasks"]["local_ifeval"].eval_docs[0]
    assert doc["instruction_id_list"][-1] == "length_constraints:number_words"
    assert {k: v for k, v in doc["kwargs"][-1].items() if v} == {"relation": "at least", "num_words": 300}


def test_every_yaml_here_keeps_clear_of_the_stock_names():
    files = sorted(TASKS.rglob("*.yaml"))
    assert len(files) >= 7
    index = TaskManager(include_path=str(TASKS), include_defaults=False).task_index
    assert set(NAMES) <= set(index)
    assert [name for name in index if not name.startswith(("local_", "quickstart_"))] == []


def test_a_folder_can_be_named_three_ways(tmp_path, monkeypatch):
    row = {"question": "1+1?", "choices": ["1", "2"], "answer_index": 1}
    for folder, question in (("metadata", "from metadata"), ("variable", "from the variable")):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.Table.from_pylist([row | {"question": question}]), tmp_path / folder / "piqa.parquet")
    monkeypatch.setenv("TRLM_EVAL_DATA", str(tmp_path / "variable"))
    assert load_splits(benchmark="piqa")["validation"][0]["goal"] == "from the variable"
    metadata = {"data_dir": str(tmp_path / "metadata"), "pretrained": "x"}  # lm_eval adds the model's arguments
    loaded = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata).load(["local_piqa"])
    assert loaded["tasks"]["local_piqa"].eval_docs[0]["goal"] == "from metadata"


def test_a_missing_file_says_how_to_name_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"piqa\.parquet does not exist.*data_dir.*TRLM_EVAL_DATA"):
        load_splits(benchmark="piqa", data_dir=str(tmp_path))
    columns = {"subject": ["anatomy"], "split": ["dev"], "question": [""], "choices": [[""]], "answer_index": [0]}
    pq.write_table(pa.table(columns), tmp_path / "mmlu.parquet")
    with pytest.raises(InputError, match="mmlu anatomy has no rows for split test"):
        load_splits(benchmark="mmlu", part="anatomy", data_dir=str(tmp_path))


@needs_data
def test_ifeval_keeps_the_stock_scoring(local):
    import_ifeval()
    stock = load_yaml(STOCK / "ifeval" / "ifeval.yaml")
    config = local["tasks"]["local_ifeval"].config
    assert config.generation_kwargs == stock["generation_kwargs"]
    assert [m["metric"] for m in config.metric_list] == [m["metric"] for m in stock["metric_list"]]
    assert config.process_results is stock["process_results"]
