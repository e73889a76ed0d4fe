"""The HTTP/1 lane: one request at a time from its client, decided on its head alone, relayed both ways as it comes.

Rules: RFC 9112 (messages, pipelining, persistence), RFC 9110 section 15.2 (interim responses). One upstream
connection a client connection, dialled for the first request that is allowed: bytes that the application sends
unasked go nowhere.

What an event leads to is collected first and said at the end of the event, so that an exception anywhere leaves
nothing half said: it is answered with 503, both sides are closed, and nothing is forwarded.

Knows: the order of things in a connection. Must not know: how heads are read and written (``requests``,
``responses``, ``answers``), what becomes of the bytes of one exchange (``exchange``), how connections
end (``session``), why a request is allowed (``Gate``).
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from eastgate.model.decisions import Decision, KeysNeeded, Reason
from eastgate.model.requests import Request
from eastgate.render.grpc import is_grpc
from sidecar._mitmproxy import (
    Commands,
    ConnectionState,
    Context,
    CutConnection,
    Drain,
    FetchKeys,
    KeysFetched,
    Lane,
    commands,
    events,
)
from sidecar.faults import describe_fault
from sidecar.lanes.framing import FramingError
from sidecar.lanes.http1 import answers
from sidecar.lanes.http1.answers import write_refusal
from sidecar.lanes.http1.exchange import Exchange
from sidecar.lanes.http1.requests import RequestError, read_request_head, write_request_head
from sidecar.lanes.http1.responses import ResponseError
from sidecar.lanes.http1.session import DRAIN_GRACE_SECONDS, LINGER_BYTES, REQUESTS_A_TURN, Phase, Session
from sidecar.lanes.opaque import OpaqueLane
from sidecar.upstream import UpstreamError, UpstreamFailure, read_problem

if TYPE_CHECKING:
    from sidecar.gate import Gate
    from sidecar.options import Limits

logger = logging.getLogger("eastgate.http1")

HALF_CLOSED_SECONDS = 10.0
"""How long a client that has sent FIN may wait for its response to begin. RFC 9112 section 9.6 lets it, but most that
do so are gone (Envoy, nginx and Go take every FIN for that), and an application that hangs would keep them all.
"""

CONTINUE_SECONDS = 1.0
"""How long a body is held back for the application's 100 (RFC 9110 section 10.1.1; curl waits as long). After a final
answer none is sent: whether the application would take it for a body or for the next request is not knowable."""

_UNREADABLE = Request(b"", b"", b"", ())


class Http1Lane(Lane):
    """See the module."""

    def __init__(self, context: Context, gate: Gate, limits: Limits) -> None:
        super().__init__(context)
        self._gate = gate
        self._limits = limits
        host, port = context.client.sockname[:2]
        self._own_authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
        self._port = context.server.address[1] if context.server.address else port
        self._peer = context.client.peername[0]
        self._session = Session(context, limits.head_bytes)
        self._served = 0
        self._discarded = 0
        self._head_timer: commands.RequestWakeup | None = None
        self._head_timer_for = 0
        self._continue_timer: commands.RequestWakeup | None = None
        self._next_turn: commands.RequestWakeup | None = None
        self._tunnel: OpaqueLane | None = None

    @property
    def idle(self) -> bool:
        """Between two requests, with not a byte of the next."""
        session = self._session
        return session.phase is Phase.HEAD and not len(session.heads)

    # --- events in, commands out ---------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> Commands:
        """React, then say everything at once."""
        session = self._session
        if self._tunnel is not None:
            yield from self._tunnel.handle_event(event)
            return
        try:
            self._react(event)
        except Exception as error:
            self._fail(error)
        if session.to_upstream:
            out, session.to_upstream = session.to_upstream, []
            yield commands.SendData(self.context.server, out[0] if len(out) == 1 else b"".join(out))
        if session.to_client:
            out, session.to_client = session.to_client, []
            yield commands.SendData(session.client, out[0] if len(out) == 1 else b"".join(out))
        if session.commands:
            said, session.commands = session.commands, []
            yield from said

    def _react(self, event: events.Event) -> None:
        session = self._session
        if isinstance(event, events.DataReceived):
            if event.connection is session.client:
                self._take_client_bytes(event.data)
            elif event.connection is self.context.server:
                self._take_upstream_bytes(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is session.client:
                self._client_closed()
            elif event.connection is self.context.server:
                self._upstream_closed()
        elif isinstance(event, events.OpenConnectionCompleted):
            if event.command is session.opening:
                self._upstream_answered(event.reply)
        elif isinstance(event, KeysFetched):
            if event.ticket is session.exchange and session.exchange is not None and session.phase is Phase.KEYS:
                self._decide(session.exchange, asked=True)
                self._read_requests()
        elif isinstance(event, events.Wakeup):
            self._wake(event.command)
        elif isinstance(event, Drain):
            session.draining = True
            if self.idle:
                if event.at_once:
                    session.close_client(linger=False)
                else:
                    session.close_timer = session.wake_after(DRAIN_GRACE_SECONDS)

    def _fail(self, error: Exception) -> None:
        """Something raised. Whatever this event was going to say is not said."""
        session = self._session
        logger.error("request failed: %s", describe_fault(error), extra={"fault": type(error).__name__})
        exchange = session.exchange
        session.to_upstream.clear()
        session.to_client.clear()
        session.commands.clear()
        if session.phase not in (Phase.LINGER, Phase.CLOSED) and (exchange is None or exchange.response is None):
            session.to_client.append(answers.FAILED_GRPC if self._speaks_grpc() else answers.FAILED)
        session.phase = Phase.CLOSED
        session.connected = False
        if self.context.server.state is not ConnectionState.CLOSED:
            session.commands.append(commands.CloseConnection(self.context.server))
        cut = exchange is not None and exchange.response is not None and not exchange.framed
        session.commands.append(CutConnection(session.client) if cut else commands.CloseConnection(session.client))

    def _speaks_grpc(self) -> bool:
        session = self._session
        try:
            return session.exchange is not None and is_grpc(session.exchange.head.request.headers)
        except Exception:
            return False

    # --- the client's side ---------------------------------------------------------------------------------------

    def _take_client_bytes(self, data: bytes) -> None:
        session = self._session
        phase, exchange = session.phase, session.exchange
        if phase is Phase.HEAD:
            session.heads.push(data)
            if self._next_turn is None:
                self._read_requests()
        elif (
            phase is Phase.RELAY and exchange is not None and not exchange.request_done and not exchange.awaits_continue
        ):
            self._relay_request_body(exchange, data)
        elif phase is Phase.LINGER:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                session.hold(held=True)
        elif phase is not Phase.CLOSED:
            session.heads.push(data)
            if len(session.heads) > self._limits.body_chunk_bytes:
                session.hold(held=True)

    def _read_requests(self) -> None:
        """Begin the next request, and the next, as long as each is over by the time it was begun (pipelined
        refusals), and as far as one turn goes.
        """
        session = self._session
        limits = self._limits
        last = self._served + REQUESTS_A_TURN
        while session.phase is Phase.HEAD:
            if self._served == last and len(session.heads):
                session.hold(held=True)
                self._next_turn = session.wake_after(0)
                return
            try:
                data = session.heads.next_head()
                if data is None:
                    if self._head_timer is None and len(session.heads):
                        self._head_timer, self._head_timer_for = session.wake_after(limits.head_seconds), self._served
                    break
                head = read_request_head(data, limits.head_fields, self._port, self._peer, self._own_authority)
            except RequestError as bad:
                self._refuse(bad)
                return
            self._served += 1
            session.exchange = exchange = Exchange(head, limits)
            self._decide(exchange, asked=False)
        if session.client_ended and session.phase is Phase.HEAD:
            session.close_client(linger=False)

    def _refuse(self, bad: RequestError) -> None:
        """Answer bytes that are no request we accept. Nothing after them can be trusted: the connection ends."""
        session = self._session
        decision = Decision(allowed=False, status=bad.status, reason=Reason.BAD_REQUEST, body=bad.why.encode("ascii"))
        self._gate.refuse(_UNREADABLE, decision)
        session.to_client.append(write_refusal(decision, grpc=False, head=False, http10=False, persistent=False))
        session.close_client(linger=True)

    def _relay_request_body(self, exchange: Exchange, data: bytes) -> None:
        session = self._session
        try:
            session.to_upstream += exchange.feed_request(data)
        except FramingError:
            # What was forwarded so far never gets its last chunk: the application sees it broken, not complete.
            session.close_upstream()
            if exchange.response is None:
                self._answer(exchange, answers.BAD_BODY)
            else:
                session.break_off(exchange)
            return
        if exchange.rest:
            session.heads.push(exchange.rest)
            exchange.rest = b""

    def _client_closed(self) -> None:
        """FIN or worse. A client that half-closes after its request still gets its response (RFC 9112 section 9.6)."""
        session = self._session
        session.client_ended = True
        exchange = session.exchange
        inside_body = session.phase is Phase.RELAY and exchange is not None and not exchange.request_done
        gone = session.client.state is ConnectionState.CLOSED
        if self._next_turn is not None and not gone:
            return  # what it sent before its end is answered first
        if gone or inside_body or session.phase in (Phase.HEAD, Phase.LINGER, Phase.CLOSED):
            session.close_client(linger=False)
        else:
            session.close_timer = session.wake_after(HALF_CLOSED_SECONDS)

    # --- deciding ------------------------------------------------------------------------------------------------

    def _decide(self, exchange: Exchange, *, asked: bool) -> None:
        session = self._session
        decision = self._gate.decide(exchange.head.request, asked=asked)
        if isinstance(decision, KeysNeeded):
            session.phase = Phase.KEYS
            session.commands.append(FetchKeys(decision.sources, exchange))
            return
        exchange.decision = decision
        if decision.allowed is not True:
            self._answer(exchange, decision)
            return
        if decision.edits is None:
            raise ValueError("a pass without edits")
        exchange.written = write_request_head(exchange.head, decision.edits)
        if session.connected:
            self._send_request(exchange)
        else:
            session.connect()

    def _answer(self, exchange: Exchange, decision: Decision) -> None:
        """Answer in the application's place, on the head alone; a body that is not here yet is not waited for."""
        session = self._session
        head = exchange.head
        request = head.request
        if not exchange.request_done and session.phase is not Phase.RELAY:
            self._skip_body(exchange)
        persistent = head.keep_alive and exchange.request_done and not session.draining
        session.to_client.append(
            write_refusal(
                decision,
                grpc=is_grpc(request.headers),
                head=request.method == b"HEAD",
                http10=head.http10,
                persistent=persistent,
            )
        )
        if persistent:
            session.next_request()
        else:
            session.close_client(linger=not exchange.request_done)

    def _skip_body(self, exchange: Exchange) -> None:
        """Drop a body as far as it is here. If it is here to its end, the connection can stay."""
        session = self._session
        with contextlib.suppress(FramingError):
            exchange.feed_request(session.heads.take_all())
            session.heads.push(exchange.rest)

    # --- the upstream's side -------------------------------------------------------------------------------------

    def _upstream_answered(self, problem: str | None) -> None:
        session = self._session
        exchange = session.exchange
        if session.phase is not Phase.CONNECT or exchange is None:
            return
        if problem is None:
            session.connected = True
            self._send_request(exchange)
        else:
            self._blame(exchange, *read_problem(problem))
            self._answer(exchange, answers.NO_CONNECTION)
            self._read_requests()

    def _send_request(self, exchange: Exchange) -> None:
        session = self._session
        session.phase = Phase.RELAY
        body_is_here = not exchange.request_done and len(session.heads) > 0
        session.to_upstream.append(exchange.begin(reused=session.reused, body_is_here=body_is_here))
        if exchange.request_done:
            return
        if exchange.awaits_continue:
            self._continue_timer = session.wake_after(CONTINUE_SECONDS)
        else:
            self._relay_waiting_body(exchange)

    def _relay_waiting_body(self, exchange: Exchange) -> None:
        """What has come of the body while nobody could take it."""
        session = self._session
        if session.held:
            session.hold(held=False)
        if len(session.heads):
            self._relay_request_body(exchange, session.heads.take_all())
        if session.client_ended and not exchange.request_done:
            session.close_client(linger=False)

    def _take_upstream_bytes(self, data: bytes) -> None:
        session = self._session
        exchange = session.exchange
        if session.phase is not Phase.RELAY or exchange is None:
            # Nobody asked for these: they are no response to anything and must not become one.
            session.close_upstream()
            return
        awaited_continue, begun = exchange.awaits_continue, exchange.response is not None
        try:
            session.to_client += exchange.feed_response(data, closing=session.draining)
        except (ResponseError, FramingError) as bad:
            self._blame(exchange, UpstreamFailure.PROTOCOL_ERROR, str(bad))
            session.close_upstream()
            if begun:
                session.break_off(exchange)
            else:  # a head that came with these bytes was not passed on yet
                self._answer(exchange, answers.PROTOCOL_ERROR)
                self._read_requests()
            return
        if exchange.upgraded:
            self._begin_tunnel()
        elif exchange.response_done:
            self._response_complete(exchange)
            self._read_requests()
        elif awaited_continue and not exchange.awaits_continue:
            self._relay_waiting_body(exchange)

    def _response_complete(self, exchange: Exchange) -> None:
        session = self._session
        session.reused = True
        if not exchange.reusable or not exchange.request_done:
            # A request that was answered before it ended is not ended for the application: what it would make of
            # further bytes is not knowable, so none are sent.
            session.close_upstream()
        if exchange.persistent and exchange.request_done:
            session.next_request()
        else:
            session.close_client(linger=not exchange.request_done or len(session.heads) > 0)

    def _begin_tunnel(self) -> None:
        """The application has taken up the websocket: from here on these are two connections and no HTTP."""
        session = self._session
        if len(session.heads):
            session.to_upstream.append(session.heads.take_all())
        if session.held:
            session.hold(held=False)
        if session.client_ended:  # its FIN came before the answer: nobody else will pass it on
            session.commands.append(commands.CloseTcpConnection(self.context.server, half_close=True))
        session.phase = Phase.CLOSED
        self._tunnel = OpaqueLane(self.context, connected=True)

    def _upstream_closed(self) -> None:
        session = self._session
        exchange, reset = session.exchange, self.context.server.state is ConnectionState.CLOSED
        session.close_upstream()
        if session.phase is not Phase.RELAY or exchange is None:
            return
        if exchange.ends_with_connection and not reset:
            self._response_complete(exchange)
        elif exchange.response is not None:
            self._blame(exchange, UpstreamFailure.RESPONSE_CUT)
            session.break_off(exchange)
        elif exchange.retriable and not exchange.response_begun:
            # A kept connection that the application closed while our request was on its way (RFC 9112 section 9.3.1).
            session.connect()
        else:
            begun = exchange.response_begun
            self._blame(exchange, UpstreamFailure.RESPONSE_CUT if begun else UpstreamFailure.CLOSED_EARLY)
            self._answer(exchange, answers.PROTOCOL_ERROR if begun else answers.TERMINATED)
            self._read_requests()

    def _blame(self, exchange: Exchange, failure: UpstreamFailure, detail: str = "") -> None:
        """Say what the application did to a request that was allowed."""
        route = exchange.decision.route if exchange.decision is not None else ""
        self._gate.report_upstream_error(UpstreamError(failure, self.context.server.address, route, detail))

    # --- waiting -----------------------------------------------------------------------------------------------

    def _wake(self, command: commands.RequestWakeup) -> None:
        session = self._session
        if command is session.close_timer:
            exchange = session.exchange
            given_up = session.client_ended and (exchange is None or exchange.response is None)
            if given_up or session.phase is Phase.LINGER or (session.phase is Phase.HEAD and not len(session.heads)):
                session.close_client(linger=False)
        elif command is self._next_turn:
            self._next_turn = None
            session.hold(held=False)
            self._read_requests()
        elif command is self._continue_timer:
            exchange = session.exchange
            if exchange is not None and exchange.awaits_continue and exchange.response is None:
                exchange.awaits_continue = False
                self._relay_waiting_body(exchange)
        elif command is self._head_timer:
            self._head_timer = None
            if session.phase is Phase.HEAD and len(session.heads):
                if self._head_timer_for == self._served:
                    self._refuse(RequestError("request head took too long", 408))
                else:  # another head than the one the timer was set for: it gets its full time
                    self._head_timer, self._head_timer_for = session.wake_after(self._limits.head_seconds), self._served
