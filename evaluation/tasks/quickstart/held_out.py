"""Rows of the held-out puzzles for lm_eval, as data/config/quickstart/held_out.yaml builds them.

The folder is, in this order, `--metadata '{"held_out": "DIR"}'`, the environment variable TRLM_HELD_OUT,
outputs/quickstart/data/held_out.
"""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from data.tokenizer import rows_of
from pipeline.errors import InputError

DEFAULT = "outputs/quickstart/data/held_out"


def load(*, puzzle: str, held_out: str | None = None, **_: Any) -> DatasetDict:
    """lm_eval's `custom_dataset`: the held-out rows of one kind of puzzle as `question` and `answer`.

    Raises InputError where the folder is missing or has none.
    """
    folder = Path(held_out or os.environ.get("TRLM_HELD_OUT") or DEFAULT)
    rows = [
        {"question": row["messages"][0]["content"], "answer": row["answer"]}
        for row in rows_of(folder, None)
        if row["task"] == puzzle
    ]
    if not rows:
        raise InputError(f"{folder}: there is no held-out puzzle of the kind {puzzle}; build the folder again")
    return DatasetDict({"test": Dataset.from_list(rows)})
