"""The proxy as a process over time: what many requests and connections leave behind, signals under load, what the log and the
metrics say of it all.

Counts are kept small enough for every run of the suite; the same loops with twenty times as many show the same (no growth).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    SETTINGS,
    FrameReader,
    encode_frame,
    encode_head,
)
from tests.live.client import connect, send_bytes
from tests.live.conftest import make_token, write_policy
from tests.live.serving import Served, serve
from tests.ports import stop_accepting, unanswered_port

HELLO = PREFACE + encode_frame(SETTINGS, 0, 0, b"")
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-seen: %b\r\n\r\nhello"


class _Answering(asyncio.Protocol):
    """Answers every head of HTTP/1.1, or of HTTP/2, with 200; says which of the policy's headers it saw."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.data = b""
        self.frames: FrameReader | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.frames is None and self.data.startswith(PREFACE):
            self.frames = FrameReader()
            self.data = self.data[len(PREFACE) :]
            self.transport.write(encode_frame(SETTINGS, 0, 0, b""))
        if self.frames is not None:
            data, self.data = self.data, b""
            for frame in self.frames.feed(data):
                if frame.kind == HEADERS:
                    self.transport.write(encode_head(frame.stream, encode_fields([(b":status", b"200")]), True))
            return
        while b"\r\n\r\n" in self.data:
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            seen = b",".join(sorted(re.findall(rb"\r\n(x-org2?):", head)))
            if b" /slow " in head:
                asyncio.get_running_loop().call_later(0.005, self._answer, seen)
            else:
                self._answer(seen)

    def _answer(self, seen: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(RESPONSE % seen)


@pytest.fixture(scope="module")
def application() -> Iterator[int]:
    """The port of an application that is fast enough not to be what is measured."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await loop.create_server(_Answering, "127.0.0.1", 0, backlog=1000)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def served(application: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    flags = ("--log-level", "debug", "--admin", "127.0.0.1:0")
    with serve([write_policy(tmp_path_factory.mktemp("policy"))], application, *flags) as running:
        yield running


def request(token: str = "", target: str = "/x") -> bytes:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {target} HTTP/1.1\r\nHost: shop.example\r\n{authorization}\r\n".encode()


def head2(stream: int, token: str = "") -> bytes:
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"shop.example")]
    if token:
        fields.append((b"authorization", b"Bearer " + token.encode()))
    return encode_head(stream, encode_fields(fields), True)


def measure(served: Served) -> tuple[int, int]:
    """Resident memory in KiB, and open files."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    [resident] = re.findall(r"VmRSS:\s+(\d+)", status)
    return int(resident), len(list(Path(f"/proc/{served.process.pid}/fd").iterdir()))


def read_until(connection: socket.socket, marker: bytes, count: int) -> bytes:
    data = b""
    while data.count(marker) < count:
        more = connection.recv(1 << 20)
        assert more, f"closed after {data[-200:]!r}"
        data += more
    return data


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_many_requests_on_one_connection_leave_nothing_behind(served: Served) -> None:
    token = make_token()
    with connect(served.port) as one, connect(served.port) as two:
        two.sendall(HELLO)
        reader = FrameReader()
        stream = 1

        def run(rounds: int) -> None:
            nonlocal stream
            for _ in range(rounds):
                one.sendall(request(token) * 40 + request() * 40)
                read_until(one, b"HTTP/1.1 200 OK", 40)
                heads = b"".join(head2(stream + 2 * i, token if i % 2 else "") for i in range(80))
                stream += 160
                two.sendall(heads)
                ended = 0
                while ended < 80:
                    for kind, flags, _, _ in reader.feed(two.recv(1 << 20)):
                        assert kind != GOAWAY
                        ended += bool(flags & END_STREAM and kind in (0, HEADERS))

        run(5)
        resident, files = measure(served)
        run(60)
        grown, files_now = measure(served)
    assert files_now == files
    assert grown - resident < 3000, "KiB after 9,600 requests"


def test_many_connections_leave_nothing_behind(served: Served) -> None:
    token = make_token()

    def run(count: int) -> None:
        for _ in range(count):
            with connect(served.port) as one, connect(served.port) as two, connect(served.port) as three:
                one.sendall(request(token))
                two.sendall(HELLO + head2(1, token))
                three.sendall(b"GET /x HT")  # never finished
                read_until(one, b"hello", 1)

    files_before = measure(served)[1]
    run(50)
    resident = measure(served)[0]
    run(300)
    assert wait_for(lambda: measure(served)[1] <= files_before)
    assert measure(served)[0] - resident < 3000, "KiB after 900 connections"


# --- signals under load -----------------------------------------------------------------------------------------------


ENOUGH = 30
"""Answers of either kind after which a test has seen what it wants to."""


async def load(port: int, heads: bytes, tally: collections.Counter[str], over: Callable[[], bool], fresh: bool) -> None:
    """One client that honours ``connection: close`` and sends a request every 50 ms until the proxy refuses it."""
    while not over():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            tally["refused"] += 1
            return
        try:
            closing = False
            while not closing and not over():
                writer.write(heads)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert await reader.readexactly(5) == b"hello"
                tally[head.split(b" ")[1].decode() + " " + head.split(b"x-seen: ")[1].split(b"\r")[0].decode()] += 1
                began = time.monotonic()
                await asyncio.sleep(0.05)
                # A drain closes what has been idle for a second: a client that was stopped for so long begins anew.
                closing = b"connection: close" in head or fresh or time.monotonic() - began > 0.5
        except (OSError, EOFError, TimeoutError) as error:
            tally[f"failed {type(error).__name__}"] += 1
        finally:
            writer.close()


def run_load(
    served: Served, disturb: Callable[[], None], wanted: Callable[[collections.Counter[str]], bool], fresh: int
) -> collections.Counter[str]:
    """Ten clients, 200 requests a second, until the tally is what is ``wanted``; ``disturb`` is called on the way.

    ``fresh`` of them open a connection for each request.
    """
    tally: collections.Counter[str] = collections.Counter()
    heads = request(make_token(), "/slow")
    ends = time.monotonic() + 40

    def is_over() -> bool:
        return wanted(tally) or time.monotonic() > ends

    async def disturb_under_load() -> None:
        while tally.total() < 2 * ENOUGH and not is_over():
            await asyncio.sleep(0.01)
        disturb()

    async def run() -> None:
        clients = (load(served.port, heads, tally, is_over, number < fresh) for number in range(10))
        await asyncio.gather(disturb_under_load(), *clients)

    asyncio.run(run())
    return tally


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_fails_no_request(application: int, tmp_path: Path, workers: str) -> None:
    with serve([write_policy(tmp_path)], application, "--workers", workers) as served:
        end = functools.partial(served.process.send_signal, signal.SIGTERM)
        tally = run_load(served, end, lambda tally: tally["refused"] == 10, fresh=5)
        assert served.process.wait(20) == 0
    assert tally.pop("refused") == 10
    assert tally.pop("200 x-org") > ENOUGH
    assert not tally


def test_sighup_under_load_every_request_is_decided_by_one_plan(application: int, tmp_path: Path) -> None:
    path = write_policy(tmp_path)
    with serve([path], application) as served:

        def change() -> None:
            path.write_text(path.read_text().replace("header: x-org}", "header: x-org2}"))
            served.process.send_signal(signal.SIGHUP)

        tally = run_load(served, change, lambda tally: min(tally["200 x-org"], tally["200 x-org2"]) > ENOUGH, fresh=3)
        decisions = [json.loads(line) for line in served.log.splitlines() if '"event":"decision"' in line]
    assert set(tally) == {"200 x-org", "200 x-org2"}
    assert min(tally.values()) > ENOUGH
    assert len(decisions) == tally.total()
    assert {decision["decision"] for decision in decisions} == {"allow"}


# --- the log and the metrics --------------------------------------------------------------------------------------------

SECRET = "c2VjcmV0c2VjcmV0"
HOST = b"Host: shop.example\r\n"
BEARER = b"Authorization: Bearer " + SECRET.encode() + b"\r\n"

RECORDS: dict[str, tuple[int, bytes]] = {
    "a token that is none": (1, b"GET /x?access_token=" + SECRET.encode() + b" HTTP/1.1\r\n" + HOST + BEARER + b"\r\n"),
    "a malformed line": (1, b"GET  /x?t=" + SECRET.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a malformed field": (1, b"GET /x HTTP/1.1\r\n" + HOST + BEARER.replace(b":", b" :") + b"\r\n"),
    "another version": (1, b"GET /" + SECRET.encode() + b" HTTP/1.2\r\n\r\n"),
    "userinfo": (1, b"GET http://u:" + SECRET.encode() + b"@shop.example/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (1, b"CONNECT /" + SECRET.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no HTTP": (1, b"\xff" + SECRET.encode() + b"\r\n\r\n"),
    "a broken body": (
        1,
        b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
    ),
    "a pipeline with a bad end": (4, request() * 3 + b"\0" + SECRET.encode() + b"\r\n\r\n"),
    "TLS": (0, b"\x16\x03\x01" + SECRET.encode()),
    "an unfinished head": (0, b"GET /x?t=" + SECRET.encode() + b" HTTP/1.1\r\n" + HOST),
    "HTTP/2, twenty streams": (20, HELLO + b"".join(head2(2 * i + 1, SECRET) for i in range(20))),
    "HTTP/2, an upper-case name": (
        1,
        HELLO + encode_head(1, encode_fields([(b":method", b"GET"), (b":path", b"/"), (b"A", SECRET.encode())]), True),
    ),
    "HTTP/2, no HPACK": (0, HELLO + encode_frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff" + SECRET.encode())),
}


def count_decisions(served: Served) -> int:
    return sum('"event":"decision"' in line for line in served.log.splitlines())


def read_metrics(served: Served) -> str:
    [address] = re.findall(r'"admin port open","address":"127.0.0.1:(\d+)"', served.log)
    return send_bytes(int(address), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")[2].decode()


def test_every_request_has_one_record_and_none_has_a_secret(served: Served) -> None:
    for name, (expected, wire) in RECORDS.items():
        before = count_decisions(served)
        with connect(served.port) as connection:
            connection.sendall(wire)
            assert wait_for(lambda: count_decisions(served) - before >= expected), name  # noqa: B023
            connection.settimeout(0.05)
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass
        assert count_decisions(served) - before == expected, name
    # The last of them has no record to wait for: what its client hears may be there before the log is.
    assert wait_for(lambda: "client fault" in served.log)
    for line in served.log.splitlines():
        json.loads(line)
        assert SECRET not in line
        assert line.isascii()
    assert "refused TLS" in served.log


def read_counter(served: Served, name: str) -> dict[str, float]:
    """By reason."""
    return {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(read_metrics(served))
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("kind", ["http1", "http2"])
def test_an_application_that_is_not_there_is_counted_and_logged(kind: str, tmp_path: Path) -> None:
    token = make_token()
    failure = b"remote connection failure"
    with (
        unanswered_port() as port,
        serve([write_policy(tmp_path)], port, "--admin", "127.0.0.1:0") as running,
    ):
        wire = request(token) * 3 if kind == "http1" else HELLO + head2(1, token) + head2(3, token) + head2(5, token)
        assert send_bytes(running.port, wire, complete=lambda got: got.count(failure) == 3).count(failure) == 3
        assert wait_for(lambda: running.log.count('"event":"upstream"') == 3)
        records = [json.loads(line) for line in running.log.splitlines() if '"event":"upstream"' in line]
        assert read_counter(running, "eastgate_upstream_errors_total") == {"connect_refused": 3}
        assert token not in running.log
    assert len(records) == 3
    for record in records:
        record.pop("time")
        assert record == {
            "level": "warning",
            "event": "upstream",
            "message": "the application refused the connection",
            "reason": "connect_refused",
            "upstream": f"127.0.0.1:{port}",
            "detail": record["detail"],
            "route": "RouteTable shop/table guarded",
        }
        assert "refused" in record["detail"].lower()


def test_an_application_that_resets_is_counted_and_logged(tmp_path: Path) -> None:
    def reset_whoever_comes(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = server.accept()
                accepted.recv(65536)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()

    server = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=reset_whoever_comes, args=(server,), daemon=True)
    accepting.start()
    port, ended = server.getsockname()[1], b"connection termination"
    try:
        with serve([write_policy(tmp_path)], port, "--admin", "127.0.0.1:0") as running:
            for wire in (request(make_token()), HELLO + head2(1, make_token())):
                assert ended in send_bytes(running.port, wire, complete=lambda got: ended in got)
            assert read_counter(running, "eastgate_upstream_errors_total") == {"closed_before_response": 2}
    finally:
        stop_accepting(server, accepting)


def test_clients_beyond_the_bound_are_turned_away_and_the_admin_port_answers(application: int, tmp_path: Path) -> None:
    flags = ("--admin", "127.0.0.1:0", "--max-connections", "2")
    with serve([write_policy(tmp_path)], application, *flags) as running:
        clients = [connect(running.port) for _ in range(2)]
        for client in clients:
            client.sendall(request(make_token()))
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            with pytest.raises(ConnectionError), connect(running.port) as one_too_many:
                while True:
                    one_too_many.sendall(request(make_token()))
                    assert one_too_many.recv(65536) == b""
        page = read_metrics(running)
        assert "\neastgate_connections 2.0\n" in page
        assert "\neastgate_connections_capacity 2.0\n" in page
        assert "\neastgate_connections_turned_away_total 3.0\n" in page
        records = [json.loads(line) for line in running.log.splitlines() if "turned away" in line]
        assert [(one["count"], one["open"], one["capacity"]) for one in records] == [(1, 2, 2)]
        for client in clients:
            client.sendall(request())
            assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
            client.close()
        assert wait_for(lambda: send_bytes(running.port, request()).startswith(b"HTTP/1.1 401 "))


def test_the_metrics_are_what_was_logged(served: Served) -> None:
    read_until_idle = [send_bytes(served.port, request()) for _ in range(2)]
    assert all(answer.startswith(b"HTTP/1.1 401") for answer in read_until_idle)
    samples = [
        sample
        for family in text_string_to_metric_families(read_metrics(served))
        for sample in family.samples
        if sample.name == "eastgate_requests_total"
    ]
    assert sum(sample.value for sample in samples) == count_decisions(served)
    logged = collections.Counter(
        (record["decision"], record["reason"], record["route"], ",".join(record["policies"]))
        for record in map(json.loads, served.log.splitlines())
        if record["event"] == "decision"
    )
    assert logged == {
        (s.labels["decision"], s.labels["reason"], s.labels["route"], s.labels["policy"]): s.value for s in samples
    }
