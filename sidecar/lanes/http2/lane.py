"""The HTTP/2 lane as a mitmproxy layer: events to the session, what it collected to commands.

Knows: when the application's connection is opened and closed, the timer for unfinished heads, and what a fault
becomes. Must not know: frames or policies. Fails closed: whatever is raised while bytes are handled, nothing collected
in that turn goes to the application, the client hears GOAWAY, and both connections are closed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from sidecar._mitmproxy import (
    Commands,
    ConnectionState,
    Context,
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
from sidecar.lanes.http2 import answers
from sidecar.lanes.http2.frames import ENHANCE_YOUR_CALM, INTERNAL_ERROR, Http2Error
from sidecar.lanes.http2.requests import Gate, RequestSide
from sidecar.lanes.http2.responses import ResponseSide
from sidecar.lanes.http2.session import Session, Upstream
from sidecar.options import Limits
from sidecar.upstream import UpstreamError, UpstreamFailure, read_problem

logger = logging.getLogger("eastgate.http2")

_WRITABLE = (ConnectionState.OPEN, ConnectionState.CAN_WRITE)

DRAIN_GRACE_SECONDS = 1.0
"""Between the GOAWAY that announces a drain and the one that says which streams were still taken (RFC 9113 section 6.8
asks for a round trip). Streams begun meanwhile are served."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 512 * 1024
"""How long, and how much, a client may go on sending after its last GOAWAY before it is cut, so that it reads that and
not a reset (nginx ``lingering_timeout`` 5 s)."""


