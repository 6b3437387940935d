"""The command line of retention.py refuses what it can't measure."""

import pytest

from evaluation import retention
from pipeline.errors import InputError


def test_a_missing_model_and_a_wrong_temperature_are_named():
    options = retention.parse_options(["--model", "./none", "--data", "rows.jsonl"])
    with pytest.raises(InputError, match="none"):
        retention.main(options)
    with pytest.raises(InputError, match=r"--temperature is -1\.0; give 0"):
        retention.main(retention.parse_options(["--model", "./none", "--data", "x", "--temperature", "-1"]))
