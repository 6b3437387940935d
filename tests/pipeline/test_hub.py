"""Retries, secrets, trackers, and pushes that are checked before the work."""

import os
import socket

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from pipeline import hub
from pipeline.card import model_card
from pipeline.errors import InputError
from pipeline.hub import (
    check_push,
    keep_wandb_offline_if_unreachable,
    logged_in_to_wandb,
    redact,
    refuse_unreachable,
    retrying,
    tracker,
)


def http_error(status, **headers):
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://127.0.0.1/"))
    return HfHubHTTPError(f"{status}", response=response)


@pytest.fixture
def pauses(monkeypatch):
    taken = []
    monkeypatch.setattr(hub.time, "sleep", taken.append)
    monkeypatch.setenv("TRLM_RETRY_BASE_S", "1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return taken


def failing(*faults):
    queue = list(faults)

    def call():
        if queue:
            raise queue.pop(0)
        return "done"

    return call


def test_passing_faults_are_tried_again_with_growing_pauses(pauses):
    assert retrying(failing(http_error(500), httpx.ConnectError("cut"), http_error(503)), what="x") == "done"
    assert [0.75 * 2**n <= pause <= 1.25 * 2**n for n, pause in enumerate(pauses)] == [True] * 3


def test_the_servers_own_pause_is_kept(pauses):
    assert retrying(failing(http_error(429, **{"Retry-After": "7"})), what="x") == "done"
    assert pauses == [7.0]


@pytest.mark.parametrize("error", [http_error(404), http_error(401), ValueError("a bug")])
def test_what_will_not_pass_is_raised_at_once(pauses, error):
    with pytest.raises(type(error)):
        retrying(failing(error), what="x")
    assert pauses == []


def test_without_a_network_by_order_nothing_is_tried_again(pauses, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(httpx.ConnectError):
        retrying(failing(httpx.ConnectError("offline mode is enabled")), what="x")
    assert pauses == []


def test_it_gives_up_in_the_end(pauses):
    with pytest.raises(HfHubHTTPError):
        retrying(failing(*[http_error(500)] * 20), what="x")
    assert len(pauses) == hub.ATTEMPTS - 1


def test_secrets_go_by_name_and_by_look():
    clean = redact(
        {
            "hub_token": "abc",
            "eos_token": "<|im_end|>",
            "n": 1,
            "url": "https://u:hf_abcdefghijklmnopqrst@x",
            "o": [{"api_key": "k"}],
        }
    )
    assert clean == {
        "hub_token": "***",
        "eos_token": "<|im_end|>",
        "n": 1,
        "url": "https://u:***@x",
        "o": [{"api_key": "***"}],
    }


def test_tracker_never_needs_a_login(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert tracker() == "tensorboard"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k\n")
    assert logged_in_to_wandb()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracker() == "tensorboard"


@pytest.fixture
def closed_port():
    """A port on this machine at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]  # bound, but not listening: connections are refused


def test_wandb_that_does_not_answer_is_kept_offline(monkeypatch, closed_port, caplog):
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        keep_wandb_offline_if_unreachable()
        assert tracker() == "wandb"
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    keep_wandb_offline_if_unreachable()
    assert (os.environ["WANDB_MODE"], tracker()) == ("offline", "tensorboard")
    assert f"wandb can't be reached (127.0.0.1:{closed_port}: Connection refused)" in caplog.text


@pytest.fixture
def no_hub(monkeypatch, tmp_path, closed_port):
    """A Hub that refuses connections; returns the folder of its models' cache, which is empty."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "TRLM_HUB_UNREACHABLE", "http_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "sets")
    return tmp_path / "hub"


def test_a_name_is_refused_where_neither_the_hub_nor_its_cache_can_give_it(no_hub, closed_port, monkeypatch):
    with pytest.raises(InputError) as error:
        refuse_unreachable("org/none", "model.name")
    assert str(error.value).startswith(
        f"model.name: org/none is nothing on this disk, the Hub can't be reached (127.0.0.1:{closed_port}: Connection "
        "refused) and it isn't in the cache"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        refuse_unreachable("org/none", "model.name")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(InputError, match="dataset.name: org/none is .*HF_HUB_OFFLINE is set and it isn't in"):
            refuse_unreachable("org/none", "dataset.name", kind="dataset")


def test_a_name_that_the_cache_may_hold_is_left_to_the_clients(no_hub, tmp_path):
    (no_hub / "models--org--known/snapshots/1a").mkdir(parents=True)
    with pytest.raises(InputError):  # a download that broke off before its first file
        refuse_unreachable("org/known", "model.name")
    (no_hub / "models--org--known/snapshots/1a/config.json").write_text("{}")
    refuse_unreachable("org/known", "model.name")
    with pytest.raises(InputError):
        refuse_unreachable("org/known", "dataset.name", kind="dataset")
    (tmp_path / "sets/org___my_set-v1.1").mkdir(parents=True)  # what `datasets` makes of a name in capitals
    refuse_unreachable("org/MySet-v1.1", "dataset.name", kind="dataset")


def refused(repo_id="tester/new"):
    with pytest.raises(InputError) as caught:
        check_push(repo_id, repo_type="model", key="push_to_hub")
    return str(caught.value)


def test_a_push_is_checked_and_the_repository_made_before_the_work(at_standin):
    assert check_push("tester/new", repo_type="model", key="push_to_hub") == "tester/new"
    assert at_standin.repo("tester/new", "model").private
    assert check_push("new", repo_type="model", key="push_to_hub") == "tester/new"  # it is there, and that is fine


def test_a_push_that_can_not_succeed_is_refused_at_once(at_standin, monkeypatch, closed_port):
    assert refused("a/b/c").startswith("push_to_hub: the Hub doesn't take 'a/b/c'")
    at_standin.fail(1, status=403, match="POST .*/api/repos/create")
    assert refused().startswith("push_to_hub: the Hub refuses tester/new (403)")
    at_standin.fail(3, status=503, match="POST .*/api/repos/create")
    assert refused().startswith("push_to_hub: the Hub can't be reached (Server error '503")
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrongwrong")
    message = refused()
    assert message.startswith("push_to_hub: the Hub refuses tester/new (401)")
    assert "wrongwrong" not in message
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{closed_port}")
    assert refused().startswith("push_to_hub: the Hub can't be reached (")
    monkeypatch.setenv("HF_TOKEN", "")
    assert "needs a token; run `hf auth login` or set HF_TOKEN" in refused()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused().startswith("push_to_hub: HF_HUB_OFFLINE is set, so nothing can be pushed")


def test_a_repository_of_somebody_else_is_refused_even_where_it_is_there(at_standin, monkeypatch):
    at_standin.add_repo("other/theirs", {"config.json": "{}"}, repo_type="model")
    assert refused("other/theirs") == (
        "push_to_hub: the token is of tester, who can't write into other/theirs; write tester/… or one of me"
    )
    roles = [{"name": "lab", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}]
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda _: {"name": "tester", "orgs": roles})
    assert refused("other/theirs").endswith("write tester/… or one of lab, readers")
    assert refused("readers/x").startswith("push_to_hub: tester may only read what is of readers")
    assert check_push("lab/shared", repo_type="model", key="push_to_hub") == "lab/shared"


def test_a_token_that_may_only_read_is_refused(at_standin, monkeypatch):
    login = {"name": "tester", "auth": {"accessToken": {"role": "read"}}}
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda _: login)
    assert refused() == "push_to_hub: the token of tester may only read; make one that may write"


def test_cards_hold_no_secret():
    secret = "hf_abcdefghijklmnopqrst"
    card = model_card(
        name=f"mine {secret}", stage="sft", summary=secret, base_model=None, datasets=[secret], recipe={"x": secret},
        figures={},
    )  # fmt: skip
    assert secret not in card
    assert "# mine ***" in card
