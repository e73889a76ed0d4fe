"""The applications behind the sidecar: an HTTP echo like httpbin, and ``yages.Echo`` over gRPC.

Both keep what reached them, in order: what an application saw, and that it saw nothing, is half of every result.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import grpc

PONG = b"\x0a\x04pong"
"""``yages.Content{text: "pong"}``: field 1, length-delimited, four bytes."""


class Seen(NamedTuple):
    """A request as the application received it; header names in lower case, in order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """All values of a header, comma-joined, or None."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


class Record:
    """What was seen since the last look. Filled by the application's threads, emptied by the demonstration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def add(self, seen: Seen) -> None:
        """Keep one request."""
        with self._lock:
            self._seen.append(seen)

    def take(self) -> list[Seen]:
        """Everything since the last look."""
        with self._lock:
            seen, self._seen = self._seen, []
            return seen


class HTTPEcho:
    """Answers every request with a JSON description of it."""

    def __init__(self) -> None:
        record = self.record = Record()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                seen = Seen(self.command, self.path, tuple((k.lower(), v) for k, v in self.headers.items()))
                record.add(seen)
                text = json.dumps(_describe(seen, body), indent=2).encode() + b"\n"
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815 (http.server)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server)
                """Say nothing: the table does."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class GRPCEcho:
    """``yages.Echo/Ping`` on a real gRPC server, without protoc: the one message is five bytes."""

    def __init__(self) -> None:
        import grpc

        record = self.record = Record()

        def ping(_request: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = tuple((str(key), _text(value)) for key, value in context.invocation_metadata())
            record.add(Seen("POST", "/yages.Echo/Ping", metadata))
            return PONG

        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers = {"Ping": grpc.unary_unary_rpc_method_handler(ping)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("yages.Echo", handlers),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0.2).wait()


def _describe(seen: Seen, body: bytes) -> dict[str, object]:
    parts = urlsplit(seen.path)
    headers: dict[str, list[str]] = {}
    for name, value in seen.headers:
        headers.setdefault("-".join(word.capitalize() for word in name.split("-")), []).append(value)
    return {
        "method": seen.method,
        "path": parts.path,
        "args": parse_qs(parts.query, keep_blank_values=True),
        "headers": headers,
        "data": body.decode("utf-8", "replace"),
    }


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
