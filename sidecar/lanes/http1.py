"""The HTTP/1 lane: one request at a time from its client, decided on its head alone, relayed both ways as it comes.

Rules: RFC 9112 (messages, pipelining, persistence), RFC 9110 section 15.2 (interim responses). One upstream
connection a client connection, dialled for the first request that is allowed: bytes that the application sends
unasked go nowhere.

What an event leads to is collected first and said at the end of the event, so that an exception anywhere leaves
nothing half said: it is answered with 503, both sides are closed, and nothing is forwarded.

Knows: the order of things in a connection. Must not know: how heads are read and written (``http1_requests``,
``http1_responses``), what becomes of the bytes of one exchange (``http1_exchange``), why it is allowed (``Gate``).
"""

from __future__ import annotations

import contextlib
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING

from eastgate.model.decisions import Decision, KeysNeeded, Reason
from eastgate.model.requests import Request
from eastgate.render.grpc import is_grpc
from eastgate.render.http import Answer, render_answer
from sidecar._mitmproxy import (
    Commands,
    Connection,
    ConnectionState,
    Context,
    CutConnection,
    Drain,
    FetchKeys,
    HoldReading,
    KeysFetched,
    Lane,
    Server,
    commands,
    events,
)
from sidecar.faults import describe_fault
from sidecar.lanes.framing import FramingError
from sidecar.lanes.http1_exchange import Exchange
from sidecar.lanes.http1_heads import HeadReader
from sidecar.lanes.http1_requests import RequestError, read_request_head, write_request_head
from sidecar.lanes.http1_responses import ResponseError, write_answer
from sidecar.lanes.opaque import OpaqueLane

if TYPE_CHECKING:
    from sidecar.gate import Gate
    from sidecar.options import Limits

logger = logging.getLogger("eastgate.http1")

LINGER_SECONDS = 2.0
LINGER_BYTES = 512 * 1024
"""How long, and how much, a client that was answered early may go on sending before it is cut, so that it reads the
answer and not a reset (RFC 9112 section 9.6; nginx ``lingering_timeout`` 5 s, ``lingering_close``).
"""

DRAIN_GRACE_SECONDS = 1.0
"""An idle client may have a request on its way while we drain; it is still answered, with ``connection: close``."""

HALF_CLOSED_SECONDS = 10.0
"""How long a client that has sent FIN may wait for its response to begin. RFC 9112 section 9.6 lets it, but most that
do so are gone (Envoy, nginx and Go take every FIN for that), and an application that hangs would keep them all.
"""

CONTINUE_SECONDS = 1.0
"""How long a body is held back for the application's 100 (RFC 9110 section 10.1.1; curl waits as long). After a final
answer none is sent: whether the application would take it for a body or for the next request is not knowable."""

_UNREADABLE = Request(b"", b"", b"", ())
_FAILURE = b"policy could not be evaluated"
# Written when the module is loaded, so that nothing is left that could raise when they are needed.
_FAILED = write_answer(Answer(503, ((b"content-type", b"text/plain"),), _FAILURE))
_FAILED_GRPC = write_answer(
    Answer(200, ((b"content-type", b"application/grpc"), (b"grpc-status", b"14"), (b"grpc-message", _FAILURE)), b"")
)


def _unavailable(why: bytes, status: int = 503) -> Decision:
    """The application cannot be asked; Envoy's words for it (``source/common/router/router.cc``)."""
    return Decision(allowed=False, status=status, reason="upstream_unavailable", body=why)


_NO_CONNECTION = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
)
_TERMINATED = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: connection termination"
)
_PROTOCOL_ERROR = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: protocol error", 502
)

_BAD_BODY = Decision(allowed=False, status=400, reason=Reason.BAD_REQUEST, body=b"malformed chunked body")


class Phase(Enum):
    """What the lane waits for."""

    HEAD = auto()  # a request head
    KEYS = auto()  # keys to decide with
    CONNECT = auto()  # the upstream connection
    RELAY = auto()  # the rest of the request, the response
    LINGER = auto()  # the client to have read our last answer
    CLOSED = auto()  # nothing


