from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.ports import stop_accepting
from webhook.certificates.authority import Authority, make_authority
from webhook.certificates.leaf import make_leaf, name_service
from webhook.certificates.schedule import DAY
from webhook.certificates.serving import ServedLeaf

NAMES = name_service("eastgate-webhook", "eastgate-system", "cluster.local")


@pytest.fixture
def served() -> ServedLeaf:
    return ServedLeaf()


@pytest.fixture
def port(served: ServedLeaf) -> Iterator[int]:
    """Shakes hands with everybody, each in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def greet(connection: socket.socket) -> None:
        with connection:
            try:
                with served.context.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(b"x")
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=greet, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    yield listener.getsockname()[1]
    stop_accepting(listener, accepting)


def trust(*authorities: Authority) -> ssl.SSLContext:
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in authorities)
    return ssl.create_default_context(cadata=pem.decode())


def connect(port: int, context: ssl.SSLContext, name: str | None = NAMES[0]) -> x509.Certificate:
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
        assert tls.recv(1) == b"x"
        shown = tls.getpeercert(True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)


def test_without_a_leaf_no_handshake_ends_well(port: int) -> None:
    with pytest.raises(ssl.SSLError):
        connect(port, trust(make_authority(time.time())))


def test_the_newest_leaf_is_shown_to_whoever_comes_next(served: ServedLeaf, port: int) -> None:
    now = time.time()
    authority = make_authority(now)
    for _ in range(2):
        leaf = make_leaf(authority, NAMES, now, 90 * DAY, 0.5)
        served.use(leaf)
        assert connect(port, trust(authority)) == leaf.certificate


def test_a_caller_that_names_nobody_is_shown_it_too(served: ServedLeaf, port: int) -> None:
    authority = make_authority(time.time())
    served.use(leaf := make_leaf(authority, NAMES, time.time(), 90 * DAY, 0.5))
    context = trust(authority)
    context.check_hostname = False

    assert connect(port, context, None) == leaf.certificate


def test_no_handshake_fails_while_the_leaf_changes_all_the_time(served: ServedLeaf, port: int) -> None:
    now = time.time()
    authorities = [make_authority(now), make_authority(now)]
    leaves = [make_leaf(authorities[index % 2], NAMES, now, 90 * DAY, 0.5) for index in range(20)]
    served.use(leaves[0])
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            for leaf in leaves:
                served.use(leaf)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        shown = {connect(port, trust(*authorities)).serial_number for _ in range(60)}
    finally:
        ended.set()
        changing.join()

    assert len(shown) > 5
    assert shown <= {leaf.certificate.serial_number for leaf in leaves}
