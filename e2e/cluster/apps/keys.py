"""An identity provider's key sets behind TLS, under the names that the seeds' URLs have.

``/keys/documents.json`` holds path -> key set. Port 8443 has the certificate that everybody trusts here, 8444 one of an
authority of its own, and answers 503 for the first ``FAILURES`` requests. Each answer is a line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path("/keys")
PORTS = {"public": 8443, "private": 8444}
FAILURES = {"public": 0, "private": int(os.environ.get("FAILURES", "0"))}


def tell(**record: object) -> None:
    """A line that tests read."""
    sys.stdout.write(json.dumps({"at": time.time(), **record}) + "\n")  # In one piece: threads do not wait.
    sys.stdout.flush()


class Server(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        self.name, self.failures = name, FAILURES[name]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(FOLDER / f"{name}.pem")
        super().__init__(("", PORTS[name]), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            tls = self._context.wrap_socket(request, server_side=True)
        except OSError as error:
            tell(server=self.name, refused=str(error))
            return
        with tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One key set a path."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        document = json.loads((FOLDER / "documents.json").read_text()).get(self.path)
        status, body = (200, document.encode()) if document is not None else (404, b"no such key set\n")
        if server.failures > 0:
            server.failures -= 1
            status, body = 503, b"not yet\n"
        tell(server=server.name, path=self.path, answer=status, client=self.client_address[0])
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server)
        """The line of JSON says it."""


if __name__ == "__main__":
    for each in PORTS:
        threading.Thread(target=Server(each).serve_forever, args=(0.1,), daemon=True).start()
    tell(listening=PORTS)
    threading.Event().wait()
