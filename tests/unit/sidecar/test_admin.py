"""The admin port over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from sidecar.admin import MAX_ANSWERING, MAX_CONNECTIONS, AdminAnswer, AdminRequest, AdminServer, Readiness, build_admin
from sidecar.metrics import Metrics, Reading


class Backend:
    """What the endpoints show."""

    def __init__(self) -> None:
        self.readiness = Readiness("plan", "listener")
        self.metrics = Metrics()
        self.quits = 0

    def quit(self) -> None:
        self.quits += 1

    async def read_metrics(self) -> Reading:
        return self.metrics.read()

    async def read_config(self) -> dict[str, object]:
        return {"digest": "abc"}

    def build(self) -> AdminServer:
        return build_admin(lambda: self.readiness.missing, self.read_metrics, self.read_config, self.quit)


def converse(backend: Backend, act: Callable[[Callable[[bytes], Awaitable[bytes]]], Awaitable[None]]) -> None:
    """Run ``act`` with a function that sends bytes on a fresh connection and returns everything that came back."""

    async def run() -> None:
        server = backend.build()
        host, port = await server.start("127.0.0.1", 0)

        async def send(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(data)
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            return answer

        await act(send)
        await server.stop()

    asyncio.run(run())


def get(path: str, method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_health_and_readiness() -> None:
    backend = Backend()

    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert (await send(get("/healthz"))).startswith(b"HTTP/1.1 200 ")
        answer = await send(get("/readyz"))
        assert answer.startswith(b"HTTP/1.1 503 ")
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert body == {"ready": False, "missing": {"plan": "not yet", "listener": "not yet"}}
        backend.readiness.meet("plan")
        backend.readiness.meet("listener")
        assert (await send(get("/readyz"))).startswith(b"HTTP/1.1 200 ")
        backend.readiness.lose("listener", "draining")
        assert b'"listener": "draining"' in await send(get("/readyz"))

    converse(backend, act)


def test_metrics_and_config() -> None:
    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        page = await send(get("/metrics?x=y"))
        assert b"content-type: text/plain; version=0.0.4" in page
        assert b"# TYPE eastgate_requests_total counter" in page
        assert b'"digest": "abc"' in await send(get("/config"))

    converse(Backend(), act)


def test_head_has_no_body() -> None:
    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        answer = await send(get("/healthz", "HEAD"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")

    converse(Backend(), act)


def test_what_there_is_not() -> None:
    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert (await send(get("/"))).startswith(b"HTTP/1.1 404 ")
        assert (await send(get("/healthz/../config"))).startswith(b"HTTP/1.1 404 ")
        answer = await send(get("/quit"))
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"allow: POST" in answer
        assert (await send(get("/metrics", "DELETE"))).startswith(b"HTTP/1.1 405 ")

    converse(Backend(), act)


def test_quitting_is_for_this_host_and_not_for_browsers() -> None:
    backend = Backend()

    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert (await send(get("/quit", "POST", "origin: http://evil"))).startswith(b"HTTP/1.1 403 ")
        assert (await send(get("/quit", "POST", "sec-fetch-site: cross-site"))).startswith(b"HTTP/1.1 403 ")
        assert backend.quits == 0
        assert (await send(get("/quit", "POST"))).startswith(b"HTTP/1.1 200 ")
        assert backend.quits == 1

    converse(backend, act)


def test_quitting_from_elsewhere_is_refused() -> None:
    backend = Backend()

    async def run() -> AdminAnswer:
        return await backend.build()._answer(AdminRequest("POST", "/quit", local=False, browser=False))

    assert asyncio.run(run()).status == 403
    assert backend.quits == 0


def test_bytes_that_are_no_request() -> None:
    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        assert (await send(b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert (await send(b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")  # no host
        assert (await send(get("/", "GET", "x: " + "y" * 20_000))).startswith(b"HTTP/1.1 431 ")

    converse(Backend(), act)


def test_idle_callers_do_not_keep_a_probe_out() -> None:
    async def run() -> None:
        server = Backend().build()
        host, port = await server.start("127.0.0.1", 0)
        idle = [await asyncio.open_connection(host, port) for _ in range(MAX_CONNECTIONS + 10)]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(get("/healthz"))
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        assert await idle[0][0].read() == b"", "the oldest had to go"
        for _, other in (*idle, (reader, writer)):
            other.close()
        await server.stop()

    asyncio.run(run())


def test_an_answer_that_fails_says_nothing() -> None:
    class Broken(Backend):
        async def read_config(self) -> dict[str, object]:
            raise ValueError("SECRET")

    async def act(send: Callable[[bytes], Awaitable[bytes]]) -> None:
        answer = await send(get("/config"))
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"SECRET" not in answer

    converse(Broken(), act)


def test_a_route_for_everything_below_a_path() -> None:
    async def answer(request: AdminRequest) -> AdminAnswer:
        return AdminAnswer(200, request.path.encode())

    server = AdminServer()
    server.route("GET", "/app-probe/", answer)

    async def run() -> AdminAnswer:
        return await server._answer(AdminRequest("GET", "/app-probe/web/readyz", local=True, browser=False))

    assert asyncio.run(run()).body == b"/app-probe/web/readyz"


def test_probes_that_hang_do_not_make_the_sidecar_look_ill() -> None:
    async def run() -> None:
        server, ended = Backend().build(), asyncio.Event()

        async def hang(_request: AdminRequest) -> AdminAnswer:
            await ended.wait()
            return AdminAnswer(200, b"")

        server.route("GET", "/app-probe/", hang, patient=True)
        host, port = await server.start("127.0.0.1", 0)

        async def ask(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(get(path))
            await writer.drain()
            return reader, writer

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
            async with asyncio.timeout(20):
                status = (await reader.read())[:13]
            writer.close()
            return status

        waiting = [await ask("/app-probe/a/livez") for _ in range(MAX_ANSWERING + 6)]
        await asyncio.sleep(0.1)
        assert await read(*await ask("/healthz")) == b"HTTP/1.1 200 "
        ended.set()
        assert {await read(*one) for one in waiting} == {b"HTTP/1.1 200 "}
        await server.stop()

    asyncio.run(run())
