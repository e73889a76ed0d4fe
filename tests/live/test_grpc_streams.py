"""gRPC as it is spoken: a real grpcio client and server, the proxy between them, all four kinds of calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.lanes.http2_peer import FakeGate
from tests.live.http2_running import Running
from tests.ports import unanswered_port

GOOD = (("authorization", "good"), ("x-org", "spoofed"))
PENDING = (("authorization", "keys"),)
TIMEOUT = 20


class Echo(grpc.GenericRpcHandler):
    """Methods of all four kinds over plain bytes. ``calls`` are the metadata of what arrived."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str]] = []

    def service(self, details):
        self.calls.append(dict(details.invocation_metadata))
        handlers = {
            "/t.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/t.Echo/Up": grpc.stream_unary_rpc_method_handler(self.up),
            "/t.Echo/Down": grpc.unary_stream_rpc_method_handler(self.down),
            "/t.Echo/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/t.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        return handlers.get(details.method)

    def unary(self, request, context):
        return b"echo:" + request

    def up(self, requests, context):
        return b"%d" % sum(len(one) for one in requests)

    def down(self, request, context):
        count, size = map(int, request.split())
        for _ in range(count):
            yield b"d" * size

    def both(self, requests, context):
        for one in requests:
            yield b"echo:" + one

    def fail(self, request, context):
        context.set_trailing_metadata((("x-detail", "why"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100%")


@contextlib.contextmanager
def serve_echo(*options) -> Iterator[tuple[Echo, int]]:
    echo = Echo()
    server = grpc.server(ThreadPoolExecutor(8), handlers=(echo,), options=(("grpc.so_reuseport", 0), *options))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield echo, port
    finally:
        server.stop(None)


@contextlib.contextmanager
def proxied(port: int, gate: FakeGate | None = None) -> Iterator[tuple[Running, grpc.Channel]]:
    running = Running(gate or FakeGate(), port)
    channel = grpc.insecure_channel(f"127.0.0.1:{running.port}", options=(("grpc.enable_retries", 0),))
    try:
        yield running, channel
    finally:
        channel.close()
        running.stop()


@pytest.fixture
def echo():
    with serve_echo() as (echo, port), proxied(port) as (running, channel):
        echo.running = running
        echo.channel = channel
        yield echo


@pytest.mark.parametrize("metadata", [GOOD, PENDING])
def test_unary(echo, metadata):
    call = echo.channel.unary_unary("/t.Echo/Unary")
    for size in (0, 10, 100_000, 3_000_000):
        assert call(b"x" * size, metadata=metadata, timeout=TIMEOUT) == b"echo:" + b"x" * size
    assert echo.calls[0]["x-org"] == "internal"
    assert "authorization" not in echo.calls[0]


@pytest.mark.parametrize("metadata", [GOOD, PENDING])
def test_client_stream(echo, metadata):
    call = echo.channel.stream_unary("/t.Echo/Up")
    assert call((b"x" * 50_000 for _ in range(100)), metadata=metadata, timeout=TIMEOUT) == b"5000000"


def test_server_stream(echo):
    call = echo.channel.unary_stream("/t.Echo/Down")
    assert sum(len(one) for one in call(b"300 50000", metadata=GOOD, timeout=TIMEOUT)) == 15_000_000


@pytest.mark.parametrize("metadata", [GOOD, PENDING])
def test_bidi_turn_by_turn(echo, metadata):
    call = echo.channel.stream_stream("/t.Echo/Both")
    turns: list[bytes] = []
    said = threading.Semaphore(1)

    def requests():
        for number in range(20):
            said.acquire(timeout=TIMEOUT)
            yield b"%d" % number

    for answer in call(requests(), metadata=metadata, timeout=TIMEOUT):
        turns.append(answer)
        said.release()
    assert turns == [b"echo:%d" % number for number in range(20)]


def test_many_calls_at_once(echo):
    call = echo.channel.unary_unary("/t.Echo/Unary")
    futures = [call.future(b"%d" % n, metadata=GOOD if n % 3 else None, timeout=TIMEOUT) for n in range(300)]
    for number, future in enumerate(futures):
        if number % 3:
            assert future.result() == b"echo:%d" % number
        else:
            assert future.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(echo.calls) == 200


def test_error_status_with_trailers(echo):
    with pytest.raises(grpc.RpcError) as failure:
        echo.channel.unary_unary("/t.Echo/Fail")(b"", metadata=GOOD, timeout=TIMEOUT)
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.value.details() == "not now: 100%"
    assert ("x-detail", "why") in failure.value.trailing_metadata()


def test_unknown_method_is_the_applications_to_say(echo):
    with pytest.raises(grpc.RpcError) as failure:
        echo.channel.unary_unary("/t.Echo/None")(b"", metadata=GOOD, timeout=TIMEOUT)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _endless():
    while True:
        time.sleep(0.05)
        yield b"x" * 1000


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.unary_unary("/t.Echo/Unary")(b"x", timeout=TIMEOUT),
        lambda channel: channel.stream_unary("/t.Echo/Up")(_endless(), timeout=TIMEOUT),
        lambda channel: list(channel.unary_stream("/t.Echo/Down")(b"1 1", timeout=TIMEOUT)),
        lambda channel: list(channel.stream_stream("/t.Echo/Both")(_endless(), timeout=TIMEOUT)),
    ],
    ids=["unary", "client-stream", "server-stream", "bidi"],
)
def test_denial_at_once(echo, call):
    grpc.channel_ready_future(echo.channel).result(TIMEOUT)
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as failure:
        call(echo.channel)
    seconds = time.monotonic() - started
    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert failure.value.details() == "Jwt is missing"
    assert seconds < TIMEOUT / 2  # milliseconds on an idle machine; never the deadline
    assert echo.calls == []


def test_cancelling_reaches_the_application(echo):
    gone = threading.Event()
    echo.down = lambda request, context: (context.add_callback(gone.set), iter(lambda: time.sleep(0.01) or b"x", None))[
        1
    ]
    call = echo.channel.unary_stream("/t.Echo/Down")(b"", metadata=GOOD, timeout=TIMEOUT)
    next(call)
    call.cancel()
    assert gone.wait(TIMEOUT)


def test_a_deadline_reaches_the_application_too(echo):
    with pytest.raises(grpc.RpcError) as failure:
        for _ in echo.channel.stream_stream("/t.Echo/Both")(_endless(), metadata=GOOD, timeout=0.3):
            pass
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_goaway_ends_no_stream_in_flight():
    """The server retires connections after a second; calls that last longer than that run to their end."""
    options = (("grpc.max_connection_age_ms", 500), ("grpc.max_connection_age_grace_ms", 20_000))
    with serve_echo(*options) as (_, port), proxied(port) as (_, channel):
        call = channel.stream_stream("/t.Echo/Both")
        ends = time.monotonic() + 2.5

        def requests():
            number = 0
            while time.monotonic() < ends or number <= 20:
                yield b"%d" % number
                number += 1
                time.sleep(0.02)

        results: list[int] = []

        def talk():
            results.append(sum(1 for _ in call(requests(), metadata=GOOD, timeout=TIMEOUT)))

        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.2)
        while time.monotonic() < ends:  # new calls meanwhile find a connection that takes them
            assert channel.unary_unary("/t.Echo/Unary")(b"x", metadata=GOOD, timeout=TIMEOUT, wait_for_ready=True)
            time.sleep(0.05)
        for thread in threads:
            thread.join(TIMEOUT)
        assert len(results) == 4
        assert min(results) > 20


def test_no_application():
    with unanswered_port() as port, proxied(port) as (_, channel), pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/t.Echo/Unary")(b"x", metadata=GOOD, timeout=TIMEOUT)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "connection failure" in failure.value.details()


def test_draining_lets_calls_finish(echo):
    call = echo.channel.stream_stream("/t.Echo/Both")
    finish = threading.Event()

    def requests():
        yield b"1"
        finish.wait(TIMEOUT)
        yield b"2"

    answers = call(requests(), metadata=GOOD, timeout=TIMEOUT)
    assert next(answers) == b"echo:1"
    running = echo.running
    draining = asyncio.run_coroutine_threadsafe(running.proxy.drain(TIMEOUT), running.loop)
    time.sleep(0.2)
    assert not draining.done()
    finish.set()
    assert list(answers) == [b"echo:2"]
    draining.result(TIMEOUT)
    assert running.proxy.connections == 0
