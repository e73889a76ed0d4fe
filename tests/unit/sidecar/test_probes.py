"""The app's probes, asked of real servers as the kubelet would."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any, Literal

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from eastgate.pods.probes import AppProbe
from sidecar.admin import MAX_WAITING, AdminAnswer, AdminRequest, AdminServer, NoAnswer
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


TOKEN = "0123456789abcdef" * 2


def request(path: str, *, local: bool = False, agent: str = "", token: str = "") -> AdminRequest:
    return AdminRequest("GET", path, local=local, browser=False, agent=agent, token=token)


def patient(kind: Literal["http", "tcp", "grpc"], port: int, **fields: Any) -> AppProbe:
    """A probe with more time than the kubelet's default of a second: a crowded machine may need it."""
    return AppProbe(kind, port, timeout_seconds=30, **fields)


def hook(port: int, **fields: Any) -> AppProbe:
    return patient("http", port, token=TOKEN, **fields)


async def ask(probe: AppProbe, *, local: bool = True, agent: str = "", address: str = "127.0.0.1") -> AdminAnswer:
    prober = Prober({"web/readyz": probe}, address)
    return await prober.answer_probe(request("/app-probe/web/readyz", local=local, agent=agent))


def ask_app(app: App, **fields: object) -> AdminAnswer:
    async def run() -> AdminAnswer:
        async with app.run() as port:
            return await ask(replace(patient("http", port), **fields))

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
            await ask(patient("http", port), agent="kube-probe/1.36")
            await ask(patient("http", port), agent="Mozilla")

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
            answer = await ask(patient("http", port), local=True)
            assert answer.body.endswith(b"x" * 10_240)
            assert len(answer.body) < 11_000
            assert (await ask(patient("http", port), local=False)).body == b"answers 500\n"

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
        answer = await ask(patient("http", 1))
        assert answer.status == 502
        assert b"connect" in answer.body.lower()

    run_loop(run())


def test_https_without_verification() -> None:
    app = App()

    async def run() -> AdminAnswer:
        async with app.run(make_authority().make_context("elsewhere.example.com")) as port:
            return await ask(patient("http", port, scheme="HTTPS"))

    assert run_loop(run()).status == 200


def test_https_where_there_is_none() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def run() -> AdminAnswer:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            return await ask(patient("http", server.sockets[0].getsockname()[1], scheme="HTTPS"))

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
        answer = await ask(patient("http", port, scheme="HTTPS", headers=(("X-Key", "value"),)))
        server.close()
        return answer

    answer = run_loop(run())
    assert (answer.status, answer.body) == (200, b"answers 200\nvalue")


# --- tcp and grpc ---


def test_tcp() -> None:
    async def run() -> None:
        async with App().run() as port:
            assert (await ask(patient("tcp", port))).status == 200
        assert (await ask(patient("tcp", 1))).status == 502

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
            answer = run_loop(ask(patient("grpc", port, service=service)))
            assert (answer.status, answer.body) == (status, why)


def test_grpc_where_there_is_no_health_service() -> None:
    with run_grpc({}) as port:
        answer = run_loop(ask(patient("grpc", port)))
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
            table = {"web/readyz": patient("http", port), "web/prestop": hook(port)}
            prober = Prober(table, "127.0.0.1")
            for path in ("web/livez", "web/readyz/", "web", "", "web/prestop", "../web/readyz", "web%2freadyz"):
                assert (await prober.answer_probe(request(f"/app-probe/{path}"))).status == 404
            for path in ("web/readyz", "web/poststart"):
                assert (await prober.answer_hook(request(f"/app-hook/{path}", token=TOKEN))).status == 404
            assert app.asked == []
            assert (await prober.answer_hook(request("/app-hook/web/prestop", token=TOKEN))).status == 200

    run_loop(run())


def test_callers_at_the_same_time_share_one_answer() -> None:
    app = App(delay=0.2)

    async def run() -> None:
        async with app.run() as port:
            prober = Prober({"web/livez": patient("http", port)}, "127.0.0.1")
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
            prober = Prober({"a/prestop": hook(port), "b/prestop": hook(1)}, "127.0.0.1")
            assert (await prober.answer_hook(request("/app-hook/a/prestop", token=TOKEN))).status == 502
            with pytest.raises(NoAnswer):
                await prober.answer_hook(request("/app-hook/b/prestop", token=TOKEN))

    run_loop(run())


