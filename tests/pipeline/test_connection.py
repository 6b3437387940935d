"""Whether a server can be spoken to: all its addresses at once, in a bounded time."""

import socket
import time
from contextlib import ExitStack

import pytest

from pipeline.connection import unreachable


@pytest.fixture
def silent():
    """The address of a server that swallows connections: its queue is full, and nobody takes any out."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def stand_for(monkeypatch, *places):
    """Let every name have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_many_addresses_that_say_nothing_take_no_longer_than_one(monkeypatch, silent):
    stand_for(monkeypatch, *[silent] * 8)
    started = time.monotonic()
    assert unreachable("https://hub.org", seconds=0.3) == "hub.org:443: Connection timed out"
    assert 0.3 <= time.monotonic() - started < 1.5


def test_one_address_that_answers_is_enough(monkeypatch, silent):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        stand_for(monkeypatch, silent, taken.getsockname(), server.getsockname())
        assert unreachable("https://hub.org", seconds=20) is None
        stand_for(monkeypatch, taken.getsockname())
        assert unreachable("https://hub.org", seconds=20) == "hub.org:443: Connection refused"


def test_a_server_that_is_slow_to_take_connections_is_there():
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts none
        assert unreachable(f"http://127.0.0.1:{server.getsockname()[1]}", seconds=3) is None


def test_a_proxy_is_asked_in_the_place_of_the_server(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert unreachable("https://never.invalid", seconds=3) is None


def test_a_name_that_nobody_knows_is_a_reason(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert unreachable("http://never.invalid", seconds=3) == "never.invalid:80: Name or service not known"