class Http1Lane(Lane):
    """See the module."""

    def __init__(self, context: Context, gate: Gate, limits: Limits) -> None:
        super().__init__(context)
        self._client: Connection = context.client
        self._gate = gate
        self._limits = limits
        host, port = context.client.sockname[:2]
        self._own_authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
        self._port = context.server.address[1] if context.server.address else port
        self._peer = context.client.peername[0]

        self._phase = Phase.HEAD
        self._heads = HeadReader(limits.head_bytes)
        self._exchange: Exchange | None = None
        self._served = 0
        self._client_ended = False
        self._connected = False
        self._reused = False  # the upstream connection has carried a response before
        self._opening: commands.OpenConnection | None = None
        self._draining = False
        self._held = False
        self._discarded = 0
        self._head_timer: commands.RequestWakeup | None = None
        self._head_timer_for = 0
        self._close_timer: commands.RequestWakeup | None = None
        self._continue_timer: commands.RequestWakeup | None = None
        self._tunnel: OpaqueLane | None = None

        self._to_client: list[bytes] = []
        self._to_upstream: list[bytes] = []
        self._commands: list[commands.Command] = []

    # --- events in, commands out ---------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> Commands:
        """React, then say everything at once."""
        if self._tunnel is not None:
            yield from self._tunnel.handle_event(event)
            return
        try:
            self._react(event)
        except Exception as error:
            self._fail(error)
        if self._to_upstream:
            out, self._to_upstream = self._to_upstream, []
            yield commands.SendData(self.context.server, out[0] if len(out) == 1 else b"".join(out))
        if self._to_client:
            out, self._to_client = self._to_client, []
            yield commands.SendData(self._client, out[0] if len(out) == 1 else b"".join(out))
        if self._commands:
            said, self._commands = self._commands, []
            yield from said

    def _react(self, event: events.Event) -> None:
        if isinstance(event, events.DataReceived):
            if event.connection is self._client:
                self._take_client_bytes(event.data)
            elif event.connection is self.context.server:
                self._take_upstream_bytes(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self._client:
                self._client_closed()
            elif event.connection is self.context.server:
                self._upstream_closed()
        elif isinstance(event, events.OpenConnectionCompleted):
            if event.command is self._opening:
                self._upstream_answered(event.reply)
        elif isinstance(event, KeysFetched):
            if event.ticket is self._exchange and self._exchange is not None and self._phase is Phase.KEYS:
                self._decide(self._exchange, asked=True)
                self._read_requests()
        elif isinstance(event, events.Wakeup):
            self._wake(event.command)
        elif isinstance(event, Drain):
            self._draining = True
            if self._phase is Phase.HEAD and not len(self._heads):
                self._close_timer = self._wake_after(DRAIN_GRACE_SECONDS)

    def _fail(self, error: Exception) -> None:
        """Something raised. Whatever this event was going to say is not said."""
        logger.error("request failed: %s", describe_fault(error), extra={"fault": type(error).__name__})
        exchange = self._exchange
        self._to_upstream.clear()
        self._to_client.clear()
        self._commands.clear()
        if self._phase not in (Phase.LINGER, Phase.CLOSED) and (exchange is None or exchange.response is None):
            self._to_client.append(_FAILED_GRPC if self._speaks_grpc() else _FAILED)
        self._phase = Phase.CLOSED
        self._connected = False
        if self.context.server.state is not ConnectionState.CLOSED:
            self._commands.append(commands.CloseConnection(self.context.server))
        cut = exchange is not None and exchange.response is not None and not exchange.framed
        self._commands.append(CutConnection(self._client) if cut else commands.CloseConnection(self._client))

    def _speaks_grpc(self) -> bool:
        try:
            return self._exchange is not None and is_grpc(self._exchange.head.request.headers)
        except Exception:
            return False

    # --- the client's side ---------------------------------------------------------------------------------------

    def _take_client_bytes(self, data: bytes) -> None:
        phase, exchange = self._phase, self._exchange
        if phase is Phase.HEAD:
            self._heads.push(data)
            self._read_requests()
        elif (
            phase is Phase.RELAY and exchange is not None and not exchange.request_done and not exchange.awaits_continue
        ):
            self._relay_request_body(exchange, data)
        elif phase is Phase.LINGER:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self._hold(held=True)
        elif phase is not Phase.CLOSED:
            self._heads.push(data)
            if len(self._heads) > self._limits.body_chunk_bytes:
                self._hold(held=True)

    def _read_requests(self) -> None:
        """Begin the next request, and the next, as long as each is over by the time it was begun (pipelined
        refusals).
        """
        limits = self._limits
        while self._phase is Phase.HEAD:
            try:
                data = self._heads.next_head()
                if data is None:
                    if self._head_timer is None and len(self._heads):
                        self._head_timer, self._head_timer_for = self._wake_after(limits.head_seconds), self._served
                    break
                head = read_request_head(data, limits.head_fields, self._port, self._peer, self._own_authority)
            except RequestError as bad:
                self._refuse(bad)
                return
            self._served += 1
            self._exchange = exchange = Exchange(head, limits)
            self._decide(exchange, asked=False)
        if self._client_ended and self._phase is Phase.HEAD:
            self._close_client(linger=False)

    def _refuse(self, bad: RequestError) -> None:
        """Answer bytes that are no request we accept. Nothing after them can be trusted: the connection ends."""
        decision = Decision(allowed=False, status=bad.status, reason=Reason.BAD_REQUEST, body=bad.why.encode("ascii"))
        self._gate.refuse(_UNREADABLE, decision)
        self._to_client.append(write_answer(render_answer(decision, grpc=False)))
        self._close_client(linger=True)

    def _relay_request_body(self, exchange: Exchange, data: bytes) -> None:
        try:
            self._to_upstream += exchange.feed_request(data)
        except FramingError:
            # What was forwarded so far never gets its last chunk: the application sees it broken, not complete.
            self._close_upstream()
            if exchange.response is None:
                self._answer(exchange, _BAD_BODY)
            else:
                self._break_off(exchange)
            return
        if exchange.rest:
            self._heads.push(exchange.rest)
            exchange.rest = b""

    def _client_closed(self) -> None:
        """FIN or worse. A client that half-closes after its request still gets its response (RFC 9112 section 9.6)."""
        self._client_ended = True
        exchange = self._exchange
        inside_body = self._phase is Phase.RELAY and exchange is not None and not exchange.request_done
        gone = self._client.state is ConnectionState.CLOSED
        if gone or inside_body or self._phase in (Phase.HEAD, Phase.LINGER, Phase.CLOSED):
            self._close_client(linger=False)
        else:
            self._close_timer = self._wake_after(HALF_CLOSED_SECONDS)

    # --- deciding ------------------------------------------------------------------------------------------------

    def _decide(self, exchange: Exchange, *, asked: bool) -> None:
        decision = self._gate.decide(exchange.head.request, asked=asked)
        if isinstance(decision, KeysNeeded):
            self._phase = Phase.KEYS
            self._commands.append(FetchKeys(decision.sources, exchange))
            return
        exchange.decision = decision
        if decision.allowed is not True:
            self._answer(exchange, decision)
            return
        if decision.edits is None:
            raise ValueError("a pass without edits")
        exchange.written = write_request_head(exchange.head, decision.edits)
        if self._connected:
            self._send_request(exchange)
        else:
            self._connect()

    def _answer(self, exchange: Exchange, decision: Decision) -> None:
        """Answer in the application's place, on the head alone; a body that is not here yet is not waited for."""
        head = exchange.head
        request = head.request
        if not exchange.request_done and self._phase is not Phase.RELAY:
            self._skip_body(exchange)
        persistent = head.keep_alive and exchange.request_done and not self._draining
        answer = render_answer(decision, grpc=is_grpc(request.headers), head=request.method == b"HEAD")
        self._to_client.append(write_answer(answer, http10=head.http10, persistent=persistent))
        if persistent:
            self._next_request()
        else:
            self._close_client(linger=not exchange.request_done)

    def _skip_body(self, exchange: Exchange) -> None:
        """Drop a body as far as it is here. If it is here to its end, the connection can stay."""
        with contextlib.suppress(FramingError):
            exchange.feed_request(self._heads.take_all())
            self._heads.push(exchange.rest)

    def _next_request(self) -> None:
        """The exchange is over and the connection stays."""
        self._exchange = None
        self._phase = Phase.HEAD
        if self._held:
            self._hold(held=False)
        if self._draining:
            self._close_timer = self._wake_after(DRAIN_GRACE_SECONDS)

    # --- the upstream's side -------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._phase = Phase.CONNECT
        if self._opening is not None:
            self.context.server = Server(address=self.context.server.address)
        self._reused = False
        self._opening = commands.OpenConnection(self.context.server)
        self._commands.append(self._opening)

    def _upstream_answered(self, problem: str | None) -> None:
        exchange = self._exchange
        if self._phase is not Phase.CONNECT or exchange is None:
            return
        if problem is None:
            self._connected = True
            self._send_request(exchange)
        else:
            logger.warning("upstream cannot be reached: %s", problem)
            self._answer(exchange, _NO_CONNECTION)
            self._read_requests()

    def _send_request(self, exchange: Exchange) -> None:
        self._phase = Phase.RELAY
        self._to_upstream.append(exchange.begin(reused=self._reused, body_is_here=len(self._heads) > 0))
        if exchange.request_done:
            return
        if exchange.awaits_continue:
            self._continue_timer = self._wake_after(CONTINUE_SECONDS)
        else:
            self._relay_waiting_body(exchange)

    def _relay_waiting_body(self, exchange: Exchange) -> None:
        """What has come of the body while nobody could take it."""
        if self._held:
            self._hold(held=False)
        if len(self._heads):
            self._relay_request_body(exchange, self._heads.take_all())
        if self._client_ended and not exchange.request_done:
            self._close_client(linger=False)

    def _take_upstream_bytes(self, data: bytes) -> None:
        exchange = self._exchange
        if self._phase is not Phase.RELAY or exchange is None:
            # Nobody asked for these: they are no response to anything and must not become one.
            self._close_upstream()
            return
        awaited_continue = exchange.awaits_continue
        try:
            self._to_client += exchange.feed_response(data, closing=self._draining)
        except (ResponseError, FramingError) as bad:
            logger.warning("upstream response refused: %s", bad)
            self._close_upstream()
            if exchange.response is None:
                self._answer(exchange, _PROTOCOL_ERROR)
                self._read_requests()
            else:
                self._break_off(exchange)
            return
        if exchange.upgraded:
            self._begin_tunnel()
        elif exchange.response_done:
            self._response_complete(exchange)
            self._read_requests()
        elif awaited_continue and not exchange.awaits_continue:
            self._relay_waiting_body(exchange)

    def _response_complete(self, exchange: Exchange) -> None:
        self._reused = True
        if not exchange.reusable or not exchange.request_done:
            # A request that was answered before it ended is not ended for the application: what it would make of
            # further bytes is not knowable, so none are sent.
            self._close_upstream()
        if exchange.persistent and exchange.request_done:
            self._next_request()
        else:
            self._close_client(linger=not exchange.request_done or len(self._heads) > 0)

    def _begin_tunnel(self) -> None:
        """The application has taken up the websocket: from here on these are two connections and no HTTP."""
        if len(self._heads):
            self._to_upstream.append(self._heads.take_all())
        if self._held:
            self._hold(held=False)
        self._phase = Phase.CLOSED
        self._tunnel = OpaqueLane(self.context, connected=True)

    def _upstream_closed(self) -> None:
        exchange, reset = self._exchange, self.context.server.state is ConnectionState.CLOSED
        self._close_upstream()
        if self._phase is not Phase.RELAY or exchange is None:
            return
        if exchange.ends_with_connection:
            if reset:
                self._break_off(exchange)
            else:
                self._response_complete(exchange)
        elif exchange.response is not None:
            self._break_off(exchange)
        elif exchange.retriable and not exchange.response_begun:
            # A kept connection that the application closed while our request was on its way (RFC 9112 section 9.3.1).
            self._connect()
        else:
            self._answer(exchange, _PROTOCOL_ERROR if exchange.response_begun else _TERMINATED)
            self._read_requests()

    def _break_off(self, exchange: Exchange) -> None:
        """The response stops short of its end. Where neither length nor last chunk tell the client so, a reset does."""
        if exchange.framed:
            self._close_client(linger=False)
        else:
            self._close_upstream()
            self._phase = Phase.CLOSED
            self._commands.append(CutConnection(self._client))

    # --- closing and waiting -------------------------------------------------------------------------------------

    def _close_upstream(self) -> None:
        if self._connected or self._phase is Phase.CONNECT:
            self._connected = False
            self._to_upstream.clear()
            self._commands.append(commands.CloseConnection(self.context.server))

    def _close_client(self, *, linger: bool) -> None:
        """The last answer is said. ``linger``: the client may still be sending and should get to read it."""
        self._close_upstream()
        self._phase = Phase.CLOSED
        self._exchange = None
        self._heads.clear()
        if linger and not self._client_ended:
            self._phase = Phase.LINGER
            self._commands.append(commands.CloseTcpConnection(self._client, half_close=True))
            self._hold(held=False)
            self._close_timer = self._wake_after(LINGER_SECONDS)
        else:
            self._commands.append(commands.CloseConnection(self._client))

    def _hold(self, *, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._commands.append(HoldReading(self._client, held))

    def _wake_after(self, seconds: float) -> commands.RequestWakeup:
        wakeup = commands.RequestWakeup(seconds)
        self._commands.append(wakeup)
        return wakeup

    def _wake(self, command: commands.RequestWakeup) -> None:
        if command is self._close_timer:
            exchange = self._exchange
            given_up = self._client_ended and (exchange is None or exchange.response is None)
            if given_up or self._phase is Phase.LINGER or (self._phase is Phase.HEAD and not len(self._heads)):
                self._close_client(linger=False)
        elif command is self._continue_timer:
            exchange = self._exchange
            if exchange is not None and exchange.awaits_continue and exchange.response is None:
                exchange.awaits_continue = False
                self._relay_waiting_body(exchange)
        elif command is self._head_timer:
            self._head_timer = None
            if self._phase is Phase.HEAD and len(self._heads):
                if self._head_timer_for == self._served:
                    self._refuse(RequestError("request head took too long", 408))
                else:  # another head than the one the timer was set for: it gets its full time
                    self._head_timer, self._head_timer_for = self._wake_after(self._limits.head_seconds), self._served
