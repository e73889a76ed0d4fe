from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import gc
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.webhook.admissions.reviews import POLICY, as_bytes, make_pod, make_review, read_answer
from webhook.admissions.review import MAX_BODY
from webhook.connections.tls import CertificateFiles
from webhook.log import Journal, ReviewLog
from webhook.metrics import Metrics
from webhook.options import ServerLimits, WebhookOptions
from webhook.server import Server

REVIEW = as_bytes(make_review(make_pod()))
JSON = {"Content-Type": "application/json"}
LIMITS = ServerLimits(linger_seconds=0.05, tick_seconds=0.05)


class Issuer:
    """An authority, and leaves of it, in two files as a mounted Secret has them."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
        self._authority = self._build(self._name, self._key, 1, is_authority=True)
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self._authority.public_bytes(serialization.Encoding.PEM))

    def issue(self, serial: int, days: float = 1.0) -> None:
        """Replace the files with a new pair."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"leaf {serial}")])
        leaf = self._build(name, key, serial, days=days)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for path, content in ((self.certificate, leaf.public_bytes(serialization.Encoding.PEM)), (self.key, secret)):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.replace(path)

    def _build(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        serial: int,
        *,
        is_authority: bool = False,
        days: float = 1,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_authority,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


class Running:
    """A server on an event loop in a thread, and clients for it."""

    def __init__(self, issuer: Issuer, limits: ServerLimits = LIMITS) -> None:
        self.metrics = Metrics()
        self.files = CertificateFiles(str(issuer.certificate), str(issuer.key), time.time)
        self.files.load()
        options = WebhookOptions(
            listen=("127.0.0.1", 0), health_listen=("127.0.0.1", 0), sidecar_image="eastgate-sidecar", limits=limits
        )
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = Server(options, self.files, self.metrics, ReviewLog(Journal(), "error"))
        self.port = self.run(self.server.start())[1]
        self.trust = ssl.create_default_context(cafile=str(issuer.ca))
        self.clients = contextlib.ExitStack()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def connect(self, timeout: float = 5.0) -> http.client.HTTPSConnection:
        made = http.client.HTTPSConnection("localhost", self.port, context=self.trust, timeout=timeout)
        self.clients.callback(made.close)
        return made

    def dial(self) -> ssl.SSLSocket:
        """A bare TLS connection."""
        bare = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.clients.callback(bare.close)
        made = self.trust.wrap_socket(bare, server_hostname="localhost")
        self.clients.callback(made.close)
        return made

    def stop(self) -> None:
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    made = Issuer(tmp_path)
    made.issue(100)
    return made


@contextlib.contextmanager
def running(issuer: Issuer, **limits: float) -> Iterator[Running]:
    server = Running(issuer, replace(LIMITS, **limits))  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.clients.close()
        server.stop()


@pytest.fixture
def server(issuer: Issuer) -> Iterator[Running]:
    with running(issuer) as found:
        yield found


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str] = JSON):
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def _serial(connection: http.client.HTTPSConnection | ssl.SSLSocket) -> int:
    found = connection.sock if isinstance(connection, http.client.HTTPSConnection) else connection
    return x509.load_der_x509_certificate(found.getpeercert(binary_form=True)).serial_number


