"""One HTTP/1.1 connection: bytes to requests, requests to a WSGI application, answers back, within bounds.

The parser is llhttp (``httptools``), the one of Node.js: what it does not take for HTTP is refused. Requests on
``inline`` paths are answered at once, on the event loop: a thread would cost more than such a review takes. All others
go to one thread, so that a policy of a megabyte does not hold up pods.

Knows: RFC 9112 as far as a server without proxies, upgrades or files needs it. Must not know: reviews, or TLS.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication

import httptools

from webhook.metrics import Metrics
from webhook.options import ServerLimits

LOG = logging.getLogger(__name__)

MAX_FIELDS: Final = 64
"""Header fields. The API server sends eight."""
READ_BYTES: Final = 256 * 1024
"""Read at once; a large pod's review comes in one piece."""
RECORD_BYTES: Final = 16 * 1024
"""The most that a record of TLS carries (RFC 8446 section 5.1)."""
MAX_WAITING: Final = 8
"""Requests that are sent before the one before them was answered. No client of ours does."""


class Outlet(Protocol):
    """What a connection writes to: TCP, or TLS over it."""

    def write(self, data: bytes) -> None:
        """Send this."""

    def close(self) -> None:
        """End it once everything is sent."""

    def abort(self) -> None:
        """End it now."""

    def pause_reading(self) -> None:
        """Take nothing more."""

    def resume_reading(self) -> None:
        """Go on."""


class Expiring(Protocol):
    """What has a bound of time."""

    deadline: float

    def expire(self) -> None:
        """The time is up."""

    def abort(self) -> None:
        """End it now."""


@dataclass(slots=True)
class Shared:
    """What all connections of a port have in common. Of the event loop's thread only."""

    application: WSGIApplication
    scheme: str
    limits: ServerLimits
    metrics: Metrics
    executor: ThreadPoolExecutor
    max_body: int
    body_key: str
    inline: frozenset[str] = frozenset()
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES + 2 * RECORD_BYTES)))
    records: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))
    """As they came, encrypted. Decrypted they are less, but the end of one may bring a whole one that waited for it."""
    open: set[Connection] = field(default_factory=set)
    greeting: set[Expiring] = field(default_factory=set)
    """Where TLS is not established yet."""
    buffered: int = 0
    closing: bool = False
    """Every answer from now on is the last one on its connection."""
    date: bytes = b""

    def tick(self, now: float) -> None:
        """Close what has met a bound of time. Called every second."""
        self.date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
        standing: list[Expiring] = [*self.open, *self.greeting]
        for one in standing:
            if now > one.deadline:
                one.expire()

    @property
    def standing(self) -> int:
        """Connections, those included where TLS is not established yet."""
        return len(self.open) + len(self.greeting)

    def evict(self) -> bool:
        """Make room: end the oldest of those that never asked anything, else what has been idle for longest. True where
        there is room at once.

        Who only connects, or sends half a request, must not keep an API server out, nor cost it a connection in use.
        """
        silent: list[Expiring] = [*self.greeting, *(one for one in self.open if one.silent)]
        if silent:
            self.metrics.closed.labels("crowded").inc()
            oldest = min(silent, key=lambda one: one.deadline)
            oldest.deadline = math.inf  # once is enough
            oldest.abort()
            return True
        idle = [one for one in self.open if one.idle]
        if idle:
            min(idle, key=lambda one: one.deadline).close("connections")
        return False


