"""Rows of the held-out puzzles for lm_eval, as data/config/quickstart/held_out.yaml builds them.

The folder is, in this order, `--metadata '{"held_out": "DIR"}'`, the environment variable TRLM_HELD_OUT,
outputs/quickstart/data/held_out.
"""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from data.sources.files import FileQuery, find_files
from data.sources.reading import read_rows
from pipeline.errors import InputError

DEFAULT = "outputs/quickstart/data/held_out"
COLUMNS = {"messages", "answer", "task"}


def load(*, puzzle: str, held_out: str | None = None, **_: Any) -> DatasetDict:
    """lm_eval's `custom_dataset`: the held-out rows of one kind of puzzle as `question` and `answer`.

    Raises InputError where the folder is missing, holds something else, or has none.
    """
    folder = Path(held_out or os.environ.get("TRLM_HELD_OUT") or DEFAULT)
    rows = []
    for place, row in read_rows(find_files(FileQuery(path=str(folder), where="TRLM_HELD_OUT", key=""))):
        if missing := sorted(COLUMNS - row.keys()):
            raise InputError(
                f"{place}: no column {missing[0]}; name the folder that data/config/quickstart/held_out.yaml builds"
            )
        if row["task"] == puzzle:
            rows.append({"question": row["messages"][0]["content"], "answer": row["answer"]})
    if not rows:
        raise InputError(f"{folder}: there is no held-out puzzle of the kind {puzzle}; build the folder again")
    return DatasetDict({"test": Dataset.from_list(rows)})