def _read_all(connection: ssl.SSLSocket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            found += piece
    return found


# --- answers ----------------------------------------------------------------------------------------------------------


def test_reviews_over_one_connection(server: Running) -> None:
    connection = server.connect()
    policy = as_bytes(make_review(POLICY, group="policy.eastgate.dev", version="v1alpha1", kind="JWTPolicy"))
    for path, body, outcome in [
        ("/mutate", REVIEW, "patched"),
        ("/validate", policy, "allowed"),
        ("/mutate/enforced", REVIEW, "patched"),
        ("/mutate?timeout=5s", REVIEW, "patched"),
    ]:
        status, content, _ = _post(connection, path, body)
        assert status == 200
        assert read_answer(content)["auditAnnotations"]["outcome"] == outcome
    assert _serial(connection) == 100
    for path in ("/healthz", "/readyz", "/metrics"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "keep-alive")
        answer.read()
    connection.request("HEAD", "/healthz")
    assert connection.getresponse().read() == b""


def test_health_is_served_in_clear_and_reviews_are_not(server: Running) -> None:
    address = server.server.health_address
    assert address is not None
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/readyz")
    assert connection.getresponse().read() == b"ok\n"
    assert _post(connection, "/mutate", REVIEW)[0] == 404


def test_what_is_not_a_review(server: Running) -> None:
    connection = server.connect()
    assert _post(connection, "/mutate", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert _post(connection, "/mutate", b"{}")[0] == 400
    assert _post(connection, "/mutate", b"")[0] == 400
    assert _post(connection, "/", REVIEW)[0] == 404
    assert _post(connection, "/mutate", REVIEW)[0] == 200


def test_a_large_review(server: Running) -> None:
    pod = make_pod()
    pod["spec"]["containers"][0]["env"] = [{"name": f"V{n}", "value": "x" * 1000} for n in range(3000)]
    status, content, _ = _post(server.connect(), "/mutate", as_bytes(make_review(pod)))
    assert (status, read_answer(content)["allowed"]) == (200, True)


def test_chunks_and_expectations(server: Running) -> None:
    connection = server.connect()
    connection.request("POST", "/mutate", iter([REVIEW[:100], REVIEW[100:]]), JSON, encode_chunked=True)
    assert connection.getresponse().status == 200
    raw = server.dial()
    raw.sendall(
        b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(REVIEW)
    )
    assert raw.recv(1000).startswith(b"HTTP/1.1 100 ")
    raw.sendall(REVIEW)
    assert _read_all(raw).startswith(b"HTTP/1.1 200 ")


def test_requests_that_do_not_wait_are_answered_in_order(server: Running) -> None:
    policy = as_bytes(make_review(POLICY, group="policy.eastgate.dev", version="v1alpha1", kind="JWTPolicy"))
    raw = server.dial()
    for path, body in (("/validate", policy), ("/mutate", REVIEW), ("/validate", policy)):
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    raw.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    answers = _read_all(raw).split(b"HTTP/1.1 200 OK")[1:]
    assert [b"patched" in one for one in answers] == [False, True, False, False]
    assert answers[-1].endswith(b"ok\n")


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"\x16\x03\x01\x00", 400),
        (b"GET /healthz HTTP/1.1\r\nBad Header: x\r\n\r\n", 400),
        (b"POST /mutate HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /mutate HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (b"GET /" + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100, 431),
        (b"POST /mutate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
    ],
)
def test_bytes_that_are_no_request(server: Running, sent: bytes, status: int) -> None:
    raw = server.dial()
    raw.sendall(sent)
    answer = _read_all(raw)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close\r\n" in answer


def test_a_body_without_an_announced_length_is_bounded(server: Running) -> None:
    raw = server.dial()
    raw.sendall(b"POST /mutate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
        for _ in range(MAX_BODY // 0x10000 + 2):
            raw.sendall(chunk)
    assert _read_all(raw).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"POST /mutate HTTP/1.1\r\nCont", b"HTTP/1.1 408 "),
        (b"POST /mutate HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 408 "),
    ],
)
def test_a_slow_client_is_not_waited_for(issuer: Issuer, sent: bytes, answer: bytes) -> None:
    with running(issuer, head_seconds=0.1, request_seconds=0.1) as server:
        raw = server.dial()
        raw.sendall(sent)
        assert _read_all(raw).startswith(answer)


def test_a_handshake_that_does_not_end_is_given_up(issuer: Issuer) -> None:
    with running(issuer, handshake_seconds=0.1) as server:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        assert raw.recv(1) == b""


def test_the_oldest_idle_connection_makes_room(issuer: Issuer) -> None:
    with running(issuer, connections=3) as server:
        connections = [server.connect() for _ in range(5)]
        for connection in connections:
            assert _post(connection, "/mutate", REVIEW)[0] == 200
        assert _read_all(connections[0].sock) == b""  # type: ignore[arg-type]
        assert _post(connections[-1], "/mutate", REVIEW)[0] == 200


