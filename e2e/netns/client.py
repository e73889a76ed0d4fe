"""What a client in another pod can try. Every function runs inside the namespace of the one who tries."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any


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
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return Reply(response.status, response.read().decode())
    except OSError as error:
        return Reply(0, error=type(error).__name__)
    except http.client.HTTPException as error:
        return Reply(0, error=type(error).__name__)
    finally:
        connection.close()


def talk(host: str, port: int, first: bytes = b"") -> bytes:
    """What a server says to ``first``; with nothing to say, what it says by itself."""
    with socket.create_connection((host, port), timeout=5) as connection:
        if first:
            connection.sendall(first)
        return connection.recv(4096)
