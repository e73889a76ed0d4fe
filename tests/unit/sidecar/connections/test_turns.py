"""Turns: one client that sends more than can be read keeps nobody else waiting for long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.connections.endpoint import LARGE_READ, Endpoint
from sidecar.lanes.http2.frames import PREFACE, SETTINGS, encode_frame, encode_head
from tests.lanes.stub_gate import StubGate
from tests.unit.sidecar.connections.test_proxy import Run, answer_ok, run, running  # noqa: F401 (a fixture)

GET = b"GET /good HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n"
BLOCK = b"\x82\x86\x84\x41\x01a"  # GET http / at a, without a token


def pipelined() -> Iterator[bytes]:
    """Refused requests without end, HTTP/1.1."""
    while True:
        yield b"GET / HTTP/1.1\r\nHost:a\r\n\r\n" * 4000


def multiplexed() -> Iterator[bytes]:
    """The same over HTTP/2."""
    yield PREFACE + encode_frame(SETTINGS, 0, 0, b"")
    stream = 1
    while True:
        yield b"".join([encode_head(number, BLOCK, True) for number in range(stream, stream + 8000, 2)])
        stream += 8000


@contextlib.contextmanager
def flooding(port: int, flood: Iterator[bytes]) -> Iterator[None]:
    """A client that sends as fast as it can, in a thread of its own, and reads what it is answered in another."""
    with socket.create_connection(("127.0.0.1", port)) as client:

        def send() -> None:
            with contextlib.suppress(OSError):
                for data in flood:
                    client.sendall(data)

        def read() -> None:
            with contextlib.suppress(OSError):
                while client.recv(1 << 20):
                    pass

        threads = [threading.Thread(target=work, daemon=True) for work in (send, read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


@pytest.mark.parametrize("flood", [pipelined, multiplexed])
def test_a_flood_of_refused_requests_does_not_starve_the_others(run: Run, flood: Any) -> None:  # noqa: F811
    """Counted in requests, not in seconds: about ten turns, where each was of up to 300,000 requests before."""

    async def scenario() -> None:
        gate = StubGate()
        async with running(answer_ok, gate=gate) as (_, port, _upstream):
            with flooding(port, flood()):
                while len(gate.requests) < 2000:
                    await asyncio.sleep(0.01)
                    gate.requests = gate.requests[-2000:]
                gate.requests.clear()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET)
                assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 200 ")
                assert len(gate.requests) < 10_000
                writer.close()

    run(scenario())


class Reading:
    """An owner that notes in which turn of the loop each piece came."""

    def __init__(self) -> None:
        self.turn = 0
        self.pieces: list[tuple[int, int]] = []
        self.over = asyncio.Event()

    def received(self, connection: Any, data: bytes) -> None:
        """Bytes."""
        self.pieces.append((self.turn, len(data)))

    def ended(self, connection: Any) -> None:
        """FIN."""
        self.over.set()

    def lost(self, connection: Any, told: bool) -> None:
        """The end."""

    def balance(self) -> None:
        """Nothing is choked here."""


def test_a_large_read_is_the_last_of_its_turn(run: Run) -> None:  # noqa: F811
    size = 8 * 1024 * 1024

    async def scenario() -> None:
        owner = Reading()
        loop = asyncio.get_running_loop()

        def begin(endpoint: Endpoint) -> None:
            endpoint.attach(owner, "client")

        def tick() -> None:
            owner.turn += 1
            loop.call_soon(tick)

        server = await loop.create_server(lambda: Endpoint(begin), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:

            def send() -> None:
                client.sendall(b"x" * size)
                client.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send)
            thread.start()
            tick()
            await asyncio.wait_for(owner.over.wait(), 30)
            thread.join()
        server.close()
        assert sum(length for _, length in owner.pieces) == size
        large = [turn for turn, length in owner.pieces if length >= LARGE_READ]
        assert len(large) == len(set(large))

    run(scenario())
