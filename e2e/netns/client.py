"""What a client in another pod can try. Every function runs inside the namespace of the one who tries.

An answer has ``PATIENCE_SECONDS``: the machine may have other things to do. Nothing here is meant to end by time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """``status`` 0: nothing was answered, and ``error`` says why."""

    status: int
    body: str = ""
    error: str = ""

    @property
    def seen(self) -> dict[str, Any]:
        """What the application saw of the request."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(host: str, port: int, token: str | None = None, path: str = "/get") -> Reply:
    """One HTTP request."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return Reply(response.status, response.read().decode())
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, error=type(error).__name__)
    finally:
        connection.close()


def talk(host: str, port: int, first: bytes = b"", *, length: int = 4096) -> bytes:
    """What a server says to ``first``, with nothing to say what it says by itself: ``length`` bytes of it, or all until
    it closes. A connection that is reset has ended too.
    """
    said = b""
    place = (host, port)
    with socket.create_connection(place, timeout=PATIENCE_SECONDS) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(first)
        while len(said) < length and (data := connection.recv(length - len(said))):
            said += data
    return said
