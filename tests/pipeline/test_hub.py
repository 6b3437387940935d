"""Retries, secrets and trackers."""

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from pipeline import hub
from pipeline.hub import logged_in_to_wandb, redact, retrying, tracker


def http_error(status, **headers):
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://127.0.0.1/"))
    return HfHubHTTPError(f"{status}", response=response)


@pytest.fixture
def pauses(monkeypatch):
    taken = []
    monkeypatch.setattr(hub.time, "sleep", taken.append)
    monkeypatch.setenv("TRLM_RETRY_BASE_S", "1")
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
