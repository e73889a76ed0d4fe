"""Requests from a pod: a JSON list on stdin, the answers as a JSON list on stdout, one after the other.

``{"to": "host:port", "http": HTTPCall's fields}`` or ``{"to": ..., "grpc": GRPCCall's fields}``. An answer says when it
was asked and when it was answered, by the clock that the application has, too.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time

from eastgate.demonstrations.calls import send
from eastgate.demonstrations.scenes import GRPCCall, HTTPCall

OPEN_SECONDS = 60.0


def await_open(to: str) -> None:
    """Until the name leads somewhere: a Service is known to its node some moments after its pod is ready."""
    host, _, port = to.rpartition(":")
    deadline = time.monotonic() + OPEN_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)


def main() -> None:
    """Send them all. ``--await-open``: first wait until something listens."""
    answers = []
    asked_for = json.load(sys.stdin)
    if "--await-open" in sys.argv:
        for to in {one["to"] for one in asked_for}:
            await_open(to)
    for one in asked_for:
        host, _, port = one["to"].rpartition(":")
        fields = one.get("http") or one["grpc"]
        pairs = "headers" if "http" in one else "metadata"
        fields[pairs] = tuple((name, value) for name, value in fields.get(pairs, ()))
        call = HTTPCall(**fields) if "http" in one else GRPCCall(**fields)
        asked = time.time()
        got = send(call, (host, int(port)))
        answers.append({"asked": asked, "answered": time.time(), **got._asdict()})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
