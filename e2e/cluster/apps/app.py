"""The application behind the sidecar, whichever the manifests name: an HTTP echo, ``yages.Echo`` over gRPC, plain TCP.

Ports are those of the sample apps: 80 (httpbin), 3000 (echo-basic), 8080, and 9000 for gRPC (yages); 9100 echoes
bytes. Each request that arrives is a line of JSON on stdout: what the application saw, and that it saw nothing, is half
of every result. ``DELAY_SECONDS`` waits before it listens. ``TLS_PORT`` is served with a certificate that nobody
vouches for, as apps do that only want their probes encrypted.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

HTTP_PORTS = (80, 3000, 8080)
GRPC_PORT = 9000
ECHO_PORT = 9100
PONG = b"\x0a\x04pong"
"""``yages.Content{text: "pong"}``."""
QUIET = os.environ.get("QUIET") == "1"


def tell(**record: object) -> None:
    """A line that tests read."""
    sys.stdout.write(json.dumps({"at": time.time(), **record}) + "\n")  # In one piece: threads do not wait.
    sys.stdout.flush()


class Handler(BaseHTTPRequestHandler):
    """Answers every request with a JSON description of it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        parts = urlsplit(self.path)
        if not QUIET:
            source, port = self.client_address[0], self.connection.getsockname()[1]
            tell(seen=[self.command, self.path, headers], source=source.removeprefix("::ffff:"), port=port)
        if (wanted := parse_qs(parts.query).get("sleep")) is not None:
            time.sleep(float(wanted[0]))
        status = int(parts.path.split("/")[2]) if parts.path.startswith("/status/") else 200
        described = {
            "method": self.command,
            "path": parts.path,
            "host": self.headers.get("host"),
            "headers": headers,
            "data": body.decode("utf-8", "replace"),
            "pod": os.environ.get("HOSTNAME"),
        }
        text = json.dumps(described, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815 (http.server)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server)
        """The line of JSON says it."""


class Server(ThreadingHTTPServer):
    """On both families, with a queue that a load does not fill."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class SecureServer(Server):
    """Shakes hands in the connection's own thread."""

    def __init__(self, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(make_certificate())
            file.flush()
            self._context.load_cert_chain(file.name)
        super().__init__(("::", port), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            tls = self._context.wrap_socket(request, server_side=True)
        except OSError as error:
            tell(refused=str(error), source=client_address[0].removeprefix("::ffff:"))
            return
        with tls:
            super().finish_request(tls, client_address)


def make_certificate() -> bytes:
    """Key and certificate as PEM: signed by itself, for a name that nobody asks for."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an app by itself")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now + timedelta(days=2))
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + builder.sign(key, hashes.SHA256()).public_bytes(pem)


def serve_grpc() -> Any:
    """A real gRPC server without protoc: the one message is six bytes. Reflection is not served."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def ping(_request: bytes, context: Any) -> bytes:
        metadata = [
            (str(key), value.decode("latin-1") if isinstance(value, bytes) else str(value))
            for key, value in context.invocation_metadata()
        ]
        tell(seen=["POST", "/yages.Echo/Ping", metadata], source=context.peer(), port=GRPC_PORT)
        return PONG

    def check(_request: bytes, _context: Any) -> bytes:
        return b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}

    server = grpc.server(ThreadPoolExecutor(4))
    for service, method, handler in (("yages.Echo", "Ping", ping), ("grpc.health.v1.Health", "Check", check)):
        handlers = {method: grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"[::]:{GRPC_PORT}")
    server.start()
    return server


def serve_echo() -> None:
    """Bytes as they come, for ports that are not HTTP."""
    listener = socket.create_server(("::", ECHO_PORT), family=socket.AF_INET6, dualstack_ipv6=True)

    def echo(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"220 hello\r\n")  # The server speaks first, as SMTP and MySQL do.
            while data := connection.recv(65536):
                connection.sendall(data)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def main() -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    time.sleep(float(os.environ.get("DELAY_SECONDS", "0")))
    grpc_server = serve_grpc()
    threading.Thread(target=serve_echo, daemon=True).start()
    servers = [Server(("::", port), Handler) for port in HTTP_PORTS]
    if port := os.environ.get("TLS_PORT"):
        servers.append(SecureServer(int(port)))
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    tell(listening=[*HTTP_PORTS, GRPC_PORT, ECHO_PORT])
    ended.wait()
    tell(ending=True)
    grpc_server.stop(1.0).wait()


if __name__ == "__main__":
    main()