def test_who_says_nothing_keeps_nobody_out(issuer: Issuer) -> None:
    with running(issuer, connections=8) as server:
        used = server.connect()
        assert _post(used, "/mutate", REVIEW)[0] == 200
        silent = []
        for number in range(60):
            # Half of them speak no TLS at all, half begin a request and no more.
            if number % 2:
                silent.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            else:
                silent.append(server.dial())
                silent[-1].sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\nX")
        began = time.monotonic()
        assert _post(server.connect(), "/mutate", REVIEW)[0] == 200
        assert _post(used, "/mutate", REVIEW)[0] == 200, "a connection in use is not the one that goes"
        assert time.monotonic() - began < 2
        for one in silent:
            one.close()


def test_bodies_are_bounded_together(issuer: Issuer) -> None:
    with running(issuer, buffered_bytes=100_000) as server:
        status, _, answer = _post(server.connect(), "/mutate", b" " * 200_000)
        assert (status, answer.getheader("Connection")) == (503, "close")
        assert _post(server.connect(), "/mutate", REVIEW)[0] == 200


def test_a_closed_connection_leaves_nothing_for_the_collector(server: Running) -> None:
    gc.disable()
    try:
        for path in ("/mutate", "/validate"):
            connection = server.connect()
            assert _post(connection, path, REVIEW)[0] == 200
            kept = [weakref.ref(one) for shared in server.server._all for one in shared.open]
            assert len(kept) == 1
            connection.close()
            deadline = time.monotonic() + 30
            while kept[0]() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        gc.enable()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(server: Running, version: ssl.TLSVersion) -> None:
    server.trust.minimum_version = server.trust.maximum_version = version
    server.trust.set_alpn_protocols(["h2", "http/1.1"])
    raw = server.dial()
    assert raw.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert raw.selected_alpn_protocol() == "http/1.1"
    assert "GCM" in raw.cipher()[0] or "CHACHA20" in raw.cipher()[0]  # type: ignore[index]
    raw.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_are_not(server: Running) -> None:
    server.trust.minimum_version = server.trust.maximum_version = ssl.TLSVersion.TLSv1_1
    server.trust.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.dial()


def test_a_new_certificate_under_load_fails_no_review(server: Running, issuer: Issuer) -> None:
    standing = server.connect()
    assert _post(standing, "/mutate", REVIEW)[0] == 200
    ending = threading.Event()

    def review_on_and_on(anew: bool) -> set[int]:
        seen = set()
        connection = server.connect()
        while not ending.is_set():
            status, content, _ = _post(connection, "/mutate", REVIEW)
            assert status == 200
            assert read_answer(content)["allowed"] is True
            seen.add(_serial(connection))
            if anew:
                connection.close()
                connection = server.connect()
            time.sleep(0.02)  # with five of these: more than 100 a second
        return seen

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        reviews = [pool.submit(review_on_and_on, number % 2 == 0) for number in range(5)]
        for serial in (101, 102, 103):
            time.sleep(0.15)
            issuer.issue(serial)
            server.loop.call_soon_threadsafe(server.files.load)
        time.sleep(0.15)
        ending.set()
        seen = [review.result() for review in reviews]
    assert all(one == {100, 101, 102, 103} for one in seen[::2])
    assert all(one == {100} for one in seen[1::2])  # a connection keeps what it has
    assert _post(standing, "/mutate", REVIEW)[0] == 200
    assert _serial(standing) == 100
    assert "eastgate_webhook_closed_connections_total{" not in server.metrics.render().decode()


def test_a_pair_that_does_not_fit_changes_nothing(server: Running, issuer: Issuer) -> None:
    good = issuer.key.read_bytes()
    issuer.issue(101)
    new = issuer.key.read_bytes()
    issuer.key.write_bytes(good)  # the certificate is there already, the key is not
    with pytest.raises(ValueError, match="KEY_VALUES_MISMATCH"):
        server.files.load()
    raw = server.dial()
    assert _serial(raw) == 100
    issuer.key.write_bytes(new)
    assert server.files.load() is True
    assert server.files.load() is False
    raw = server.dial()
    assert _serial(raw) == 101


