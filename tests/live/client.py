"""Clients that send exactly what they are told: one HTTP/1.1 request as bytes, or one HTTP/2 request as fields."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events


@dataclass(frozen=True)
class Response:
    """What came back. Header names in lower case; ``trailers`` for HTTP/2 only; status 0 when nothing came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trailers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


PATIENCE = 10.0
"""Seconds that a client waits for an answer, unless it is told otherwise."""


def connect(port: int, timeout: float | None = None) -> socket.socket:
    """A TCP connection to loopback."""
    connection = socket.create_connection(("127.0.0.1", port), timeout or PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_bytes(
    port: int, *segments: bytes, quiet: float = 0.5, complete: Callable[[bytes], bool] | None = None
) -> bytes:
    """Send segments one by one, then read until the peer closes, or is ``quiet`` seconds silent after it has spoken.

    ``complete`` says when all is there. Given it, silence is waited out: for several answers that need not come at once.
    """
    received = b""
    with connect(port) as connection:
        for index, segment in enumerate(segments):
            if index:
                time.sleep(0.02)
            with contextlib.suppress(OSError):
                connection.sendall(segment)
        with contextlib.suppress(OSError):
            while not (complete and complete(received)) and (data := connection.recv(65536)):
                received += data
                if complete is None:
                    connection.settimeout(quiet)
    return received


def parse_response(data: bytes) -> Response:
    """One HTTP/1.1 response with a Content-Length or until the end."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1."):
        return Response(0, (), data)
    pairs = (line.split(":", 1) for line in lines[1:])
    return Response(int(lines[0].split(" ")[1]), tuple((n.lower(), v.strip()) for n, v in pairs), body)


def request_http1(
    port: int, method: str, target: str, authority: str, headers: list[tuple[str, str]] | tuple = (), body: bytes = b""
) -> Response:
    """One request on a fresh connection."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}", *(f"{n}: {v}" for n, v in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    with connect(port) as connection:
        connection.sendall(data)
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return parse_response(received)
            received += more
        response = parse_response(received)
        length = int(response.header("content-length") or 0) if method != "HEAD" else 0
        while len(parse_response(received).body) < length:
            more = connection.recv(65536)
            if not more:
                break
            received += more
        return parse_response(received)


def request_http2(
    port: int, method: str, target: str, authority: str, headers: list[tuple[str, str]] | tuple = (), body: bytes = b""
) -> Response:
    """One request on a fresh connection with prior knowledge; the ``h2`` library checks every frame it gets."""
    config = h2.config.H2Configuration(
        client_side=True, header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    engine = h2.connection.H2Connection(config)
    with connect(port) as connection:
        engine.initiate_connection()
        fields = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", target)]
        fields += [(n.lower(), v) for n, v in headers]
        engine.send_headers(1, fields, end_stream=not body)
        if body:
            engine.send_data(1, body, end_stream=True)
        connection.sendall(engine.data_to_send())
        got: list[tuple[str, str]] = []
        trailers: list[tuple[str, str]] = []
        received = b""
        while True:
            data = connection.recv(65536)
            if not data:
                break
            done = False
            for event in engine.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    got = list(event.headers)
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers = list(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    received += event.data
                    engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                    done = True
            if done:
                break
            connection.sendall(engine.data_to_send())
        status = int(dict(got).get(":status", 0))
        plain = tuple((n, v) for n, v in got if not n.startswith(":"))
        return Response(status, plain, received, tuple(trailers))
