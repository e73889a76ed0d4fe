"""TLS in pieces, and its ends: what OpenSSL does is not tested here, what is done with it is."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.unit.webhook.test_server import REVIEW, Issuer, Running, _post, issuer, running
from webhook.connections.connection import READ_BYTES

__all__ = ["issuer"]

REQUEST = (
    b"POST /mutate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REVIEW) + REVIEW
)


class Pieces:
    """A client that decides which bytes go out when."""

    def __init__(self, server: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.trust.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def greet(self, pieces: int = 1 << 20) -> None:
        """The handshake, sent in pieces of so many bytes."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(pieces)
                self.incoming.write(self.socket.recv(65536))
            else:
                return self.send(pieces)

    def send(self, pieces: int = 1 << 20) -> None:
        data = self.outgoing.read()
        for start in range(0, len(data), pieces):
            self.socket.sendall(data[start : start + pieces])
            if pieces < 1 << 20:
                time.sleep(0.001)

    def read(self) -> bytes:
        """Some bytes of the answer; none at its end."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                data = self.socket.recv(65536)
                if not data:
                    return b""
                self.incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""


@pytest.fixture
def server(issuer: Issuer) -> Iterator[Running]:
    with running(issuer) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Pieces]:
    made = Pieces(server)
    yield made
    made.socket.close()


def wait_until_closed(server: Running) -> None:
    deadline = time.monotonic() + 20
    while any(shared.standing for shared in server.server._all):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_everything_in_small_pieces(client: Pieces) -> None:
    client.greet(pieces=100)
    client.tls.write(REQUEST)
    client.send(pieces=200)
    assert client.read().startswith(b"HTTP/1.1 200 ")


def test_the_request_comes_with_the_end_of_the_handshake(client: Pieces) -> None:
    client.socket.settimeout(30)
    while True:
        try:
            client.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.send()
            client.incoming.write(client.socket.recv(65536))
    client.tls.write(REQUEST)
    client.send()
    assert client.read().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("extra", [-1, 0, 1, 100])
def test_more_than_the_buffer_at_once(client: Pieces, extra: int) -> None:
    """Records whose ends lie around the ends of what is read at once."""
    client.greet()
    body = REVIEW[:-1] + b" " * (2 * READ_BYTES + extra) + REVIEW[-1:]
    client.tls.write(
        b"POST /mutate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    view = memoryview(body)
    while view:
        view = view[client.tls.write(view) :]
    client.send()
    assert client.read().startswith(b"HTTP/1.1 200 ")


def test_a_goodbye_is_answered(server: Running, client: Pieces) -> None:
    client.greet()
    client.tls.write(REQUEST)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.send()
    answer = b""
    while piece := client.read():
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
    wait_until_closed(server)


def test_what_is_no_tls(server: Running) -> None:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x00"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            try:
                while raw.recv(1000):
                    pass
            except ConnectionError:
                pass
    wait_until_closed(server)
    assert 'eastgate_webhook_closed_connections_total{bound="handshake"} 3.0' in server.metrics.render().decode()


def test_a_record_that_was_tampered_with(server: Running, client: Pieces) -> None:
    client.greet()
    client.tls.write(REQUEST)
    data = bytearray(client.outgoing.read())
    data[100] ^= 1
    client.socket.sendall(data)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        raise ConnectionError(client.read() or "closed")
    wait_until_closed(server)


def test_other_connections_go_on(server: Running, client: Pieces) -> None:
    """One in the middle of a record does not disturb who shares its buffers."""
    client.greet()
    client.tls.write(REQUEST)
    data = client.outgoing.read()
    client.socket.sendall(data[:500])
    for _ in range(3):
        assert _post(server.connect(), "/mutate", REVIEW)[0] == 200
    client.socket.sendall(data[500:])
    assert client.read().startswith(b"HTTP/1.1 200 ")
