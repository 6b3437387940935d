"""Whether a server can be spoken to, found in seconds."""

import errno
import os
import selectors
import socket
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit


def unreachable(address: str, seconds: float) -> str | None:
    """Why nobody can be spoken to at an address, or at the proxy on the way there; None where somebody can.

    All addresses of the name are tried at once, `seconds` in all: behind a wall that swallows packets a name of eight
    addresses, asked one after the other, would take eight times as long.
    """
    server = urlsplit(address)
    proxy = os.environ.get(f"{server.scheme}_proxy") or os.environ.get(f"{server.scheme.upper()}_PROXY")
    asked = urlsplit(proxy) if proxy else server
    port = asked.port or (80 if asked.scheme == "http" else 443)
    try:
        places = socket.getaddrinfo(asked.hostname or "", port, type=socket.SOCK_STREAM)
    except OSError as error:
        fault = error.strerror or str(error)
    else:
        fault = _first_fault(places, seconds)
    return f"{asked.hostname}:{port}: {fault}" if fault else None


def _first_fault(places: list[Any], seconds: float) -> str:
    """Why none of these answers in that time; "" once one does. places: as socket.getaddrinfo gives them."""
    fault, until = os.strerror(errno.ETIMEDOUT), time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting, ExitStack() as opened:
        for family, kind, protocol, _, place in places:
            try:
                trial = opened.enter_context(socket.socket(family, kind, protocol))
            except OSError as error:  # a machine without IPv6
                fault = error.strerror or str(error)
                continue
            trial.setblocking(False)
            if (status := trial.connect_ex(place)) in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                waiting.register(trial, selectors.EVENT_WRITE)
            else:
                fault = os.strerror(status)
        while waiting.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                trial: Any = key.fileobj
                waiting.unregister(trial)
                if not (status := trial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    return ""
                fault = os.strerror(status)
    return fault


__all__ = ["unreachable"]
