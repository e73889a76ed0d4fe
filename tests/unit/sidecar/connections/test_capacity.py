"""How many clients there is room for, and what becomes of one too many."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sidecar.connections import room
from sidecar.connections.capacity import MOST_CONNECTIONS, RESERVED, find_capacity
from tests.unit.sidecar.connections.test_proxy import Run, answer_ok, exchange, run, running  # noqa: F401 (a fixture)

GET = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n\r\n"


class Descriptors:
    """The limit of this process, played."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.limit = (soft, hard)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.limit)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, _: int, limit: tuple[int, int]) -> None:
        self.limit = limit


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "capacity", "raised"),
    [
        (1024, 1_048_576, None, MOST_CONNECTIONS, 2 * MOST_CONNECTIONS + RESERVED),
        (1_048_576, 1_048_576, None, MOST_CONNECTIONS, 1_048_576),
        (1024, resource.RLIM_INFINITY, 50_000, 50_000, 100_000 + RESERVED),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, MOST_CONNECTIONS, resource.RLIM_INFINITY),
        (1024, 4096, None, (4096 - RESERVED) // 2, 4096),
        (1024, 1024, None, 256, 1024),
        (16, 16, None, 4, 16),
        (1, 1, None, 1, 1),
        (1024, 4096, 100, 100, 2 * 100 + RESERVED),
        (1024, 4096, 5000, (4096 - RESERVED) // 2, 4096),
    ],
)
def test_the_capacity_follows_from_the_descriptors(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    asked: int | None,
    capacity: int,
    raised: int,
) -> None:
    descriptors = Descriptors(monkeypatch, soft, hard)
    assert find_capacity(asked) == capacity
    assert descriptors.limit == (raised, hard)
    assert ("file descriptors for" in caplog.text) is (asked is not None and asked > capacity)


def test_a_limit_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = Descriptors(monkeypatch, 2048, 8192)

    def refuse(_: int, limit: tuple[int, int]) -> None:
        raise ValueError(limit)

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert find_capacity() == 512
    assert descriptors.limit == (2048, 8192)


def test_the_real_limit_of_a_process_is_raised() -> None:
    code = (
        "import resource; from sidecar.connections.capacity import find_capacity; n, hard = resource.RLIMIT_NOFILE, 4096\n"
        "resource.setrlimit(n, (256, hard)); print(find_capacity(), resource.getrlimit(n))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1536 (4096, 4096)\n"


@contextlib.contextmanager
def recorded(message: str = "turned away") -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if message in record.getMessage():
                records.append(record)

    handler = Handler()
    room.logger.addHandler(handler)
    yield records
    room.logger.removeHandler(handler)


def test_one_too_many_is_reset_unread_and_the_others_are_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(room, "ANNOUNCE_SECONDS", 0.3)
    monkeypatch.setattr(room, "LEAST_IDLE_SECONDS", 3600.0)

    async def scenario() -> None:
        with recorded() as records:
            async with running(answer_ok, max_connections=3) as (proxy, port, upstream):
                clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
                for reader, writer in clients:
                    writer.write(GET)
                    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
                for _ in range(20):
                    with contextlib.suppress(ConnectionError):
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.write(GET)
                        assert await reader.read() == b""
                        writer.close()
                assert (proxy.connections, proxy.capacity, proxy.turned_away) == (3, 3, 20)
                assert upstream.connections == 3
                assert [record.fields for record in records] == [{"count": 1, "open": 3, "capacity": 3}]  # type: ignore[attr-defined]
                for reader, writer in clients:
                    writer.write(GET)
                    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
                clients[0][1].close()
                await asyncio.sleep(0.1)
                assert (await exchange(port, GET)).startswith(b"HTTP/1.1 200 ")
                await asyncio.sleep(0.4)
                assert sum(record.fields["count"] for record in records) == 20  # type: ignore[attr-defined]
                assert len(records) == 2
                for _, writer in clients:
                    writer.close()

    run(scenario())


def test_a_later_flood_is_announced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ANNOUNCE_SECONDS", 0.05)

    async def scenario() -> None:
        with recorded() as records:
            async with running(max_connections=1) as (_, port, _upstream):
                _, held = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(2):
                    with contextlib.suppress(ConnectionError):
                        await exchange(port, GET)
                    await asyncio.sleep(0.2)
                held.close()
                assert [record.fields["count"] for record in records] == [1, 1]  # type: ignore[attr-defined]

    asyncio.run(scenario())
