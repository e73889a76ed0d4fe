"""The proxy on real sockets: bypasses, ends, back-pressure, draining. The gate is the lanes' stub; everything else is
real.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from eastgate.model.keys import RemoteKeys
from sidecar import _mitmproxy
from sidecar._mitmproxy import Layer, commands, events
from sidecar.connections.connection import SidecarHandler
from sidecar.connections.proxy import Proxy
from sidecar.lanes.http1.lane import Http1Lane
from sidecar.options import Limits, ServeOptions
from tests.lanes.stub_gate import SOURCE, StubGate
from tests.ports import free_port

GOOD = b"Authorization: Bearer good\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Keys:
    """Records the fetches; each takes a moment, or for ever, or fails."""

    def __init__(self, seconds: float = 0.01, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.fetched: list[tuple[RemoteKeys, ...]] = []

    async def fetch(self, sources: tuple[RemoteKeys, ...]) -> None:
        self.fetched.append(sources)
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error


class Upstream:
    """An application that keeps what it reads and answers each segment with ``respond``."""

    def __init__(
        self, respond: Callable[[Upstream, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self.respond = respond
        self.seen = b""
        self.connections = 0
        self.ended = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            await self.respond(self, reader, writer)
        writer.close()
        self.ended.set()


async def answer_ok(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        upstream.seen += data
        writer.write(OK)


@contextlib.asynccontextmanager
async def running(
    respond: Callable[..., Awaitable[None]] = answer_ok,
    gate: StubGate | None = None,
    keys: Keys | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Proxy, int, Upstream]]:
    upstream = Upstream(respond)
    server = await asyncio.start_server(upstream.handle, "127.0.0.1", 0)
    address = options.pop("upstream", server.sockets[0].getsockname()[:2])
    settings = replace(ServeOptions((), address, ("127.0.0.1", 0)), **options)
    proxy = Proxy(gate or StubGate(), keys or Keys(), settings)  # type: ignore[arg-type]
    _, port = await proxy.start()
    try:
        yield proxy, port, upstream
    finally:
        await proxy.stop()
        server.close()


async def exchange(port: int, *segments: bytes, pause: float = 0.02) -> bytes:
    """Send segments one by one; everything that comes back until the proxy is silent for a moment or closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(pause)
        while True:
            data = await asyncio.wait_for(reader.read(65536), 0.3)
            if not data:
                break
            received += data
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return received


LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    return LOOPS[request.param]


type Run = Callable[[Coroutine[Any, Any, None]], None]


