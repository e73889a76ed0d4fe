"""The admin port: health, readiness, metrics, what is loaded.

A tiny HTTP/1.1 server with ``h11`` as the parser: one request a connection, no request body, bounded in size, time and
number. It is reachable from the pod's network, so it shows no secret, and whatever changes something is for callers on
the local host only, and not for a browser that was sent there.

Knows: routes and how they are answered. Must not know: where the answers come from; ``build_admin`` is handed
functions. Further routes (probe rewriting) register with ``AdminServer.route``; a path that ends in ``/`` covers what
is below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11

from eastgate.pods.names import HOOK_TOKEN_HEADER
from sidecar.metrics import CONTENT_TYPE, Reading, render_page
from sidecar.sockets import bind_socket

logger = logging.getLogger("eastgate.admin")

MAX_HEAD = 8 * 1024
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 10.0
MAX_CONNECTIONS = 64
"""Kubelet, a scraper or two and a person. One more ends the oldest of those that have not asked yet: idle callers must
not keep a probe out, nor end one that is being answered."""

MAX_ANSWERING = 64
"""Requests being answered at a time; one more is told 503."""

MAX_WAITING = 256
"""The same for those that wait for somebody else, as probes for the app, counted apart: whoever has many of these asked
at once must not make the sidecar itself look ill. They wait for one answer, and cost little. Where there are as many,
whoever has the most gives way: the kubelet has few, and a stranger must not keep its probes out."""


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """``local``: the caller is on this host. ``browser``: the request was made by a page in a browser. ``agent``: the
    caller's own name for itself. ``token``: what it shows in order to run a hook; never to be told or written down.
    """

    method: str
    path: str
    local: bool
    browser: bool
    agent: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AdminAnswer:
    """What the caller gets."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    allow: str = ""


_TOKEN_HEADER = HOOK_TOKEN_HEADER.lower().encode()

type Handler = Callable[[AdminRequest], Awaitable[AdminAnswer]]


class NoAnswer(Exception):  # noqa: N818 (what becomes of it)
    """Close the connection without a word: for callers that take any answer for success."""


class Readiness:
    """Named conditions, all of which must hold. Begins with all of them missing."""

    def __init__(self, *names: str) -> None:
        self._missing: dict[str, str] = dict.fromkeys(names, "not yet")

    def meet(self, name: str) -> None:
        """This condition holds."""
        self._missing.pop(name, None)

    def lose(self, name: str, why: str) -> None:
        """It does not (any more)."""
        self._missing[name] = why

    @property
    def missing(self) -> dict[str, str]:
        """Name and reason of what does not hold."""
        return dict(self._missing)


