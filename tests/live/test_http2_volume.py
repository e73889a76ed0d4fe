"""Large bodies over HTTP/2 on real sockets: constant memory, no waiting for uploads that are refused."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    DATA,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    FrameReader,
    encode_frame,
    encode_head,
    encode_window_update,
)
from tests.lanes.http2_peer import FakeGate
from tests.live.http2_running import Running
from tests.ports import stop_accepting

SIZE = 300 * 1024 * 1024
CHUNK = encode_frame(DATA, 0, 1, b"d" * 16_384)
WIDE = encode_frame(SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + encode_window_update(0, 2**31 - 1 - 65_535)
HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
GOOD = encode_head(1, encode_fields([*HEAD, (b"authorization", b"good")]), False)
BARE = encode_head(1, encode_fields(HEAD), False)


@contextlib.contextmanager
def application(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """An application that serves one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                serve(connection)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop_accepting(listener, accepting)


@contextlib.contextmanager
def connected(upstream: int) -> Iterator[tuple[Running, socket.socket]]:
    running = Running(FakeGate(), upstream)
    try:
        with socket.create_connection(("127.0.0.1", running.port), 20) as client:
            yield running, client
    finally:
        running.stop()


def resident() -> int:
    """Resident memory of this process, which is the proxy's too, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def read_until_head(connection: socket.socket) -> None:
    data = b""
    while b"\x84" not in data and encode_fields([HEAD[2]]) not in data:
        more = connection.recv(65_536)
        if not more:
            return
        data += more


@pytest.mark.timeout(60)
def test_a_large_download_to_a_client_that_does_not_read():
    def serve(connection: socket.socket) -> None:
        connection.sendall(encode_frame(SETTINGS, 0, 0, b""))
        read_until_head(connection)
        connection.sendall(encode_head(1, b"\x88", False))
        for _ in range(SIZE // 16_384):
            connection.sendall(CHUNK)
        connection.sendall(encode_frame(DATA, END_STREAM, 1, b""))
        connection.recv(1)

    with application(serve) as port, connected(port) as (_, client):
        before = resident()
        client.sendall(PREFACE + WIDE + GOOD)
        time.sleep(1.0)  # the client has announced a window of 2 GB, and reads nothing
        assert resident() - before < 30_000_000
        received, most = 0, 0
        while received < SIZE:
            data = client.recv(1 << 18)
            assert data
            received += len(data)
            most = max(most, resident() - before)
        assert most < 30_000_000


@pytest.mark.timeout(60)
def test_a_large_upload_to_an_application_that_does_not_read():
    received = 0
    go = threading.Event()

    def serve(connection: socket.socket) -> None:
        nonlocal received
        connection.sendall(WIDE)
        go.wait(20)
        while received < SIZE:
            data = connection.recv(1 << 18)
            if not data:
                return
            received += len(data)

    with application(serve) as port, connected(port) as (_, client):
        before = resident()

        def send() -> None:
            with contextlib.suppress(OSError):
                client.sendall(PREFACE + WIDE + GOOD)
                for _ in range(SIZE // 16_384 + 1):
                    client.sendall(CHUNK)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        time.sleep(1.0)
        assert sender.is_alive()  # it is made to wait
        assert resident() - before < 30_000_000
        go.set()
        sender.join(40)
        assert not sender.is_alive()
        assert resident() - before < 30_000_000
        while received < SIZE:
            time.sleep(0.01)


def test_a_refused_upload_is_answered_before_it_was_sent():
    with connected(9) as (_, client):
        started = time.monotonic()
        client.sendall(PREFACE + WIDE + BARE + CHUNK)
        reader = FrameReader()
        kinds: list[int] = []
        while not kinds or kinds[-1] != 3:
            kinds += [frame.kind for frame in reader.feed(client.recv(65_536)) if frame.stream == 1]
        assert time.monotonic() - started < 5.0  # milliseconds on an idle machine
        assert kinds == [HEADERS, DATA, 3]


def test_fifty_megabytes_sent_in_spite_of_a_refusal_go_nowhere():
    """A client that ignores RST_STREAM: everything is dropped as it comes, credit is returned, the connection lives."""
    with connected(9) as (_, client):
        before = resident()
        client.sendall(PREFACE + WIDE + BARE)
        credit = 0

        def drain() -> None:
            nonlocal credit
            reader = FrameReader()
            with contextlib.suppress(OSError):
                while data := client.recv(65_536):
                    for frame in reader.feed(data):
                        if frame.kind == 8:
                            credit += int.from_bytes(frame.payload)

        threading.Thread(target=drain, daemon=True).start()
        for _ in range(50 * 64):
            client.sendall(CHUNK)
        deadline = time.monotonic() + 30
        while credit < 50 * 64 * 16_384 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert credit == 50 * 64 * 16_384
        assert resident() - before < 30_000_000
        client.shutdown(socket.SHUT_RDWR)
