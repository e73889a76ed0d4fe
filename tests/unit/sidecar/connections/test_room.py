"""Who makes room for a newcomer: the client that has been idle longest, and nobody who has anything in flight."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sidecar.connections import room
from sidecar.connections.proxy import Proxy
from sidecar.connections.room import LEAST_IDLE_SECONDS, LOOK_SECONDS, IdleClients
from sidecar.lanes.http2.frames import GOAWAY, HEADERS, PREFACE, SETTINGS, FrameReader, encode_frame, encode_head
from tests.lanes.http2_peer import Clock
from tests.unit.sidecar.connections.test_capacity import recorded
from tests.unit.sidecar.connections.test_proxy import OK, Run, Upstream, answer_ok, run, running  # noqa: F401 (a fixture)

GET = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n\r\n"
HELLO = PREFACE + encode_frame(SETTINGS, 0, 0, b"")
BLOCK = b"\x82\x86\x84\x41\x01a"  # GET http / at a, without a token

type Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Held:
    """A connection, as far as room is concerned."""

    idle_since: float | None


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is idle may be asked to go, and is looked for without a pause."""
    monkeypatch.setattr(room, "LEAST_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.0)


def test_the_longest_idle_is_first_and_the_busy_are_never() -> None:
    clock = Clock()
    held = {"busy": Held(None), "young": Held(999.0), "old": Held(900.0), "older": Held(800.0), "oldest": Held(700.0)}
    idle = IdleClients(held, clock)
    assert idle.take_longest() is held["oldest"]
    held["older"].idle_since = None
    assert idle.take_longest() is held["old"]
    assert idle.take_longest() is None
    clock.now += LOOK_SECONDS + LEAST_IDLE_SECONDS - 1
    assert idle.take_longest() is held.pop("oldest")
    assert idle.take_longest() is held["old"]
    assert idle.take_longest() is held["young"]


def test_who_was_heard_of_since_the_look_or_is_gone_keeps_out_of_it() -> None:
    clock = Clock()
    held = {name: Held(100.0 + name) for name in range(4)}
    idle = IdleClients(held, clock)
    assert idle.take_longest() is held[0]
    held[1].idle_since = 1000.0
    del held[2]
    assert idle.take_longest() is held[3]


def test_all_connections_are_looked_at_once_a_second_at_most() -> None:
    clock = Clock()
    looks = 0

    class Counted(Held):
        @property
        def idle_since(self) -> float | None:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return None

        @idle_since.setter
        def idle_since(self, since: float | None) -> None:
            """Never idle."""

    idle = IdleClients({number: Counted(None) for number in range(10)}, clock)
    for _ in range(100):
        assert idle.take_longest() is None
    assert looks == 10
    clock.now += LOOK_SECONDS
    assert idle.take_longest() is None
    assert looks == 20


async def dial(port: int) -> Client:
    return await asyncio.open_connection("127.0.0.1", port)


async def ask(client: Client) -> None:
    reader, writer = client
    writer.write(GET)
    assert (await asyncio.wait_for(reader.readuntil(b"ok"), 10)).startswith(b"HTTP/1.1 200 ")


async def is_refused(port: int) -> bool:
    try:
        reader, writer = await dial(port)
        writer.write(GET)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    except ConnectionError:
        return True
    return answer == b""


@pytest.mark.usefixtures("at_once")
def test_the_longest_idle_makes_room(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        with recorded("make room") as records:
            async with running(answer_ok, max_connections=3) as (proxy, port, _):
                clients = [await dial(port) for _ in range(3)]
                for client in (clients[1], clients[0], clients[2]):
                    await ask(client)
                    await asyncio.sleep(0.02)
                newcomers = []
                for gone in (1, 0):
                    newcomers.append(await dial(port))
                    await ask(newcomers[-1])
                    assert await asyncio.wait_for(clients[gone][0].read(), 10) == b""
                await ask(clients[2])
                assert (proxy.turned_away, proxy.displaced, proxy.connections) == (0, 2, 3)
                assert [record.fields for record in records] == [{"count": 1, "open": 3, "capacity": 3}]  # type: ignore[attr-defined]
                for _, writer in (*clients, *newcomers):
                    writer.close()

    run(scenario())


@pytest.mark.usefixtures("at_once")
def test_a_client_that_never_spoke_makes_room() -> None:
    async def scenario() -> None:
        async with running(answer_ok, max_connections=20) as (proxy, port, _):
            silent = [await dial(port) for _ in range(20)]
            await asyncio.sleep(0.05)
            others = await asyncio.gather(*[dial(port) for _ in range(10)])
            await asyncio.gather(*[ask(other) for other in others])
            assert (proxy.turned_away, proxy.displaced, proxy.connections) == (0, 10, 20)
            for _, writer in (*silent, *others):
                writer.close()

    asyncio.run(scenario())


BUSY: dict[str, Callable[[], bytes]] = {
    "half a head": lambda: b"GET / HT",
    "half a preface": lambda: PREFACE[:5],
    "half a body": lambda: GET[:-2] + b"Content-Length: 5\r\n\r\nab",
    "an answer that is awaited": lambda: GET.replace(b"GET /", b"GET /slow"),
    "HTTP/2 without SETTINGS": lambda: PREFACE,
    "half an HTTP/2 head": lambda: HELLO + encode_frame(HEADERS, 0, 1, BLOCK),
    "half a frame": lambda: HELLO + b"\0\0",
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("what", BUSY)
def test_a_client_with_anything_in_flight_keeps_its_place(what: str) -> None:
    async def respond(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if b"/slow" not in data:
                writer.write(OK)

    async def scenario() -> None:
        async with running(respond, max_connections=1) as (proxy, port, _):
            _, writer = await dial(port)
            writer.write(BUSY[what]())
            await asyncio.sleep(0.1)
            assert await is_refused(port)
            assert (proxy.turned_away, proxy.displaced, proxy.connections) == (1, 0, 1)
            writer.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("at_once")
def test_an_idle_http2_client_hears_goaway_with_its_last_stream(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with running(answer_ok, max_connections=1) as (proxy, port, _):
            reader, writer = await dial(port)
            writer.write(HELLO + encode_frame(SETTINGS, 1, 0, b"") + encode_head(1, BLOCK, True))
            frames, received = FrameReader(), []
            while not any(frame.kind == HEADERS for frame in received):
                received += frames.feed(await asyncio.wait_for(reader.read(65536), 10))
            newcomer = await dial(port)
            await ask(newcomer)
            received += frames.feed(await asyncio.wait_for(reader.read(), 10))
            assert received[-1].kind == GOAWAY
            assert received[-1].payload == struct.pack(">LL", 1, 0)
            assert (proxy.turned_away, proxy.displaced) == (0, 1)
            for one in (writer, newcomer[1]):
                one.close()

    run(scenario())


@pytest.mark.usefixtures("at_once")
def test_a_tunnel_never_makes_room() -> None:
    async def scenario() -> None:
        upstream = await asyncio.start_server(Upstream(answer_ok).handle, "127.0.0.1", 0)
        address = upstream.sockets[0].getsockname()[:2]
        options = {"upstream": address, "opaque_ports": frozenset([address[1]]), "max_connections": 1}
        async with running(**options) as (proxy, port, _unused):
            reader, writer = await dial(port)
            writer.write(b"EHLO\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"ok"), 10) == OK
            assert await is_refused(port)
            assert _counts(proxy) == (1, 0)
            writer.close()
        upstream.close()

    asyncio.run(scenario())


def _counts(proxy: Proxy) -> tuple[int, int]:
    return proxy.turned_away, proxy.displaced