class Connection(asyncio.BufferedProtocol):
    """A connection from the first byte (TLS is below) to its end.

    All connections of a port are read through one buffer, for what it holds is parsed before anything else is read:
    TLS is decrypted into it record by record, and a body is copied once.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.deadline = 0.0
        self.idle = True
        self.silent = True
        """It has not sent a whole request yet."""
        self._loop = asyncio.get_running_loop()
        self._transport: Outlet = None  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[dict[str, Any], bool]] = deque()
        self._busy = False
        self._finished = False
        self._paused = False
        self._bound = "head"
        self._size = 0
        self._received = 0
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self._count = 0
        self._body: list[bytes] = []
        self._in_head = True

    # --- from the transport -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport | Outlet) -> None:
        """TLS is established, or there is none."""
        self._transport = transport  # type: ignore[assignment]
        self.shared.open.add(self)
        self.shared.metrics.connections.set(len(self.shared.open))
        self.deadline = self._loop.time() + self.shared.limits.head_seconds

    def connection_lost(self, _: Exception | None) -> None:
        """The other side, or we, closed it."""
        self.shared.open.discard(self)
        self.shared.metrics.connections.set(len(self.shared.open))
        self._release()
        self._waiting.clear()
        self._finished = True
        # Parser and connection hold each other, and what TLS keeps for it: 0.1 MB that would wait for the collector.
        self._parser = self._transport = None  # type: ignore[assignment]

    def get_buffer(self, _: int) -> memoryview:
        """Where the next bytes go."""
        return self.shared.buffer

    def buffer_updated(self, size: int) -> None:
        """Bytes as they come."""
        if self._finished:
            return
        self._received += size
        try:
            self._parser.feed_data(self.shared.buffer[:size])
        except httptools.HttpParserUpgrade:
            self._refuse(400, "no protocol is switched to")
        except httptools.HttpParserCallbackError as error:
            if not self._finished:
                LOG.error("a request could not be taken", exc_info=error.__context__ or error)
                self._refuse(500, "internal error")
        except httptools.HttpParserError:
            self._refuse(400, "not HTTP/1.1")
        if self._finished or self.idle:
            return
        if self._in_head and self._received > self.shared.limits.head_bytes:
            self._refuse(431, f"the head is larger than {self.shared.limits.head_bytes} bytes", "head_size")
        elif self._received > self.shared.max_body + 4 * self.shared.limits.head_bytes and not self._busy:
            self._refuse(413, f"the request is larger than {self.shared.max_body} bytes", "body_size")

    def eof_received(self) -> bool:
        """Half a connection is none."""
        return False

    def pause_writing(self) -> None:
        """The client does not read: the time for the answer runs on."""
        self._paused = True
        self._bound = "slow_reader"
        self.deadline = self._loop.time() + self.shared.limits.request_seconds
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._rest()
        self._transport.resume_reading()

    # --- from the parser --------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begin()
        self.idle = False
        if not self._busy:
            self._bound = "head"
            self.deadline = self._loop.time() + self.shared.limits.head_seconds

    def on_url(self, target: bytes) -> None:
        """The request's target, or a piece of it."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; of several with one name the last counts, and none of those looked at may come twice."""
        self._count += 1
        if self._count > MAX_FIELDS:
            self._refuse(431, f"more than {MAX_FIELDS} header fields", "head_size")
            return
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is there; the body is not."""
        self._in_head = False
        if self._finished:
            return
        if not self._busy:
            self._bound = "request"
            self.deadline = self._loop.time() + self.shared.limits.request_seconds
        length = self._fields.get(b"content-length", b"")
        if length.isdigit() and int(length) > self.shared.max_body:
            self._refuse(413, f"the request is larger than {self.shared.max_body} bytes", "body_size")
        elif self._fields.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._finished:
            return
        self._body.append(piece)
        self._size += len(piece)
        self.shared.buffered += len(piece)
        if self._size > self.shared.max_body:
            self._refuse(413, f"the request is larger than {self.shared.max_body} bytes", "body_size")
        elif self.shared.buffered > self.shared.limits.buffered_bytes:
            self._refuse(503, "too many large requests at once", "buffered")

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        if self._finished:
            return
        self.silent = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._release()
        self._received = 0
        environ = self._make_environ(body)
        keep = self._parser.should_keep_alive()
        if self._busy:
            self._waiting.append((environ, keep))
            if len(self._waiting) > MAX_WAITING:
                self.close("waiting")
            return
        self._answer(environ, keep)

    # --- answering --------------------------------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any], keep: bool) -> None:
        if environ["PATH_INFO"] in self.shared.inline:
            self._send(_call(self.shared.application, environ), keep)
            return
        self._busy = True
        work = self._loop.run_in_executor(self.shared.executor, _call, self.shared.application, environ)
        work.add_done_callback(lambda done: self._finish(done, keep))

    def _finish(self, done: asyncio.Future[tuple[str, bytes]], keep: bool) -> None:
        self._busy = False
        if self._finished or done.cancelled():
            return
        self._send(done.result(), keep)
        while self._waiting and not self._busy and not self._finished:
            self._answer(*self._waiting.popleft())

    def _send(self, answer: tuple[str, bytes], keep: bool) -> None:
        head, body = answer
        keep = keep and not self.shared.closing
        last = b"keep-alive" if keep else b"close"
        self._transport.write(
            b"".join(
                (head.encode("latin-1"), b"Date: ", self.shared.date, b"\r\nConnection: ", last, b"\r\n\r\n", body)
            )
        )
        if not keep:
            self._end()
        elif not self._waiting:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request."""
        if self._busy or self._paused:
            return
        self.idle = True
        self._bound = "idle"
        self.deadline = self._loop.time() + self.shared.limits.idle_seconds

    def _make_environ(self, body: bytes) -> dict[str, Any]:
        """WSGI's view of the request. Header fields that nobody here looks at are left out."""
        path, _, query = self._target.partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        version = self._parser.get_http_version()
        return {
            "REQUEST_METHOD": self._parser.get_method().decode("ascii"),
            "SCRIPT_NAME": "",
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/{version}",
            "SERVER_NAME": "eastgate-webhook",
            "SERVER_PORT": "443",
            "HTTP_HOST": "eastgate-webhook",
            "CONTENT_TYPE": self._fields.get(b"content-type", b"").decode("latin-1"),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.shared.scheme,
            "wsgi.input": io.BytesIO(b""),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            self.shared.body_key: body,
        }

    # --- ending -----------------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """The time is up for whatever was waited for."""
        if self._finished:  # the last answer was not taken
            self._transport.abort()
        elif self._bound == "head" and not self.idle:
            self._refuse(408, "the head did not come in time", "head")
        elif self._bound == "request" and not self._busy:
            self._refuse(408, "the request did not come in time", "request")
        else:
            self.close(self._bound)

    def abort(self) -> None:
        """End it now, unanswered."""
        self._finished = True
        self._transport.abort()

    def close(self, bound: str) -> None:
        """End it now. Closing for idleness is no event worth counting."""
        if bound not in ("idle", "end"):
            self.shared.metrics.closed.labels(bound).inc()
        if bound in ("idle", "connections", "end"):
            self._end()
        else:
            self.abort()

    def _end(self) -> None:
        """No more requests; what is written is sent first, if the other side takes it in time."""
        self._finished = True
        self.deadline = self._loop.time() + 4 * self.shared.limits.linger_seconds
        self._transport.close()

    def _refuse(self, status: int, why: str, bound: str = "") -> None:
        """Answer without the application, and close once the other side had time to read it."""
        if self._finished:
            return
        self._finished = True
        self._release()
        if bound:
            self.shared.metrics.closed.labels(bound).inc()
        text = f"{why}\n".encode()
        head = _head(
            f"{status} {_PHRASES[status]}", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        )
        self._transport.write(head.encode("latin-1") + b"Connection: close\r\n\r\n" + text)
        seconds = self.shared.limits.linger_seconds
        self.deadline = self._loop.time() + 4 * seconds
        self._loop.call_later(seconds, self._transport.close)

    def _release(self) -> None:
        self.shared.buffered -= self._size
        self._body, self._size = [], 0


_PHRASES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _head(status: str, headers: list[tuple[str, str]]) -> str:
    return f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)


def _call(application: WSGIApplication, environ: dict[str, Any]) -> tuple[str, bytes]:
    """Run the application: the head of its answer as far as it says it, and the body."""
    said: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        said[:] = [_head(status, headers)]
        return said.append

    result = application(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    return said[0], body
