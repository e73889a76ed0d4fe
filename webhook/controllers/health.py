"""The port for probes and metrics: ``/healthz``, ``/readyz``, ``/metrics``, in clear.

Knows: HTTP, as little as kubelet and Prometheus need. Must not know: what is healthy; it is handed functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Final

SECONDS: Final = 5.0
"""For one request to arrive and be answered. Kubelet gives a probe one second unless told otherwise."""


class HealthServer:
    """``alive`` and ``ready`` say what is wrong, one line each; nothing: all is well."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        alive: Callable[[], Sequence[str]],
        ready: Callable[[], Sequence[str]],
        metrics: Callable[[], bytes],
        metrics_type: str,
    ) -> None:
        def answer(path: str) -> tuple[int, str, bytes]:
            if path == "/metrics":
                return 200, metrics_type, metrics()
            ask = {"/healthz": alive, "/readyz": ready}.get(path)
            if ask is None:
                return 404, "text/plain", b"not found\n"
            wrong = ask()
            return (503, "text/plain", "".join(f"{line}\n" for line in wrong).encode()) if wrong else _FINE

        class Handler(_Handler):
            """One connection."""

            ask = staticmethod(answer)

        class Server(ThreadingHTTPServer):
            """The listener."""

            address_family = AF_INET6 if ":" in address[0] else AF_INET
            daemon_threads = True

        self._server = Server(address, Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more."""
        self._server.shutdown()
        self._server.server_close()


_FINE: Final = (200, "text/plain", b"ok\n")


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: one request a connection, so that none is held open."""

    timeout = SECONDS
    server_version = "eastgate"
    sys_version = ""
    ask: Callable[[str], tuple[int, str, bytes]]

    def do_GET(self) -> None:
        """Answer one request."""
        status, kind, body = self.ask(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (as above)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's)
        """Probes are no news."""
