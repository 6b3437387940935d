"""No network, by HF_HUB_OFFLINE or because the Hub doesn't answer: what isn't here is refused at once, in one line that
says so."""

import socket
import time

import datasets.config
import pytest
from huggingface_hub import constants

from data.sources.config import SourceConfig
from data.sources.hub import HubChecker
from pipeline.errors import InputError
from pipeline.hub import keep_hub_offline_if_unreachable
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


def test_a_hub_that_does_not_answer_is_left_alone_at_once(monkeypatch, tmp_path, caplog):
    for name in ("HF_HUB_OFFLINE", "TRLM_HUB_UNREACHABLE"):
        monkeypatch.setenv(name, "")
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        keep_hub_offline_if_unreachable()
        assert not constants.HF_HUB_OFFLINE
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
    closed_port = taken.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port}")
    keep_hub_offline_if_unreachable(str(tmp_path))  # which isn't of the Hub
    assert not constants.HF_HUB_OFFLINE
    started = time.monotonic()
    with pytest.raises(InputError, match="dataset.name: org/none-v1.1 .*the Hub can't be reached and it isn't in"):
        load_splits(DatasetConfig(name="org/none-v1.1"), seed=0)
    assert time.monotonic() - started < 10
    taken.close()
    assert f"the Hub can't be reached (127.0.0.1:{closed_port}: Connection refused)" in caplog.text