def test_files_that_are_gone_or_nonsense_change_nothing(server: Running, issuer: Issuer) -> None:
    issuer.certificate.write_text("nonsense")
    with pytest.raises(ValueError, match="no certificate and key"):
        server.files.load()
    issuer.certificate.unlink()
    with pytest.raises(OSError, match="No such file"):
        server.files.load()
    assert _post(server.connect(), "/mutate", REVIEW)[0] == 200
    assert server.server.ready()


def test_a_certificate_that_has_ended_is_not_ready(issuer: Issuer) -> None:
    issuer.issue(200, days=-1)
    with running(issuer) as server:
        assert not server.server.ready()
        assert server.files.expires < time.time()


# --- the end ----------------------------------------------------------------------------------------------------------


def test_leaving_is_announced_and_reviews_in_flight_are_finished(issuer: Issuer) -> None:
    server = Running(issuer)
    idle, busy = server.connect(), server.connect()
    assert _post(idle, "/mutate", REVIEW)[0] == 200
    server.loop.call_soon_threadsafe(server.server.leave)
    status, _, answer = _post(busy, "/mutate", REVIEW)  # still welcome, and asked to go elsewhere next
    assert (status, answer.getheader("Connection")) == (200, "close")
    assert not server.server.ready()
    raw = server.dial()
    raw.sendall(b"POST /mutate HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REVIEW))
    raw.sendall(REVIEW[:10])
    time.sleep(0.05)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    time.sleep(0.05)
    raw.sendall(REVIEW[10:])
    assert _read_all(raw).startswith(b"HTTP/1.1 200 ")
    stopping.join(30)
    assert not stopping.is_alive()
    with pytest.raises(ConnectionError):
        server.dial()


PROGRAM = """
import sys
from webhook.options import WebhookOptions
from webhook.server import run
sys.exit(run(WebhookOptions(listen=("127.0.0.1", 0), sidecar_image="i", tls_files=tuple(sys.argv[1:3]),
                            drain_seconds=0.2, reload_seconds=0.05)))
"""


def test_the_process_from_ready_to_its_end(issuer: Issuer) -> None:
    command = [sys.executable, "-c", PROGRAM, str(issuer.certificate), str(issuer.key)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as last,
    ):
        last.callback(process.kill)
        assert process.stdout is not None
        ready = process.stdout.readline().strip()
        assert ready.startswith("ready https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(issuer.ca))
        connection = http.client.HTTPSConnection("localhost", int(ready.rpartition(":")[2]), context=trust, timeout=30)
        assert _post(connection, "/mutate", REVIEW)[0] == 200
        issuer.issue(101)
        deadline = time.monotonic() + 30
        while True:
            other = http.client.HTTPSConnection("localhost", connection.port, context=trust, timeout=30)
            assert _post(other, "/mutate", REVIEW)[0] == 200
            if _serial(other) == 101:
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        assert "eastgate_webhook_api_calls_total 0.0" in text
        assert "eastgate_webhook_certificate_changes_total 1.0" in text
        assert "eastgate_webhook_certificate_expiry_timestamp_seconds" in text
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        status, _, answer = _post(other, "/mutate", REVIEW)
        assert (status, answer.getheader("Connection")) == (200, "close")
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [json.loads(line) for line in errors.splitlines()]
    assert [one["outcome"] for one in events if one["event"] == "review"].count("patched") == len(
        [one for one in events if one["event"] == "review"]
    )
    assert {"serving", "ending"} <= {one.get("message") for one in events}


def test_a_process_without_a_certificate_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "none.crt"), str(tmp_path / "none.key")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert (process.returncode, process.stdout) == (1, "")
    assert "no certificate" in json.loads(process.stderr)["message"]