@pytest.mark.parametrize(
    ("shown", "known", "why"),
    [
        ("", TOKEN, b"runs only with the header Eastgate-Hook-Token"),
        ("0" * 32, TOKEN, b"this is another one"),
        (TOKEN[:-1], TOKEN, b"this is another one"),
        (TOKEN + "0", TOKEN, b"this is another one"),
        ("\u00e9" * 32, TOKEN, b"this is another one"),
        ("", "", b"has no token, without which nobody may run it"),
        (TOKEN, "", b"has no token, without which nobody may run it"),
    ],
)
def test_a_hook_runs_for_its_token_only(shown: str, known: str, why: bytes, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    async def run() -> None:
        async with app.run() as port:
            prober = Prober({"web/prestop": patient("http", port, token=known)}, "127.0.0.1")
            asked = request("/app-hook/web/prestop", local=True, token=shown)
            for _ in range(3):
                answer = await prober.answer_hook(asked)
                assert answer.status == 403
                assert why in answer.body
            # A kubelet takes any answer for a hook that ran.
            with pytest.raises(NoAnswer):
                await prober.answer_hook(replace(asked, agent="kube-lifecycle/1.36"))
            assert app.asked == []

    with caplog.at_level("INFO"):
        run_loop(run())
    assert [record.message for record in caplog.records] == ["a hook was not run"], "once, whoever asks how often"
    said = "".join(str(record.__dict__) for record in caplog.records)
    assert TOKEN not in said
    assert "000000" not in said
    assert TOKEN not in repr(request("", token=TOKEN)) + repr(hook(1))


def test_a_probe_needs_no_token_and_a_hook_is_no_probe() -> None:
    app = App()

    async def run() -> None:
        async with app.run() as port:
            prober = Prober({"web/livez": patient("http", port), "web/prestop": hook(port)}, "127.0.0.1")
            assert (await prober.answer_probe(request("/app-probe/web/livez"))).status == 200
            for path in ("/app-probe/web/prestop", "/app-hook/web/livez"):
                for answer in (prober.answer_probe, prober.answer_hook):
                    assert (await answer(request(path, token=TOKEN))).status == 404
            assert len(app.asked) == 1

    run_loop(run())


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("kube-probe/1.36", "kube-probe/1.36"),
        ("kube-lifecycle/1.36+", "kube-lifecycle/1.36+"),
        ("kube-probe/\u00e9", "kube-probe/eastgate"),
        ("kube-probe/1 x: y", "kube-probe/eastgate"),
        ("kube-probe/" + "1" * 999, "kube-probe/eastgate"),
        ("curl/8", "kube-probe/eastgate"),
    ],
)
def test_who_asks_the_app(agent: str, told: str) -> None:
    """What a stranger calls himself reaches no app, and cannot make a probe fail that the kubelet waits for, too."""
    app = App()

    async def run() -> None:
        async with app.run() as port:
            assert (await ask(patient("http", port), agent=agent)).status == 200

    run_loop(run())
    assert f"User-Agent: {told}\r\n" in app.asked[0]


def test_headers_that_are_no_ascii() -> None:
    app = App()
    headers = (("X-Name", " J\u00fcrgen\t"), ("Host", "b\u00fccher.example"))
    assert ask_app(app, headers=headers).status == 200
    raw = app.asked[0].encode("latin-1").decode()
    assert "X-Name: J\u00fcrgen\r\n" in raw
    assert "b\u00fccher.example\r\n" in raw
    for broken in ({"headers": (("A", "b\nc: d"),)}, {"headers": (("A", "\ud800"),)}, {"path": "/\ud800"}):
        answer = ask_app(app, **broken)
        assert answer.status == 502
        assert b"cannot be written as a request" in answer.body


async def exchange(port: int, path: str, more: str = "") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nuser-agent: kube-probe/1.36\r\n{more}\r\n".encode())
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
            table["web/readyz"] = patient("http", app_port)
            answer = await exchange(port, "/app-probe/web/readyz?x=y")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"answers 200\nfine")
            assert (await exchange(port, "/app-probe/web/other")).startswith(b"HTTP/1.1 404 ")
            shown = f"EASTGATE-hook-token: {TOKEN}\r\n"
            assert await exchange(port, "/app-hook/web/prestop", shown) in (b"", b"reset")
            for more in ("", f"eastgate-hook-token: {'0' * 32}\r\n"):
                refused = await exchange(port, "/app-hook/web/prestop", more)
                assert refused.startswith(b"HTTP/1.1 403 ")
                assert b"Eastgate-Hook-Token" in refused
            assert len(app.asked) == 1
            table["web/prestop"] = hook(app_port)
            assert (await exchange(port, "/app-hook/web/prestop", shown)).startswith(b"HTTP/1.1 200 ")
            assert "kube-probe/1.36" in app.asked[0]
            assert TOKEN not in app.asked[1]

    table = {"web/readyz": patient("http", 1), "web/prestop": hook(1)}
    with_admin(table, act)


def test_a_stranger_cannot_keep_the_kubelet_out() -> None:
    """However many calls wait for a slow probe: each of them is one too many before one of the kubelet's is."""
    app, quick = App(delay=0.8), App()

    async def act(port: int) -> None:
        async with app.run() as slow_port, quick.run() as quick_port:
            table["web/readyz"] = AppProbe("http", slow_port, timeout_seconds=5)
            table["web/livez"] = patient("http", quick_port)

            async def ask_from(source: str, path: str) -> asyncio.StreamReader:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
                writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                writers.append(writer)
                return reader

            for number in range(MAX_WAITING + 40):
                await ask_from(f"127.0.1.{number % 3 + 1}", "/app-probe/web/readyz")
            for path in ("/app-probe/web/livez",) * 5 + ("/app-probe/web/readyz",):
                answer = await (await ask_from("127.0.0.1", path)).read()
                assert answer.startswith(b"HTTP/1.1 200"), path
            for writer in writers:
                writer.close()

    writers: list[asyncio.StreamWriter] = []
    table: dict[str, AppProbe] = {"web/readyz": patient("tcp", 1), "web/livez": patient("tcp", 1)}
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

    table = {"web/livez": patient("http", 1)}
    with_admin(table, act)