def test_an_allowed_and_a_denied_request(run: Run) -> None:
    async def scenario() -> None:
        async with running() as (proxy, port, upstream):
            answer = await exchange(port, b"GET /a HTTP/1.1\r\nHost: a\r\nX-Org: admin\r\n" + GOOD + b"\r\n")
            assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            assert (
                upstream.seen == b"GET /a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer good\r\nx-org: internal\r\n\r\n"
            )
            assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
            assert upstream.connections == 1
            await asyncio.sleep(0.05)
            assert proxy.connections == 0

    run(scenario())


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ((b"GE", b"T /secret HTTP/1.1\r\nHost: a\r\n\r\n"), b"HTTP/1.1 401 "),
        ((b"G", b"E", b"T /secret HTTP/1.1\r\nHost: a\r\n\r\n"), b"HTTP/1.1 401 "),
        ((b"\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n",), b"HTTP/1.1 401 "),
        ((b"\r\n", b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"), b"HTTP/1.1 401 "),
        ((b"\r\n\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n",), b"HTTP/1.1 400 "),
        ((b"\n\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n",), b"HTTP/1.1 400 "),
        ((b"GET\t/secret HTTP/1.1\r\nHost: a\r\n\r\n",), b"HTTP/1.1 400 "),
        ((b"!GET /secret HTTP/1.1\r\nHost: a\r\n\r\n",), b"HTTP/1.1 400 "),
        ((b"\x00\x01\x02\x03",), b"HTTP/1.1 400 "),
        ((b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",), b"HTTP/1.1 505 "),
        ((b"GET /secret\r\n",), b"HTTP/1.1 400 "),
        ((b"GET http://evil/adm HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n",), b"HTTP/1.1 400 "),
        ((b"GET / HTTP/1.1\r\nHost: a\r\nX: X\rTransfer-Encoding: chunked\r\n" + GOOD + b"\r\n",), b"HTTP/1.1 400 "),
        ((b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n",), b"HTTP/1.1 405 "),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), b""),
    ],
)
def test_the_ways_round_stock_mitmproxy_are_closed(segments: tuple[bytes, ...], expected: bytes) -> None:
    async def scenario() -> None:
        async with running() as (_, port, upstream):
            answer = await exchange(port, *segments)
            assert answer.startswith(expected)
            assert (answer == b"") is (expected == b"")
            assert upstream.connections == 0

    asyncio.run(scenario())


def test_a_server_that_speaks_first_opens_nothing() -> None:
    async def banner(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp ready\r\n")
        await reader.read()

    async def scenario() -> None:
        async with running(banner) as (_, port, upstream):
            assert await exchange(port, b"") == b""
            assert upstream.connections == 0
            assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")).startswith(
                b"HTTP/1.1 502 "
            )

    asyncio.run(scenario())


def test_an_opaque_port_is_a_tunnel(run: Run) -> None:
    async def banner(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp ready\r\n")
        writer.write(b"got " + await reader.read())  # until FIN: the half-close has to come through
        await writer.drain()

    async def scenario() -> None:
        upstream = await asyncio.start_server(Upstream(banner).handle, "127.0.0.1", 0)
        address = upstream.sockets[0].getsockname()[:2]
        async with running(upstream=address, opaque_ports=frozenset([address[1]])) as (_, port, _unused):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"EHLO\r\n")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 2) == b"220 smtp ready\r\ngot EHLO\r\n"
            writer.close()
        upstream.close()

    run(scenario())


def test_a_large_upload_is_denied_on_its_head(run: Run) -> None:
    async def scenario() -> None:
        async with running() as (_, port, upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            started = time.monotonic()
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")

            async def upload() -> int:
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while sent < 50_000_000:
                        writer.write(b"x" * 65536)
                        await writer.drain()
                        sent += 65536
                return sent

            sending = asyncio.create_task(upload())
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 401 ")
            assert time.monotonic() - started < 5, "milliseconds on an idle machine"
            assert await reader.read() == b"Jwt is missing"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(sending), 20)
            assert sending.done(), "the client is not left hanging"
            assert sending.result() < 50_000_000
            writer.close()
            assert upstream.connections == 0

    run(scenario())


def test_a_lane_that_raises_closes_both_sides_and_says_no_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A lane answers its own failures; if even that fails, the handler ends it."""

    def raise_it(*_: object) -> None:
        raise ValueError("Bearer eyJsecret")

    async def scenario() -> None:
        async with running() as (proxy, port, upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            await reader.readuntil(b"ok")
            (handler,) = proxy._addon.connections.values()
            handler.layer.handle_event = raise_it  # type: ignore[method-assign,assignment]
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            assert await asyncio.wait_for(reader.read(), 2) == b""
            await asyncio.wait_for(upstream.ended.wait(), 2)
            writer.close()
            assert upstream.seen.count(b"GET") == 1
            await asyncio.sleep(0.05)
            assert proxy.connections == 0
            monkeypatch.setattr(Http1Lane, "handle_event", raise_it)
            assert await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n") == b""

    run(scenario())
    assert "ValueError" in caplog.text
    assert "eyJsecret" not in caplog.text


@pytest.mark.parametrize(
    "name", ["received", "dispatch", "_carry_out", "_send", "open_connection", "_connected", "_fail"]
)
def test_a_handler_that_raises_forwards_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def raise_it(*_: object, **__: object) -> None:
        raise ValueError("Bearer eyJsecret")

    async def scenario() -> None:
        async with running(limits=Limits(idle_seconds=0.3)) as (proxy, port, upstream):
            monkeypatch.setattr(SidecarHandler, name, raise_it)
            if name == "_fail":
                monkeypatch.setattr(Http1Lane, "handle_event", raise_it)
            assert b"200 OK" not in await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            assert upstream.seen == b""
            await asyncio.sleep(0.7)
            assert proxy.connections == 0
            monkeypatch.undo()
            assert b"200 OK" in await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")

    run(scenario())
    assert "eyJsecret" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("eastgate")
    )


def test_a_top_layer_that_cannot_be_made_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running() as (proxy, port, upstream):
            proxy._addon.make_top_layer = lambda _: 1 / 0  # type: ignore[assignment,return-value]
            assert await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n") == b""
            assert upstream.connections == 0
            await asyncio.sleep(0.05)
            assert proxy.connections == 0

    asyncio.run(scenario())


def test_a_command_nobody_knows_is_a_failure() -> None:
    class Strange(commands.Command):
        pass

    class Odd(Layer):
        def _handle_event(self, event: events.Event) -> _mitmproxy.Commands:
            if isinstance(event, events.DataReceived):
                yield Strange()

    async def scenario() -> None:
        async with running() as (proxy, port, _):
            proxy._addon.make_top_layer = Odd
            assert await exchange(port, b"x") == b""

    asyncio.run(scenario())


def test_keys_are_fetched_once_and_the_request_goes_on(run: Run) -> None:
    async def scenario() -> None:
        keys = Keys()
        async with running(keys=keys) as (_, port, _upstream):
            answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fetch\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert keys.fetched == [(SOURCE,)]

    run(scenario())


@pytest.mark.parametrize("keys", [Keys(seconds=60), Keys(error=RuntimeError("secret"))])
def test_a_fetch_that_hangs_or_fails_is_bounded(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with running(keys=keys, limits=Limits(keys_seconds=0.05)) as (_, port, _upstream):
            answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fetch\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), "the gate is asked again and decides"

    asyncio.run(scenario())
    assert "secret" not in caplog.text


def test_a_slow_head_is_given_up() -> None:
    async def scenario() -> None:
        async with running(limits=Limits(head_seconds=0.1)) as (_, port, _upstream):
            assert (await exchange(port, b"GET / HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
            assert await exchange(port, b"PRI * HT") == b""

    asyncio.run(scenario())


def test_an_idle_connection_is_given_up() -> None:
    async def scenario() -> None:
        async with running(limits=Limits(idle_seconds=0.1)) as (proxy, port, _upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
            await asyncio.sleep(0.05)
            assert proxy.connections == 0

    asyncio.run(scenario())


def test_an_upstream_that_does_not_answer_the_dial() -> None:
    async def scenario() -> None:
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        async with running(upstream=full.getsockname(), limits=Limits(connect_seconds=0.1)) as (_, port, _upstream):
            assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")).startswith(
                b"HTTP/1.1 503 "
            )
        for filler in [*fillers, full]:
            filler.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_proxy_never_dials_itself(host: str) -> None:
    async def scenario() -> None:
        port = free_port()
        async with running(upstream=(host, port), listen=("127.0.0.1", port)) as (proxy, _, _upstream):
            assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")).startswith(
                b"HTTP/1.1 503 "
            )
            await asyncio.sleep(0.1)
            assert proxy.connections <= 1

    asyncio.run(scenario())


def test_a_bind_that_fails_says_so() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(OSError, match="failed to listen"):
                async with running(listen=taken.getsockname()[:2]):
                    pass

    asyncio.run(scenario())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("listen", ["", "::", "::1"])
def test_ipv6(run: Run, listen: str) -> None:
    async def scenario() -> None:
        gate = StubGate()
        async with running(gate=gate, listen=(listen, 0)) as (_, port, _upstream):
            for host in ["::1"] if listen == "::1" else ["::1", "127.0.0.1"]:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await asyncio.wait_for(reader.read(12), 2)) == b"HTTP/1.1 401"
                assert gate.requests[-1].peer == host, "an IPv4 peer is an IPv4 peer to policies"
                writer.close()

    run(scenario())


def test_two_workers_share_a_port() -> None:
    async def scenario() -> None:
        async with running() as (_, port, _one), running(listen=("127.0.0.1", port)) as (_, second, _two):
            assert second == port

    asyncio.run(scenario())


def test_a_wrong_mitmproxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mitmproxy.version, "VERSION", "12.2.4")
    with pytest.raises(RuntimeError, match=r"12\.2\.3 is required"):
        Proxy(StubGate(), Keys(), ServeOptions((), ("127.0.0.1", 1), ("127.0.0.1", 0)))  # type: ignore[arg-type]


def test_an_inbound_connection_that_nobody_redirected_is_refused(run: Run) -> None:
    """SO_ORIGINAL_DST is then our own address, or unknown; both lead nowhere but back here."""

    async def scenario() -> None:
        proxy = Proxy(StubGate(allow_all=True), Keys(), ServeOptions((), ("", 0), ("127.0.0.1", 0)), inbound=True)  # type: ignore[arg-type]
        _, port = await proxy.start()
        assert await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
        await proxy.stop()

    run(scenario())


# --- back-pressure ------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_stops_the_application_but_not_its_own_upload(run: Run) -> None:
    sent = 0
    uploaded = asyncio.Event()

    async def duplex(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")

        async def download() -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"d" * 65536 + b"\r\n")
                await writer.drain()
                sent += 65536

        downloading = asyncio.create_task(download())
        received = 0
        while received < 20_000_000:
            data = await reader.read(65536)
            if not data:
                break
            received += len(data)
        uploaded.set()
        downloading.cancel()

    async def scenario() -> None:
        async with running(duplex) as (_, port, _upstream):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n" + GOOD + b"\r\n")
            for _ in range(306):
                writer.write(b"u" * 65536)
                await asyncio.wait_for(writer.drain(), 5)
            await asyncio.wait_for(uploaded.wait(), 5)
            assert sent < 20_000_000, "kernel buffers and ours, no more"
            writer.transport.abort()

    run(scenario())


def test_a_client_that_reads_none_of_our_own_answers_is_not_read(run: Run) -> None:
    async def scenario() -> None:
        async with running() as (proxy, port, _upstream):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 60_000_000:
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
                    await asyncio.wait_for(writer.drain(), 0.5)
                    sent += 56_000
            assert sent < 60_000_000
            (handler,) = proxy._addon.connections.values()
            assert handler.client_endpoint.transport.get_write_buffer_size() < 16_000_000
            writer.transport.abort()

    run(scenario())


PROXY_PROGRAM = """
import asyncio, sys, uvloop
from sidecar.options import ServeOptions
from sidecar.connections.proxy import Proxy
from tests.lanes.stub_gate import StubGate
from tests.unit.sidecar.connections.test_proxy import Keys
async def main():
    proxy = Proxy(StubGate(allow_all=True), Keys(), ServeOptions((), ("127.0.0.1", int(sys.argv[1])), ("127.0.0.1", 0)))
    print((await proxy.start())[1], flush=True)
    await asyncio.sleep(60)
uvloop.run(main())
"""


def resident(process: int) -> int:
    """Megabytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


@pytest.mark.parametrize("framing", [b"Content-Length: 314572800\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_a_download_of_300_mb_to_a_slow_reader_takes_constant_memory(framing: bytes) -> None:
    size = 300 * 1024 * 1024
    block = b"d" * 262144

    async def download(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        chunked = framing.startswith(b"Transfer")
        for _ in range(size // len(block)):
            writer.write(b"40000\r\n" + block + b"\r\n" if chunked else block)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def scenario() -> None:
        server = await asyncio.start_server(Upstream(download).handle, "127.0.0.1", 0)
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROXY_PROGRAM, str(server.sockets[0].getsockname()[1]), stdout=subprocess.PIPE
        )
        try:
            assert program.stdout is not None
            port = int(await program.stdout.readline())
            await exchange(port, b"GET / HTTP/1.0\r\n")  # everything imported
            idle = resident(program.pid)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received, most = 0, idle
            pauses = iter(range(20))
            while data := await reader.read(1 << 20):
                received += len(data)
                if received < 20_000_000 and next(pauses, None) is not None:
                    await asyncio.sleep(0.05)
                    most = max(most, resident(program.pid))
            most = max(most, resident(program.pid))
            assert received >= size
            assert most - idle < 30
            writer.close()
        finally:
            program.kill()
            await program.wait()
            server.close()

    asyncio.run(scenario())


# --- draining -----------------------------------------------------------------------------------------------------


def test_draining_finishes_what_is_in_flight(run: Run) -> None:
    release = asyncio.Event()

    async def slow(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            await release.wait()
            writer.write(OK)

    async def scenario() -> None:
        async with running(slow) as (proxy, port, _upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            await asyncio.sleep(0.05)
            draining = asyncio.create_task(proxy.drain(5))
            await asyncio.sleep(0.05)
            with pytest.raises(OSError, match="onnect"):
                await asyncio.open_connection("127.0.0.1", port)
            assert not draining.done()
            release.set()
            answer = await asyncio.wait_for(reader.read(), 2)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close\r\n" in answer
            await asyncio.wait_for(draining, 20)
            assert proxy.connections == 0
            writer.close()

    run(scenario())


def test_draining_ends_at_its_deadline() -> None:
    async def never(_: Upstream, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scenario() -> None:
        async with running(never) as (proxy, port, upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            await asyncio.sleep(0.05)
            await proxy.drain(0.1)
            assert proxy.connections == 1
            await proxy.stop()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
            await asyncio.wait_for(upstream.ended.wait(), 2)
            writer.close()

    asyncio.run(scenario())


def test_a_response_that_the_drain_cuts_is_not_taken_for_complete(run: Run) -> None:
    """A response without a length ends with its connection: what is cut must not end as if it were whole."""

    async def endless(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        await reader.read()

    async def scenario() -> None:
        async with running(endless) as (proxy, port, _upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            await reader.readuntil(b"half of it")
            await proxy.drain(0.05)
            await proxy.stop()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
            writer.close()

    run(scenario())


def test_draining_loses_no_connection_that_waits_to_be_accepted(run: Run) -> None:
    """The kernel has made them, so their clients believe in them; closing the listener would reset them."""

    async def scenario() -> None:
        async with running() as (proxy, port, _upstream):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]  # the loop is not run between
            draining = asyncio.create_task(proxy.drain(5))
            answers = []
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            for client in clients:
                reader, writer = await asyncio.open_connection(sock=client)
                answers.append(await asyncio.wait_for(reader.read(), 3))
                writer.close()
            assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * 20
            with pytest.raises(OSError, match="onnect"):
                await asyncio.open_connection("127.0.0.1", port)
            await asyncio.wait_for(draining, 20)

    run(scenario())


def test_draining_leaves_an_idle_client_a_moment() -> None:
    async def scenario() -> None:
        async with running() as (proxy, port, _upstream):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            await reader.readuntil(b"ok")
            draining = asyncio.create_task(proxy.drain(5))
            await asyncio.sleep(0.05)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
            assert b"connection: close\r\n" in await asyncio.wait_for(reader.read(), 2)
            await asyncio.wait_for(draining, 20)
            writer.close()

    asyncio.run(scenario())


def test_a_client_that_takes_nothing_any_more_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.connections import endpoint

    monkeypatch.setattr(endpoint, "STUCK_SECONDS", 0.2)

    async def big(_: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 8_000_000)
        await asyncio.sleep(30)

    async def scenario() -> None:
        async with running(big) as (proxy, port, _upstream):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
                await asyncio.sleep(0.3)
                for handler in list(proxy._addon.connections.values()):
                    handler.close_connection(handler.client)
                await asyncio.sleep(0.6)
                assert proxy.connections == 0

    asyncio.run(scenario())
