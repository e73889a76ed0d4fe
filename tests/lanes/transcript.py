"""A lane as an alternating transcript: what goes in, what comes out, no sockets and no mocks.

``Transcript`` feeds mitmproxy events to a layer and records the bytes it sends each way. Opening the upstream
succeeds at once unless ``refuse_upstream`` is set. ``FetchKeys`` commands are collected; answer them with
``keys_fetched``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sidecar._mitmproxy import (
    Client,
    Commands,
    ConnectionState,
    Context,
    CutConnection,
    FetchKeys,
    HoldReading,
    KeysFetched,
    Layer,
    commands,
    events,
)


def make_context(upstream: tuple[str, int] = ("127.0.0.1", 8080)) -> Context:
    """A context as the proxy makes one for an accepted connection, upstream address set and not connected."""
    from mitmproxy import options
    from mitmproxy.proxy.mode_specs import ProxyMode

    client = Client(
        peername=("10.0.0.9", 40000),
        sockname=upstream,
        state=ConnectionState.OPEN,
        proxy_mode=ProxyMode.parse("transparent"),
        timestamp_start=0.0,
    )
    context = Context(client, options.Options())
    context.server.address = upstream
    return context


class Transcript:
    """``client`` and ``upstream`` are the bytes sent to each side since the last look; ``take_*`` clears them.

    A wake-up after no time, the lane's next turn, is due at once and counted in ``turns``, unless ``waits`` is set.
    """

    def __init__(self, make: Callable[[Context], Layer], refuse_upstream: str | None = None) -> None:
        self.context = make_context()
        self.refuse_upstream = refuse_upstream
        self.client = b""
        self.upstream = b""
        self.opened = 0
        self.closed: list[str] = []
        self.fetches: list[FetchKeys] = []
        self.wakeups: list[commands.RequestWakeup] = []
        self.turns = 0
        self.waits = False
        self.held = {"client": False, "upstream": False}
        self.layer = make(self.context)
        self.feed(events.Start())

    def feed(self, event: events.Event) -> Transcript:
        """Hand one event to the layer and carry out its commands."""
        queue = deque([event])
        while queue:
            produced: Commands = self.layer.handle_event(queue.popleft())
            for command in produced:
                self._carry_out(command, queue)
        return self

    def _carry_out(self, command: commands.Command, queue: deque[events.Event]) -> None:
        client = self.context.client
        if isinstance(command, commands.SendData):
            assert command.connection.state & ConnectionState.CAN_WRITE, "data for a closed connection"
            if command.connection is client:
                self.client += command.data
            else:
                self.upstream += command.data
        elif isinstance(command, commands.OpenConnection):
            self.opened += 1
            if self.refuse_upstream is None:
                command.connection.state = ConnectionState.OPEN
            queue.append(events.OpenConnectionCompleted(command, self.refuse_upstream))
        elif isinstance(command, commands.CloseConnection):
            side = "client" if command.connection is client else "upstream"
            half = isinstance(command, commands.CloseTcpConnection) and command.half_close
            command.connection.state = (
                command.connection.state & ~ConnectionState.CAN_WRITE if half else ConnectionState.CLOSED
            )
            self.closed.append(side + ("-half" if half else ""))
        elif isinstance(command, FetchKeys):
            self.fetches.append(command)
        elif isinstance(command, commands.RequestWakeup) and not command.delay and not self.waits:
            self.turns += 1
            queue.append(events.Wakeup(command))
        elif isinstance(command, commands.RequestWakeup):
            self.wakeups.append(command)
        elif isinstance(command, HoldReading):
            self.held["client" if command.connection is client else "upstream"] = command.held
        elif isinstance(command, CutConnection):
            command.connection.state = ConnectionState.CLOSED
            self.closed.append(("client" if command.connection is client else "upstream") + "-cut")
        elif not isinstance(command, commands.Log):
            raise AssertionError(f"unexpected command {command!r}")

    def from_client(self, data: bytes) -> Transcript:
        """Bytes arrive from the client."""
        return self.feed(events.DataReceived(self.context.client, data))

    def from_upstream(self, data: bytes) -> Transcript:
        """Bytes arrive from the application."""
        return self.feed(events.DataReceived(self.context.server, data))

    def client_closes(self) -> Transcript:
        """The client sends FIN."""
        self.context.client.state &= ~ConnectionState.CAN_READ
        return self.feed(events.ConnectionClosed(self.context.client))

    def upstream_closes(self) -> Transcript:
        """The application closes."""
        self.context.server.state &= ~ConnectionState.CAN_READ
        return self.feed(events.ConnectionClosed(self.context.server))

    def time_passes(self) -> Transcript:
        """The oldest outstanding wake-up is due."""
        return self.feed(events.Wakeup(self.wakeups.pop(0)))

    def keys_fetched(self) -> Transcript:
        """The oldest outstanding fetch ends."""
        return self.feed(KeysFetched(self.fetches.pop(0).ticket))

    def take_client(self) -> bytes:
        """What was sent to the client since the last take."""
        data, self.client = self.client, b""
        return data

    def take_upstream(self) -> bytes:
        """What was sent to the application since the last take."""
        data, self.upstream = self.upstream, b""
        return data