class AdminServer:
    """``route`` first, then ``start``."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Handler]] = {}
        self._patient: set[str] = set()
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._idle: dict[asyncio.Task[None], None] = {}  # those that have not asked yet, in order of arrival
        self._answering = 0
        self._waiting: dict[str, dict[asyncio.Task[None], None]] = {}
        """The patient ones, by the address of the caller."""

    def route(self, method: str, path: str, handler: Handler, *, patient: bool = False) -> None:
        """Answer ``method path``. HEAD comes with GET. ``patient``: the handler bounds its own time."""
        self._routes.setdefault(path, {})[method] = handler
        if patient:
            self._patient.add(path)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, on all addresses where ``host`` is empty; returns where. Raises ``OSError``."""
        if host:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD, backlog=64)
        else:
            listening = bind_socket("", port, shared=False)
            self._server = await asyncio.start_server(self._accept, sock=listening, limit=MAX_HEAD, backlog=64)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            writer.transport.abort()
            return
        if len(self._idle) >= MAX_CONNECTIONS:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.cancel()
        self._idle[task] = self._tasks[task] = None
        try:
            await self._serve(task, reader, writer)
        except NoAnswer:
            writer.transport.abort()
        except (OSError, EOFError, TimeoutError, h11.ProtocolError):
            pass
        except Exception as error:
            logger.error("admin request failed", extra={"fault": type(error).__name__})
        finally:
            self._tasks.pop(task, None)
            self._idle.pop(task, None)
            with contextlib.suppress(Exception):
                writer.close()

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                event = await _read_head(protocol, reader)
        except h11.RemoteProtocolError as error:
            answer = AdminAnswer(error.error_status_hint, b"bad request\n")
            method = "GET"
        else:
            peer = (writer.get_extra_info("peername") or ("",))[0]
            request = _read_request(event, peer)
            method = request.method
            self._idle.pop(task, None)
            if self._find(request.path) in self._patient:
                answer = await self._answer_patiently(request, task, peer)
            else:
                answer = await self._answer_among_others(request)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        if answer.allow:
            headers.append((b"allow", answer.allow.encode()))
        writer.write(protocol.send(h11.Response(status_code=answer.status, headers=headers)) or b"")
        if method != "HEAD":
            writer.write(protocol.send(h11.Data(data=answer.body)) or b"")
        await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)

    async def _answer_among_others(self, request: AdminRequest) -> AdminAnswer:
        if self._answering >= MAX_ANSWERING:
            return AdminAnswer(503, b"busy\n")
        self._answering += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(request)
        finally:
            self._answering -= 1

    async def _answer_patiently(self, request: AdminRequest, task: asyncio.Task[None], peer: str) -> AdminAnswer:
        if sum(map(len, self._waiting.values())) >= MAX_WAITING:
            most = max(self._waiting.values(), key=len)
            if len(most) <= len(self._waiting.get(peer, ())) + 1:
                return AdminAnswer(503, b"busy\n")
            last, _ = most.popitem()
            last.cancel()
        own = self._waiting.setdefault(peer, {})
        own[task] = None
        try:
            return await self._answer(request)
        finally:
            own.pop(task, None)
            if not own and self._waiting.get(peer) is own:
                del self._waiting[peer]

    async def _answer(self, request: AdminRequest) -> AdminAnswer:
        methods = self._routes.get(self._find(request.path))
        if methods is None:
            return AdminAnswer(404, b"not found\n")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            return AdminAnswer(405, b"method not allowed\n", allow=", ".join(sorted(methods)))
        try:
            return await handler(request)
        except NoAnswer:
            raise
        except Exception as error:
            logger.error("admin route failed", exc_info=error)
            return AdminAnswer(500, b"internal error\n")

    def _find(self, path: str) -> str:
        """The route of a path: itself, else the longest prefix that ends in ``/``; empty where there is none."""
        if path in self._routes:
            return path
        covering = [prefix for prefix in self._routes if prefix.endswith("/") and path.startswith(prefix)]
        return max(covering, key=len, default="")


async def _read_head(protocol: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(MAX_HEAD)
            if not data:
                raise EOFError
            protocol.receive_data(data)
        elif isinstance(event, h11.Request):
            return event
        else:
            raise EOFError


def _read_request(event: h11.Request, peer: str) -> AdminRequest:
    headers = {bytes(name): bytes(value) for name, value in event.headers}
    path = event.target.partition(b"?")[0].decode("latin-1")
    browser = b"origin" in headers or b"sec-fetch-site" in headers
    agent, token = (headers.get(name, b"").decode("latin-1") for name in (b"user-agent", _TOKEN_HEADER))
    return AdminRequest(event.method.decode("ascii"), path, _is_local(peer), browser, agent, token)


def _is_local(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def render_json(document: object, status: int = 200) -> AdminAnswer:
    """A JSON answer, as people read it."""
    return AdminAnswer(status, json.dumps(document, indent=2, default=str).encode() + b"\n", "application/json")


def build_admin(
    readiness: Callable[[], dict[str, str]],
    read_metrics: Callable[[], Awaitable[Reading]],
    read_config: Callable[[], Awaitable[dict[str, object]]],
    quit_serving: Callable[[], None],
) -> AdminServer:
    """The endpoints that INTERFACES promise. ``readiness`` says what is missing, by name."""

    async def answer_health(_request: AdminRequest) -> AdminAnswer:
        return AdminAnswer(200, b"ok\n")

    async def answer_readiness(_request: AdminRequest) -> AdminAnswer:
        missing = readiness()
        return render_json({"ready": not missing, "missing": missing}, 503 if missing else 200)

    async def answer_metrics(_request: AdminRequest) -> AdminAnswer:
        return AdminAnswer(200, render_page(await read_metrics()), CONTENT_TYPE)

    async def answer_config(_request: AdminRequest) -> AdminAnswer:
        return render_json(await read_config())

    async def answer_quit(request: AdminRequest) -> AdminAnswer:
        if not request.local or request.browser:
            return AdminAnswer(403, b"only from this host\n")
        quit_serving()
        return AdminAnswer(200, b"draining\n")

    server = AdminServer()
    server.route("GET", "/healthz", answer_health)
    server.route("GET", "/readyz", answer_readiness)
    server.route("GET", "/metrics", answer_metrics)
    server.route("GET", "/config", answer_config)
    server.route("POST", "/quit", answer_quit)
    return server
