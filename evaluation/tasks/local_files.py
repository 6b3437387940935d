"""The seven benchmarks of the README from local files: `--include_path evaluation/tasks --tasks local_gsm8k,...`

A local task is the stock task of the installed lm_eval (prompt, targets, few-shots, metrics, filters) with one thing
replaced: where its rows come from. Nothing of the stock task is repeated here, so the figures stay comparable after an
upgrade. The folder of the files is, in this order, `--metadata '{"data_dir": "DIR"}'`, the environment variable
TRLM_EVAL_DATA, `../shared/data/eval` beside the repository.

What differs from the stock data, because the files do:
- gsm8k: the few-shot solutions have no calculator marks (`<<6*7=42>>`); questions and targets are original.
- boolq: the ERASER form of the passages (word-split punctuation), 2,807 of the 3,270 validation questions.
- piqa and ifeval have no training rows; neither task uses few-shots by default.
"""

import json
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from evaluation.tasks.punkt_fallback import import_ifeval
from pipeline.errors import InputError

STOCK = Path(lm_eval.__file__).parent / "tasks"
DEFAULT_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "eval"

# lm_eval explains --metadata once for each task with rows of its own: 89 times for these.
logging.getLogger("lm_eval.api.task").addFilter(lambda record: "Custom kwargs can be passed" not in record.getMessage())

Row = dict[str, Any]
Splits = dict[str, list[Row]]


@lru_cache(maxsize=4)
def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; name the folder with the seven benchmarks: "
            """--metadata '{"data_dir": "DIR"}' or TRLM_EVAL_DATA=DIR"""
        )
    return pq.read_table(path)


def _rows(path: Path, **equal: str) -> list[Row]:
    """Rows of a parquet file in file order, where each column in `equal` has that value."""
    table = _table(path)
    for column, value in equal.items():
        table = table.filter(pc.field(column) == value)
    return table.to_pylist()


def _gsm8k(data: Path, part: str) -> Splits:
    train = _rows(data.parent / "sft" / "reasoning_gsm8k_train.parquet")
    return {
        "train": [{"question": r["question"], "answer": f"{r['think']}\n#### {r['answer']}"} for r in train],
        "test": [{"question": r["question"], "answer": r["solution"]} for r in _rows(data / "gsm8k_test.parquet")],
    }


def _bbh(data: Path, part: str) -> Splits:
    return {"test": [{"input": r["input"], "target": r["target"]} for r in _rows(data / "bbh.parquet", task=part)]}


def _arc(data: Path, part: str) -> Splits:
    def doc(row: Row) -> Row:
        labels = [chr(ord("A") + i) for i in range(len(row["choices"]))]
        choices = {"text": row["choices"], "label": labels}
        return {"question": row["question"], "choices": choices, "answerKey": labels[row["answer_index"]]}

    path = data / "arc_challenge.parquet"
    return {split: [doc(r) for r in _rows(path, split=split)] for split in ("train", "test")}


def _boolq(data: Path, part: str) -> Splits:
    def doc(row: Row) -> Row:
        answer = str(row["answer"]).lower() in ("true", "yes", "1")
        # The stock rows carry the question without its mark; the stock prompt adds one.
        return {"question": row["question"].rstrip("? "), "passage": row["passage"], "label": int(answer)}

    path = data / "boolq_passage.parquet"
    # ERASER's `val` was cut from BoolQ's train split, its `test` from BoolQ's validation split.
    return {name: [doc(r) for r in _rows(path, split=s)] for name, s in (("train", "val"), ("validation", "test"))}


def _piqa(data: Path, part: str) -> Splits:
    def doc(row: Row) -> Row:
        first, second = row["choices"]
        return {"goal": row["question"], "sol1": first, "sol2": second, "label": row["answer_index"]}

    return {"validation": [doc(r) for r in _rows(data / "piqa.parquet")]}


def _ifeval(data: Path, part: str) -> Splits:
    rows = _rows(data / "ifeval.parquet")
    return {"train": [{**row, "kwargs": [json.loads(k) for k in row["kwargs"]]} for row in rows]}