class Http2Lane(Lane):
    """One client connection that began with the HTTP/2 preface; the lane reads the preface itself.

    While the application's connection is being opened refusals go on, and what waits is bounded by the session.
    """

    def __init__(
        self, context: Context, gate: Gate, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(context)
        peer = context.client.peername
        address = context.server.address
        self._limits = limits
        self._gate = gate
        self._session = Session(limits, clock, self._blame)
        self._requests = RequestSide(self._session, gate, address[1] if address else 0, peer[0] if peer else "")
        self._responses = ResponseSide(self._session)
        self._opening: commands.OpenConnection | None = None
        self._timer: commands.RequestWakeup | None = None
        self._timer_frames = -1
        self._grace: commands.RequestWakeup | None = None
        self._holding = False
        self._next_turn: commands.RequestWakeup | None = None
        self._lingering: commands.RequestWakeup | None = None
        self._discarded = 0
        self._over = False

    @property
    def idle(self) -> bool:
        """No stream, and nothing half said on either side."""
        session = self._session
        requests = self._requests
        half_said = requests.unfinished or requests.paused or session.window.stalled
        return not (half_said or session.streams or session.closed)

    def handle_event(self, event: events.Event) -> Commands:
        """Take one event to its end."""
        if self._over:
            yield from self._linger(event)
            return
        session = self._session
        try:
            try:
                self._take(event)
            except Http2Error as error:
                self._fail(event, error.code, error.why)
        except Exception as error:
            logger.error("http2 lane failed: %s", describe_fault(error), extra={"fault": type(error).__name__})
            with contextlib.suppress(Exception):
                session.fail(INTERNAL_ERROR, "")
            session.closed = True
            session.to_upstream.clear()
        yield from self._carry_out(session)

    def _take(self, event: events.Event) -> None:
        """Hand one event to the session."""
        session = self._session
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self._requests.feed(event.data)
            else:
                self._responses.feed(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self.context.client:
                session.closed = True
                session.to_client.clear()
            elif session.upstream is Upstream.OPEN:
                session.upstream_lost(answers.UPSTREAM_CLOSED, UpstreamFailure.CLOSED_EARLY)
        elif isinstance(event, events.OpenConnectionCompleted):
            if event.command is self._opening:
                self._opening = None
                if event.reply is None:
                    session.upstream_opened()
                else:
                    session.upstream_failed(*read_problem(event.reply))
                    self._renew_server()
                session.repay()
                session.close_if_done()
        elif isinstance(event, KeysFetched):
            if isinstance(event.ticket, int):
                self._requests.keys_fetched(event.ticket)
        elif isinstance(event, Drain) and event.at_once:
            session.drain()
        elif isinstance(event, Drain):
            session.announce_drain()
        elif isinstance(event, events.Wakeup) and event.command is self._grace:
            session.drain()
        elif isinstance(event, events.Wakeup) and event.command is self._next_turn:
            self._next_turn = None
            if not session.full:
                self._requests.read_on()
        elif isinstance(event, events.Wakeup) and event.command is self._timer:
            self._timer = None
            if self._requests.unfinished and self._requests.frames == self._timer_frames and not self._holding:
                raise Http2Error(ENHANCE_YOUR_CALM, "head not finished in time")

    def _fail(self, event: events.Event, code: int, why: str) -> None:
        """A fault of the application's ends its streams in order; any other ends everything at once."""
        session = self._session
        of_upstream = isinstance(event, events.DataReceived) and event.connection is not self.context.client
        if of_upstream and why and session.upstream is Upstream.OPEN and not session.closed:
            logger.warning("upstream fault: %s", why)
            session.to_upstream.clear()
            session.window.forget()
            session.upstream_lost(answers.UPSTREAM_PROTOCOL, UpstreamFailure.PROTOCOL_ERROR, why)
        else:
            if why and not of_upstream and not session.closed:
                logger.info("client fault: %s", why)
            session.fail(code, why)

    def _blame(self, route: str, failure: UpstreamFailure, detail: str) -> None:
        """Say what the application did to a request that was allowed."""
        self._gate.report_upstream_error(UpstreamError(failure, self.context.server.address, route, detail))

    def _renew_server(self) -> None:
        """A connection object is opened once; mitmproxy never opens one twice."""
        self.context.server = Server(address=self.context.server.address)

    def _carry_out(self, session: Session) -> Commands:
        client, server = self.context.client, self.context.server
        if session.to_upstream:
            data = b"".join(session.to_upstream)
            session.to_upstream.clear()
            if session.upstream is Upstream.OPEN and server.state in _WRITABLE:
                yield commands.SendData(server, data)
        if session.to_client:
            data = b"".join(session.to_client)
            session.to_client.clear()
            if client.state in _WRITABLE:
                yield commands.SendData(client, data)
        for sources, stream in session.fetches:
            yield FetchKeys(sources, stream)
        session.fetches.clear()
        if session.upstream is Upstream.OPENING and self._opening is None and not session.closed:
            self._opening = commands.OpenConnection(server)
            yield self._opening
        if session.upstream is Upstream.GONE and server.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(server)
        if session.closed:
            self._over = True
            if self._holding:
                yield HoldReading(client, held=False)
            if server.state is not ConnectionState.CLOSED or self._opening is not None:
                yield commands.CloseConnection(server)
            if client.state is ConnectionState.OPEN:
                yield commands.CloseTcpConnection(client, half_close=True)
                self._lingering = commands.RequestWakeup(LINGER_SECONDS)
                yield self._lingering
            elif client.state is not ConnectionState.CLOSED:
                yield commands.CloseConnection(client)
            return
        paused = self._requests.paused
        hold = session.full or paused
        if hold is not self._holding:
            self._holding = hold
            yield HoldReading(client, hold)
        if paused and not session.full and self._next_turn is None:
            self._next_turn = commands.RequestWakeup(0)
            yield self._next_turn
        if session.leaving and self._grace is None:
            self._grace = commands.RequestWakeup(DRAIN_GRACE_SECONDS)
            yield self._grace
        if self._requests.unfinished and self._timer is None:
            self._timer = commands.RequestWakeup(self._limits.head_seconds)
            self._timer_frames = self._requests.frames
            yield self._timer

    def _linger(self, event: events.Event) -> Commands:
        """All is said; wait for the client to have read it. A connection that comes too late is closed."""
        client = self.context.client
        match event:
            case events.OpenConnectionCompleted():
                yield commands.CloseConnection(event.command.connection)
            case events.DataReceived() if event.connection is client:
                self._discarded += len(event.data)
                if self._discarded > LINGER_BYTES:
                    yield commands.CloseConnection(client)
            case events.ConnectionClosed() if event.connection is client:
                yield commands.CloseConnection(client)
            case events.Wakeup() if event.command is self._lingering:
                yield commands.CloseConnection(client)
