"""The app's probes, asked of real servers as the kubelet would."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from eastgate.pods.probes import AppProbe
from sidecar.admin import AdminAnswer, AdminRequest, AdminServer, NoAnswer
from sidecar.loops import make_loop
from sidecar.probes import grpc as grpc_probe
from sidecar.probes.prober import Prober
from sidecar.probes.verdict import ProbeError
from tests.unit.sidecar.key_server import make_authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def run_loop[Result](work: Coroutine[Any, Any, Result]) -> Result:
    """Run on the loop that the sidecar runs on."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(work)


class App:
    """Answers what it is told, and keeps what it was asked."""

    def __init__(self, answer: bytes | Callable[[str], bytes] = OK, delay: float = 0.0) -> None:
        self.answer = answer
        self.delay = delay
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.asked.append(head)
            await asyncio.sleep(self.delay)
            writer.write(self.answer if isinstance(self.answer, bytes) else self.answer(head.split(" ")[1]))
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def run(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self.port
        finally:
            server.close()


def request(path: str, *, local: bool = False, agent: str = "") -> AdminRequest:
    return AdminRequest("GET", path, local=local, browser=False, agent=agent)


async def ask(probe: AppProbe, *, local: bool = True, agent: str = "", address: str = "127.0.0.1") -> AdminAnswer:
    prober = Prober({"web/readyz": probe}, address)
    return await prober.answer_probe(request("/app-probe/web/readyz", local=local, agent=agent))


def ask_app(app: App, **fields: object) -> AdminAnswer:
    async def run() -> AdminAnswer:
        async with app.run() as port:
            return await ask(replace(AppProbe("http", port), **fields))

    return run_loop(run())


# --- http ---


def test_a_request_as_the_kubelet_makes_it() -> None:
    app = App()
    answer = ask_app(app, path="/health?x=1#y", headers=(("X-Key", "a b"), ("x-key", "c")))
    assert answer.status == 200
    head = app.asked[0].split("\r\n")
    assert head[0] == "GET /health?x=1 HTTP/1.1"
    fields = [tuple(line.lower().split(": ", 1)) for line in head[1:] if line]
    assert fields == [
        ("host", f"127.0.0.1:{app.port}"),
        ("x-key", "a b"),
        ("x-key", "c"),
        ("user-agent", "kube-probe/eastgate"),
        ("accept", "*/*"),
        ("connection", "close"),
    ]


def test_headers_that_the_author_chose() -> None:
    app = App()
    ask_app(app, path="no-slash/ü", headers=(("Host", "app.example.com"), ("User-Agent", "mine"), ("accept", "")))
    head = app.asked[0].lower()
    assert head.startswith("get /no-slash/%c3%bc http/1.1\r\n")
    assert "host: app.example.com\r\n" in head
    assert "user-agent: mine\r\n" in head
    assert "accept:" not in head


def test_the_kubelets_own_name_is_handed_on() -> None:
    app = App()

    async def run() -> None:
        async with app.run() as port:
            await ask(AppProbe("http", port), agent="kube-probe/1.36")
            await ask(AppProbe("http", port), agent="Mozilla")

    run_loop(run())
    assert "kube-probe/1.36" in app.asked[0]
    assert "kube-probe/eastgate" in app.asked[1]


@pytest.mark.parametrize(
    ("status", "told"), [(200, 200), (204, 200), (304, 200), (399, 200), (400, 400), (401, 401), (503, 503), (777, 502)]
)
def test_statuses(status: int, told: int) -> None:
    answer = ask_app(App(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))
    assert answer.status == told
    assert answer.body.decode().startswith(f"answers {status}")


def test_interim_answers_are_not_the_answer() -> None:
    assert ask_app(App(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK)).status == 200


def redirect(to: str) -> Callable[[str], bytes]:
    return lambda path: OK if path == "/there" else f"HTTP/1.1 302 F\r\nLocation: {to}\r\n\r\n".encode()


def test_a_redirect_within_the_app_is_followed() -> None:
    app = App(redirect("/there"))
    assert ask_app(app, headers=(("Host", "app.example.com"),)).status == 200
    assert [head.split("\r\n")[0] for head in app.asked] == ["GET / HTTP/1.1", "GET /there HTTP/1.1"]
    assert "app.example.com" in app.asked[1], "a relative redirect keeps the author's host"


def test_a_redirect_to_another_host_is_not_followed_and_fine() -> None:
    app = App(redirect("https://login.example.com/there"))
    answer = ask_app(app)
    assert (answer.status, len(app.asked)) == (200, 1)
    assert b"leads to another host" in answer.body


def test_redirects_that_never_end_or_lead_nowhere() -> None:
    app = App(redirect("/again"))
    answer = ask_app(app)
    assert (answer.status, len(app.asked)) == (502, 10)
    assert b"stopped after 10 redirects" in answer.body
    assert ask_app(App(redirect("ftp://127.0.0.1/there"))).status == 502
    assert ask_app(App(redirect("http://127.0.0.1:99999/there"))).status == 502
    assert ask_app(App(b"HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n")).status == 200, "no location: an answer"


def test_a_body_is_bounded_and_for_this_host_only() -> None:
    app = App(b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 1_000_000)

    async def run() -> None:
        async with app.run() as port:
            answer = await ask(AppProbe("http", port), local=True)
            assert answer.body.endswith(b"x" * 10_240)
            assert len(answer.body) < 11_000
            assert (await ask(AppProbe("http", port), local=False)).body == b"answers 500\n"

    run_loop(run())


@pytest.mark.parametrize("bytes_", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_answers_that_are_none(bytes_: bytes) -> None:
    assert ask_app(App(bytes_)).status == 502


def test_a_header_that_cannot_be_written() -> None:
    assert ask_app(App(), headers=(("X", "a\r\nb"),)).status == 502
    assert ask_app(App(), headers=(("X Y", "a"),)).status == 502


def test_an_app_that_takes_too_long_or_is_not_there() -> None:
    app = App(delay=30.0)

    async def run() -> None:
        async with app.run() as port:
            answer = await ask(AppProbe("http", port, timeout_seconds=1))
            assert (answer.status, answer.body) == (504, b"no answer within 1 s\n")
        answer = await ask(AppProbe("http", 1))
        assert answer.status == 502
        assert b"connect" in answer.body.lower()

    run_loop(run())


def test_https_without_verification() -> None:
    app = App()

    async def run() -> AdminAnswer:
        async with app.run(make_authority().make_context("elsewhere.example.com")) as port:
            return await ask(AppProbe("http", port, scheme="HTTPS"))

    assert run_loop(run()).status == 200


def test_https_where_there_is_none() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def run() -> AdminAnswer:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            return await ask(AppProbe("http", server.sockets[0].getsockname()[1], scheme="HTTPS"))

    answer = run_loop(run())
    assert answer.status == 502
    assert b"TLS failed" in answer.body


async def serve_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    engine.initiate_connection()
    writer.write(engine.data_to_send())
    while data := await reader.read(65536):
        for event in engine.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = dict(event.headers)
                answer = [(":status", "200" if headers[":path"] == "/there" else "302"), ("location", "/there")]
                engine.send_headers(event.stream_id, answer)
                engine.send_data(event.stream_id, headers["x-key"].encode(), end_stream=True)
        writer.write(engine.data_to_send())
    writer.close()


def test_an_app_that_speaks_http2_only() -> None:
    context = make_authority().make_context("x")
    context.set_alpn_protocols(["h2"])

    async def run() -> AdminAnswer:
        server = await asyncio.start_server(serve_http2, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        answer = await ask(AppProbe("http", port, scheme="HTTPS", headers=(("X-Key", "value"),)))
        server.close()
        return answer

    answer = run_loop(run())
    assert (answer.status, answer.body) == (200, b"answers 200\nvalue")


# --- tcp and grpc ---


def test_tcp() -> None:
    async def run() -> None:
        async with App().run() as port:
            assert (await ask(AppProbe("tcp", port))).status == 200
        assert (await ask(AppProbe("tcp", 1))).status == 502

    run_loop(run())


@contextlib.contextmanager
def run_grpc(statuses: dict[bytes, bytes | grpc.StatusCode]) -> Iterator[int]:
    """A real gRPC server with the health service, by request and response bytes."""

    def check(message: bytes, context: grpc.ServicerContext) -> bytes:
        answer = statuses.get(message, grpc.StatusCode.NOT_FOUND)
        if isinstance(answer, bytes):
            return answer
        context.abort(answer, "no")
        raise AssertionError

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[handler] if statuses else [])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def test_grpc() -> None:
    with run_grpc({b"": b"\x08\x01", b"\x0a\x03abc": b"\x08\x02", b"\x0a\x01e": b""}) as port:
        for service, status, why in (
            ("", 200, b"says SERVING\n"),
            ("abc", 503, b"says NOT_SERVING\n"),
            ("e", 503, b"says UNKNOWN\n"),
            ("gone", 503, b"the app does not know this service\n"),
        ):
            answer = run_loop(ask(AppProbe("grpc", port, service=service)))
            assert (answer.status, answer.body) == (status, why)


def test_grpc_where_there_is_no_health_service() -> None:
    with run_grpc({}) as port:
        answer = run_loop(ask(AppProbe("grpc", port)))
    assert (answer.status, answer.body) == (503, b"the app has no health checking service\n")
    answer = ask_app(App(), kind="grpc")
    assert answer.status == 502
    assert b"not HTTP/2" in answer.body or b"closed" in answer.body


def test_health_messages() -> None:
    assert grpc_probe.write_request("x" * 200)[:3] == b"\x0a\xc8\x01"
    assert grpc_probe.read_status(b"\x12\x01x\x08\x01") == 1
    assert grpc_probe.read_status(b"\x08\x01\x08\x02") == 2, "the last one counts"
    assert grpc_probe.read_status(b"\x11" + b"x" * 8 + b"\x1d" + b"x" * 4 + b"\x08\x01") == 1
    for broken in (b"\x08", b"\xff" * 20, b"\x0b", b"\x08\x80"):
        with pytest.raises(ProbeError):
            grpc_probe.read_status(broken)


# --- the table ---


def test_only_what_is_in_the_table_is_asked_for() -> None:
    app = App()

    async def run() -> None:
        async with app.run() as port:
            table = {"web/readyz": AppProbe("http", port), "web/prestop": AppProbe("http", port)}
            prober = Prober(table, "127.0.0.1")
            for path in ("web/livez", "web/readyz/", "web", "", "web/prestop", "../web/readyz", "web%2freadyz"):
                assert (await prober.answer_probe(request(f"/app-probe/{path}"))).status == 404
            for path in ("web/readyz", "web/poststart"):
                assert (await prober.answer_hook(request(f"/app-hook/{path}"))).status == 404
            assert app.asked == []
            assert (await prober.answer_hook(request("/app-hook/web/prestop"))).status == 200

    run_loop(run())


def test_callers_at_the_same_time_share_one_answer() -> None:
    app = App(delay=0.2)

    async def run() -> None:
        async with app.run() as port:
            prober = Prober({"web/livez": AppProbe("http", port)}, "127.0.0.1")
            calls = [asyncio.ensure_future(prober.answer_probe(request("/app-probe/web/livez"))) for _ in range(50)]
            await asyncio.sleep(0.05)
            calls[0].cancel()
            answers = await asyncio.gather(*calls[1:])
            assert {answer.status for answer in answers} == {200}
            assert len(app.asked) == 1
            assert (await prober.answer_probe(request("/app-probe/web/livez"))).status == 200
            assert len(app.asked) == 2

    run_loop(run())


def test_a_hook_that_could_not_run_gets_no_answer() -> None:
    """The kubelet takes any answer to a hook for success."""
    app = App(b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n")

    async def run() -> None:
        async with app.run() as port:
            prober = Prober({"a/prestop": AppProbe("http", port), "b/prestop": AppProbe("http", 1)}, "127.0.0.1")
            assert (await prober.answer_hook(request("/app-hook/a/prestop"))).status == 502
            with pytest.raises(NoAnswer):
                await prober.answer_hook(request("/app-hook/b/prestop"))

    run_loop(run())


async def exchange(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nuser-agent: kube-probe/1.36\r\n\r\n".encode())
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def with_admin(table: dict[str, AppProbe], act: Callable[[int], Awaitable[None]]) -> None:
    async def run() -> None:
        server = AdminServer()
        for method, path, handler in Prober(table, "127.0.0.1").find_routes():
            server.route(method, path, handler, patient=True)
        _, port = await server.start("127.0.0.1", 0)
        await act(port)
        await server.stop()

    run_loop(run())


def test_over_the_admin_port() -> None:
    app = App()

    async def act(port: int) -> None:
        async with app.run() as app_port:
            table["web/readyz"] = AppProbe("http", app_port)
            answer = await exchange(port, "/app-probe/web/readyz?x=y")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"answers 200\nfine")
            assert (await exchange(port, "/app-probe/web/other")).startswith(b"HTTP/1.1 404 ")
            assert await exchange(port, "/app-hook/web/prestop") in (b"", b"reset")
            assert "kube-probe/1.36" in app.asked[0]

    table = {"web/readyz": AppProbe("http", 1), "web/prestop": AppProbe("http", 1)}
    with_admin(table, act)


def test_idle_callers_do_not_end_a_probe_under_way() -> None:
    app = App(delay=0.5)

    async def act(port: int) -> None:
        async with app.run() as app_port:
            table["web/livez"] = AppProbe("http", app_port, timeout_seconds=5)
            asking = asyncio.ensure_future(exchange(port, "/app-probe/web/livez"))
            await asyncio.sleep(0.1)
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
            assert (await asking).startswith(b"HTTP/1.1 200 ")
            for _, writer in idle:
                writer.close()

    table = {"web/livez": AppProbe("http", 1)}
    with_admin(table, act)