def _mmlu(data: Path, part: str) -> Splits:
    def doc(row: Row) -> Row:
        return {"question": row["question"], "choices": row["choices"], "answer": row["answer_index"]}

    path = data / "mmlu.parquet"
    return {split: [doc(r) for r in _rows(path, subject=part, split=split)] for split in ("dev", "test")}


READERS = {"gsm8k": _gsm8k, "bbh": _bbh, "arc_challenge": _arc, "boolq": _boolq}
READERS |= {"piqa": _piqa, "ifeval": _ifeval, "mmlu": _mmlu}

SINGLE = {
    "gsm8k": "gsm8k/gsm8k.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "ifeval": "ifeval/ifeval.yaml",
}
# The stock splits that the local files don't have.
ABSENT = {"arc_challenge": ["validation_split"], "piqa": ["training_split"]}


def load_splits(*, benchmark: str, part: str = "", data_dir: str | None = None, **_: Any) -> DatasetDict:
    """lm_eval's `custom_dataset`: the splits of one task with the column names that the stock prompt reads.

    Besides `dataset_kwargs`, lm_eval passes the model arguments and the metadata; all but `data_dir` are ignored.
    Raises InputError where a file is missing or has no rows for `part`.
    """
    folder = Path(data_dir or os.environ.get("TRLM_EVAL_DATA") or DEFAULT_DATA).resolve()
    splits = READERS[benchmark](folder, part)
    if empty := [name for name, rows in splits.items() if not rows]:
        raise InputError(f"{folder}: {benchmark} {part} has no rows for split {empty[0]}; fetch the files again")
    return DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()})


def localised(stock: dict[str, Any], *, benchmark: str, part: str = "") -> dict[str, Any]:
    """The configuration of a stock task, its rows replaced by those of the local files."""
    nothing = dict.fromkeys(("tag", "dataset_path", "dataset_name", *ABSENT.get(benchmark, ())))
    return {
        **stock,
        **nothing,
        "custom_dataset": load_splits,
        "dataset_kwargs": {"benchmark": benchmark, "part": part},
        "metadata": {**(stock.get("metadata") or {}), "data": "local files"},
    }


class LocalTask(ConfigurableTask):
    """A single local task; the YAML's `dataset_kwargs.benchmark` says which, and its other keys replace the stock's."""

    def __init__(self, config: dict[str, Any]) -> None:
        benchmark = config["dataset_kwargs"]["benchmark"]
        if benchmark == "ifeval":
            import_ifeval()
        ours = localised(load_yaml(STOCK / SINGLE[benchmark]), benchmark=benchmark)
        given = {key: value for key, value in config.items() if key not in ("class", "dataset_kwargs")}
        metadata = {**ours["metadata"], **(config.get("metadata") or {})}
        super().__init__(config=ours | given | {"metadata": metadata})


def _members(folder: Path, benchmark: str) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """(tag, member configuration) of each stock task in a folder, by file name."""
    for path in sorted(folder.glob("[!_]*.yaml")):
        stock = load_yaml(path)
        part = stock["dataset_name"]
        yield stock.get("tag"), {**localised(stock, benchmark=benchmark, part=part), "task": part, "task_alias": part}


def _bbh_members() -> list[dict[str, Any]]:
    return [member for _, member in _members(STOCK / "bbh" / "cot_fewshot", "bbh")]


def _mmlu_members() -> list[dict[str, Any]]:
    """Four groups as the stock task has them (its tags are `mmlu_<group>_tasks`)."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for tag, member in _members(STOCK / "mmlu" / "default", "mmlu"):
        groups.setdefault(str(tag).removeprefix("mmlu_").removesuffix("_tasks"), []).append(member)
    average = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    return [
        {"group": name, "task": members, "aggregate_metric_list": average, "metadata": {"version": 2}}
        for name, members in sorted(groups.items())
    ]


def __getattr__(name: str) -> list[dict[str, Any]]:
    """The members of the two groups, as a YAML's `!function` asks for them: built only when a group is loaded."""
    match name:
        case "BBH_MEMBERS":
            return _bbh_members()
        case "MMLU_MEMBERS":
            return _mmlu_members()
    raise AttributeError(name)
