"""The ways around a mitmproxy, each sent as bytes over a socket: what reaches the application is nothing, or was decided.

Every case is one that is known to pass a stock mitmproxy 12 in front of a deny-all addon, or to confuse it, or one of
the smuggling forms that servers disagree about (RFC 9112 section 11).
"""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.live.client import PATIENCE, connect, parse_response, send_bytes
from tests.live.conftest import Protected, write_policy
from tests.live.serving import serve
from tests.ports import free_port, stop_accepting, unanswered_port

GET = b"GET /secret HTTP/1.1\r\nHost: shop.example\r\n\r\n"
H = b"Host: shop.example\r\n"

# name -> (segments, statuses that may come back; 0 is a closed connection without an answer)
HOSTILE: dict[str, tuple[tuple[bytes, ...], set[int]]] = {
    "a first segment of two bytes": ((b"GE", b"T /secret HTTP/1.1\r\nHost: shop.example\r\n\r\n"), {401}),
    "a first segment of one byte": ((b"G", b"ET /secret HTTP/1.1\r\nHost: shop.example\r\n\r\n"), {401}),
    "a byte at a time": (tuple(GET[i : i + 1] for i in range(len(GET))), {401}),
    "a leading line end": ((b"\r\n" + GET,), {400, 401}),
    "five leading line ends": ((b"\r\n" * 5 + GET,), {400, 401}),
    "a tab for a space": ((b"GET\t/secret HTTP/1.1\r\nHost: shop.example\r\n\r\n",), {400}),
    "a bang before the method": ((b"!GET /secret HTTP/1.1\r\nHost: shop.example\r\n\r\n",), {400, 401}),
    "a space before the method": ((b" " + GET,), {400}),
    "binary": ((bytes(range(256)),), {0, 400}),
    "a TLS ClientHello": ((b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 154,), {0, 400}),
    "half an HTTP/2 preface, then HTTP/1": ((b"PRI * HT", b"TP/1.1\r\nHost: shop.example\r\n\r\n"), {0, 400}),
    "SSH": ((b"SSH-2.0-OpenSSH_9.2\r\n",), {0, 400, 408}),
    "CONNECT": ((b"CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n" + GET,), {400, 405}),
    "HTTP/0.9": ((b"GET /secret\r\n\r\n",), {0, 400}),
    "HTTP/1.2": ((b"GET /secret HTTP/1.2\r\n" + H + b"\r\n",), {400, 505}),
    "HTTP/2.0 on a request line": ((b"GET /secret HTTP/2.0\r\n" + H + b"\r\n",), {400, 505}),
    "no Host": ((b"GET /secret HTTP/1.1\r\n\r\n",), {400}),
    "two Hosts": ((b"GET /open HTTP/1.1\r\n" + H + b"Host: other\r\n\r\n",), {400}),
    "a Host with a user": ((b"GET /open HTTP/1.1\r\nHost: a@shop.example\r\n\r\n",), {400}),
    "a Host with a path": ((b"GET /open HTTP/1.1\r\nHost: shop.example/secret\r\n\r\n",), {400}),
    "an absolute form for another host": ((b"GET http://evil/secret HTTP/1.1\r\n" + H + b"\r\n",), {400}),
    "an absolute form": ((b"GET http://shop.example/secret HTTP/1.1\r\n" + H + b"\r\n",), {401}),
    "an asterisk": ((b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",), {400, 401, 405}),
    "a length and chunks": (
        (b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",),
        {400},
    ),
    "two lengths": ((b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nGET /",), {400}),
    "a length with a sign": ((b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: +5\r\n\r\nabcde",), {400}),
    "a length list": ((b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: 5, 5\r\n\r\nabcde",), {400}),
    "a length in hexadecimal": ((b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: 0x5\r\n\r\nabcde",), {400}),
    "chunked twice": (
        (b"POST /open HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",),
        {400, 501},
    ),
    "chunked with a vertical tab": (
        (b"POST /open HTTP/1.1\r\n" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",),
        {400, 501},
    ),
    "gzip, chunked": (
        (b"POST /open HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",),
        {400, 501},
    ),
    "chunks in HTTP/1.0": (
        (b"POST /open HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
        {400, 501},
    ),
    "a space before the colon": ((b"GET /open HTTP/1.1\r\n" + H + b"X-A : b\r\n\r\n",), {400}),
    "a folded header": ((b"GET /open HTTP/1.1\r\n" + H + b"X-A: b\r\n c\r\n\r\n",), {400}),
    "a folded first header": ((b"GET /open HTTP/1.1\r\n X-A: b\r\n" + H + b"\r\n",), {400}),
    "a bare CR in a value": ((b"GET /open HTTP/1.1\r\n" + H + b"X-A: b\rX-Org: admin\r\n\r\n",), {400}),
    "a bare LF as line end": ((b"GET /open HTTP/1.1\n" + H + b"\r\n",), {400}),
    "a bare LF in the headers": ((b"GET /open HTTP/1.1\r\n" + H + b"X-A: b\nX-Org: admin\r\n\r\n",), {400}),
    "a NUL in a value": ((b"GET /open HTTP/1.1\r\n" + H + b"X-A: a\x00b\r\n\r\n",), {400}),
    "a NUL in a name": ((b"GET /open HTTP/1.1\r\n" + H + b"X\x00A: b\r\n\r\n",), {400}),
    "an empty name": ((b"GET /open HTTP/1.1\r\n" + H + b": b\r\n\r\n",), {400}),
    "no colon": ((b"GET /open HTTP/1.1\r\n" + H + b"hello\r\n\r\n",), {400}),
    "a byte above ASCII in the target": ((b"GET /open/\xff HTTP/1.1\r\n" + H + b"\r\n",), {400}),
    "a space in the target": ((b"GET /open /secret HTTP/1.1\r\n" + H + b"\r\n",), {400}),
    "the proxy's own page": ((b"GET / HTTP/1.1\r\nHost: mitm.it\r\n\r\n",), {404}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_undecided_reaches_the_application(protected: Protected, name: str) -> None:
    segments, statuses = HOSTILE[name]
    before, raw_before = len(protected.upstream.requests), len(protected.upstream.raw)
    response = parse_response(send_bytes(protected.port, *segments))
    assert response.status in statuses, response
    assert protected.upstream.requests[before:] == []
    assert protected.upstream.raw[raw_before:] == b""


@pytest.mark.parametrize("value", [b"h2c", b"H2C", b"foo", b"h2c, websocket", b"websocket, h2c"])
def test_an_upgrade_is_not_a_tunnel(protected: Protected, value: bytes) -> None:
    before = len(protected.upstream.raw)
    data = (
        b"GET /open HTTP/1.1\r\n"
        + H
        + b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        b"Upgrade: " + value + b"\r\n\r\n"
    )
    response = parse_response(send_bytes(protected.port, data))
    seen = protected.upstream.raw[before:].lower()
    assert response.status in (200, 400)
    assert b"h2c" not in seen
    assert b"upgrade" not in seen
    assert b"http2-settings" not in seen


def test_connection_cannot_name_a_claim_header(protected: Protected) -> None:
    before = len(protected.upstream.requests)
    data = (
        b"GET /secret HTTP/1.1\r\n"
        + H
        + b"Connection: close, X-Org\r\nAuthorization: Bearer "
        + protected.token.encode()
        + b"\r\n\r\n"
    )
    assert parse_response(send_bytes(protected.port, data)).status == 200
    headers = dict(map(tuple, protected.upstream.requests[before:][0][2]))
    assert headers["x-org"] == "internal"
    assert "x-org" not in headers.get("connection", "").lower()


def test_a_server_that_speaks_first_opens_no_tunnel(tmp_path) -> None:
    """The application's bytes come before the client's: with a stock mitmproxy the connection becomes a tunnel."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(b"220 hello\r\n")
            connection.settimeout(PATIENCE)
            try:
                received.append(connection.recv(65536))
            except OSError:
                received.append(b"")

    accepting = threading.Thread(target=greet, daemon=True)
    accepting.start()
    with serve([write_policy(tmp_path)], listener.getsockname()[1]) as served, connect(served.port) as client:
        time.sleep(0.3)
        client.sendall(GET)
        assert parse_response(client.recv(65536)).status == 401
    stop_accepting(listener, accepting)
    assert received in ([], [b""])


def test_its_own_port_is_no_upstream(tmp_path) -> None:
    """A proxy that is its own application must refuse, not fill the machine with connections to itself."""
    port = free_port()
    with serve([write_policy(tmp_path)], port, "--listen", f"127.0.0.1:{port}") as served:
        response = parse_response(send_bytes(served.port, b"GET /open HTTP/1.1\r\n" + H + b"\r\n"))
        assert response.status in (502, 503)


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_a_head_without_end(protected: Protected, size: int) -> None:
    data = b"GET /open HTTP/1.1\r\n" + H + b"X-A: " + b"a" * size
    assert parse_response(send_bytes(protected.port, data)).status in (0, 400, 431)


def test_too_many_headers(protected: Protected) -> None:
    data = b"GET /open HTTP/1.1\r\n" + H + b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n"
    assert parse_response(send_bytes(protected.port, data)).status in (400, 431)


def test_pipelined_requests_are_each_decided(protected: Protected) -> None:
    before = len(protected.upstream.requests)
    allowed = b"GET /open/1 HTTP/1.1\r\n" + H + b"\r\n"
    data = send_bytes(
        protected.port, allowed + GET + allowed + allowed, complete=lambda got: got.count(b"HTTP/1.1 ") == 4
    )
    assert [part[:3] for part in data.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401", b"200", b"200"]
    assert [path for _, path, _ in protected.upstream.requests[before:]] == ["/open/1"] * 3


def test_a_body_is_never_a_second_request(protected: Protected) -> None:
    before = len(protected.upstream.requests)
    inner = b"GET /secret HTTP/1.1\r\n" + H + b"\r\n"
    data = b"POST /open HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    assert parse_response(send_bytes(protected.port, data)).status == 200
    assert [path for _, path, _ in protected.upstream.requests[before:]] == ["/open"]


def test_a_denied_body_is_never_a_second_request(protected: Protected) -> None:
    before = len(protected.upstream.requests)
    inner = b"GET /open HTTP/1.1\r\n" + H + b"\r\n"
    data = b"POST /secret HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    assert parse_response(send_bytes(protected.port, data)).status == 401
    assert protected.upstream.requests[before:] == []


def test_without_an_application_the_refusal_is_the_same(tmp_path) -> None:
    with unanswered_port() as port, serve([write_policy(tmp_path)], port) as served:
        assert parse_response(send_bytes(served.port, GET)).status == 401
        assert parse_response(send_bytes(served.port, b"GET /open HTTP/1.1\r\n" + H + b"\r\n")).status == 503
