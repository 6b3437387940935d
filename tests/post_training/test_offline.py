"""HF_HUB_OFFLINE: what isn't here is refused at once, in one line that says so."""

import time

import pytest

from data.sources.config import SourceConfig
from data.sources.hub import HubChecker
from pipeline.errors import InputError
from post_training.dataset import DatasetConfig, load_splits
from post_training.policy import PolicyConfig, load_policy


def test_models_datasets_and_blends_say_that_the_network_is_forbidden(offline):
    started = time.monotonic()
    refused = []
    for what in (
        lambda: load_policy(PolicyConfig(name="org/none"), None),
        lambda: load_splits(DatasetConfig(name="org/none-v1.1"), seed=0),
        lambda: HubChecker().check(SourceConfig(name="org/none-v1.1", split="train"), "b.yaml: datasets[0]"),
    ):
        with pytest.raises(InputError) as error:
            what()
        refused.append(str(error.value))
    assert time.monotonic() - started < 5
    assert [line.split(":")[0] for line in refused] == ["model.name", "dataset.name", "b.yaml"]
    assert all("HF_HUB_OFFLINE" in line for line in refused), refused
