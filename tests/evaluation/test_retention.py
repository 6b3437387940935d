"""The command line of retention.py refuses what it can't measure."""

import pytest

from evaluation import retention
from pipeline.errors import InputError


def test_a_missing_model_is_named():
    with pytest.raises(InputError, match="none"):
        retention.main(retention.parse_options(["--model", "./none", "--data", "rows.jsonl"]))
