"""The identity provider of a case file: its key sets over TLS, under the names that its policies use.

``serve_key_sets`` yields the flags that lead ``eastgate serve`` and ``eastgate explain`` there: ``--resolve`` and ``--trusted-ca``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.tokens import key_set
from tests.unit.sidecar.key_server import Authority, KeyServer, make_authority, serve_keys


@contextlib.contextmanager
def serve_key_sets(texts: dict[str, str], folder: Path) -> Iterator[list[str]]:
    """Serve each URL's text; nothing is started for none."""
    if not texts:
        yield []
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = texts.get(f"https://{self.headers['host']}{self.path}", "").encode()
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    hosts = sorted({str(urlsplit(url).hostname) for url in texts})
    authority = make_authority()
    certificate = folder / "ca.pem"
    certificate.write_text(authority.pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = authority.make_context(*hosts).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--trusted-ca", str(certificate)]
        for host in hosts:
            flags += ["--resolve", f"{host}:443:127.0.0.1:{server.server_address[1]}"]
        try:
            yield flags
        finally:
            server.shutdown()


@contextlib.contextmanager
def run_key_server(authority: Authority, name: str = "idp.example") -> Iterator[KeyServer]:
    """A server of one key set, in a thread of its own: what it answers may be changed while it runs."""
    running: list[KeyServer] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def run() -> None:
        async with serve_keys(key_set("main"), authority.make_context(name)) as server:
            running.append(server)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield running[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        loop.close()
