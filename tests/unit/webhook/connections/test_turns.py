from __future__ import annotations

import asyncio
import selectors
import socket

import pytest

from webhook.connections.turns import AT_ONCE, make_loop


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="a selector of Linux")
def test_who_is_always_ready_holds_up_nobody() -> None:
    """All have more to read than is taken at a time. Each gets its turn before anyone gets a second."""
    loop = make_loop()
    pairs = [socket.socketpair() for _ in range(3 * AT_ONCE)]
    served: list[int] = []

    async def serve() -> None:
        done = asyncio.Event()

        def take(number: int) -> None:
            served.append(number)
            pairs[number][0].recv(1)
            if len(served) == 3 * len(pairs):
                done.set()

        for number, (here, there) in enumerate(pairs):
            there.send(b"x" * 10)
            loop.add_reader(here.fileno(), take, number)
        await asyncio.wait_for(done.wait(), 5)

    try:
        loop.run_until_complete(serve())
    finally:
        for here, there in pairs:
            loop.remove_reader(here.fileno())
            here.close()
            there.close()
        loop.close()
    count = len(pairs)
    assert [sorted(served[start : start + count]) for start in (0, count, 2 * count)] == [list(range(count))] * 3


def test_a_loop_that_waits_and_writes() -> None:
    """Streams, timers and threads as on any other loop."""

    async def work() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(2_000_000))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 2_000_000)
        await asyncio.sleep(0.01)
        content = await reader.read()
        writer.close()
        server.close()
        return await asyncio.to_thread(lambda: content)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert len(runner.run(work())) == 2_000_000
