"""One HTTP/1 client connection with its application connection: where they are, and how they end.

What an event leads to is collected here, for the lane to say when the event is over. Rules: RFC 9112 section 9
(persistence, closing). Knows: phases, timers, commands. Must not know: what heads and bodies say, or why.
"""

from __future__ import annotations

from enum import Enum, auto

from sidecar._mitmproxy import Context, CutConnection, HoldReading, Server, commands
from sidecar.lanes.http1.exchange import Exchange
from sidecar.lanes.http1.heads import HeadReader

LINGER_SECONDS = 2.0
LINGER_BYTES = 512 * 1024
"""How long, and how much, a client that was answered early may go on sending before it is cut, so that it reads the
answer and not a reset (RFC 9112 section 9.6; nginx ``lingering_timeout`` 5 s, ``lingering_close``).
"""

REQUESTS_A_TURN = 64
"""Requests begun before other connections have their turn: pipelined, and refused at once, ten thousand fit into what
is read at a time (Envoy: ``http.max_requests_per_io_cycle``)."""

DRAIN_GRACE_SECONDS = 1.0
"""An idle client may have a request on its way while we drain; it is still answered, with ``connection: close``."""


class Phase(Enum):
    """What the lane waits for."""

    HEAD = auto()  # a request head
    KEYS = auto()  # keys to decide with
    CONNECT = auto()  # the upstream connection
    RELAY = auto()  # the rest of the request, the response
    LINGER = auto()  # the client to have read our last answer
    CLOSED = auto()  # nothing


class Session:
    """``to_client``, ``to_upstream`` and ``commands``: what this event has led to so far. ``reused``: the application's
    connection has carried a response before.
    """

    __slots__ = (
        "client", "client_ended", "close_timer", "commands", "connected", "context", "draining", "exchange", "heads",
        "held", "opening", "phase", "reused", "to_client", "to_upstream",
    )  # fmt: skip

    def __init__(self, context: Context, head_bytes: int) -> None:
        self.context = context
        self.client = context.client
        self.phase = Phase.HEAD
        self.heads = HeadReader(head_bytes)
        self.exchange: Exchange | None = None
        self.client_ended = False
        self.connected = False
        self.reused = False
        self.opening: commands.OpenConnection | None = None
        self.draining = False
        self.held = False
        self.close_timer: commands.RequestWakeup | None = None
        self.to_client: list[bytes] = []
        self.to_upstream: list[bytes] = []
        self.commands: list[commands.Command] = []

    def connect(self) -> None:
        """Dial the application; a connection object is opened once."""
        self.phase = Phase.CONNECT
        if self.opening is not None:
            self.context.server = Server(address=self.context.server.address)
        self.reused = False
        self.opening = commands.OpenConnection(self.context.server)
        self.commands.append(self.opening)

    def hold(self, *, held: bool) -> None:
        """Stop reading from the client, or go on."""
        if held is not self.held:
            self.held = held
            self.commands.append(HoldReading(self.client, held))

    def wake_after(self, seconds: float) -> commands.RequestWakeup:
        """Have the lane hear of the time."""
        wakeup = commands.RequestWakeup(seconds)
        self.commands.append(wakeup)
        return wakeup

    def next_request(self) -> None:
        """The exchange is over and the connection stays."""
        self.exchange = None
        self.phase = Phase.HEAD
        if self.held:
            self.hold(held=False)
        if self.draining:
            self.close_timer = self.wake_after(DRAIN_GRACE_SECONDS)

    def break_off(self, exchange: Exchange) -> None:
        """The response stops short of its end. Where neither length nor last chunk tell the client so, a reset does."""
        if exchange.framed:
            self.close_client(linger=False)
        else:
            self.close_upstream()
            self.phase = Phase.CLOSED
            self.commands.append(CutConnection(self.client))

    def close_upstream(self) -> None:
        """Let go of the application: nothing more of this event goes there either."""
        if self.connected or self.phase is Phase.CONNECT:
            self.connected = False
            self.to_upstream.clear()
            self.commands.append(commands.CloseConnection(self.context.server))

    def close_client(self, *, linger: bool) -> None:
        """The last answer is said. ``linger``: the client may still be sending and should get to read it."""
        self.close_upstream()
        self.phase = Phase.CLOSED
        self.exchange = None
        self.heads.clear()
        if linger and not self.client_ended:
            self.phase = Phase.LINGER
            self.commands.append(commands.CloseTcpConnection(self.client, half_close=True))
            self.hold(held=False)
            self.close_timer = self.wake_after(LINGER_SECONDS)
        else:
            self.commands.append(commands.CloseConnection(self.client))
