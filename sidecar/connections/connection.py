"""The connections of one client: its own and its upstream's, and the lane between them.

mitmproxy's ``ConnectionHandler`` with another engine: sockets are asyncio protocols, an event is handled in the
callback that delivers its bytes, and there is no task an event, no hook, no lock. An exception that a lane lets
through closes both sides.

Knows: bytes in, commands out, back-pressure, who is to be closed. Must not know: HTTP, policy, which lane is right.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from eastgate.model.keys import RemoteKeys
from sidecar._mitmproxy import (
    Connection,
    ConnectionHandler,
    ConnectionState,
    Context,
    CutConnection,
    Drain,
    FetchKeys,
    HoldReading,
    KeysFetched,
    Lane,
    Layer,
    commands,
    events,
)
from sidecar.connections.endpoint import Endpoint
from sidecar.faults import describe_fault
from sidecar.options import Limits
from sidecar.upstream import describe_problem

logger = logging.getLogger("eastgate.proxy")


class KeyFetcher(Protocol):
    """What ``FetchKeys`` is carried out by."""

    async def fetch(self, sources: tuple[RemoteKeys, ...]) -> None:
        """Fetch, bounded, and return when there is nothing more to wait for."""
        ...


class Manager(Protocol):
    """Who keeps all connections."""

    limits: Limits
    connections: dict[tuple[Any, ...] | str, SidecarHandler]
    draining: bool

    async def fetch_keys(self, sources: tuple[RemoteKeys, ...]) -> None:
        """Fetch keys for a request that waits."""
        ...

    def is_own_address(self, peer: tuple[Any, ...] | None) -> bool:
        """True for an address that leads back here."""
        ...

    def forget(self, connection_id: tuple[Any, ...] | str) -> None:
        """A connection is over."""
        ...


class SidecarHandler(ConnectionHandler):
    """Runs the lane of one client: bytes in, commands out, synchronously and without a task per event.

    Sockets are asyncio protocols, not streams: an event is handled in the callback that delivers its bytes. An
    exception that a lane lets through closes both sides at once.
    """

    def __init__(
        self, context: Context, manager: Manager, endpoint: Endpoint, make_layer: Callable[[Context], Layer]
    ) -> None:
        super().__init__(context)
        self.manager = manager
        self.limits = manager.limits
        self.loop = asyncio.get_running_loop()
        self.client_endpoint = endpoint
        self.upstream_endpoint: Endpoint | None = None
        self.endpoints: dict[Connection, Endpoint] = {self.client: endpoint}
        self._queue: deque[events.Event] = deque()
        self._busy = False
        self.over = False
        self._clock = self.loop.time
        self._heard = self._clock()
        self._opening: set[commands.OpenConnection] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        endpoint.attach(self, self.client)
        manager.connections[self.client.id] = self
        self._call_later(self.limits.idle_seconds, self._look_for_idleness)
        try:
            self.layer = make_layer(context)
        except Exception as error:
            self._fail(error)
        else:
            self.dispatch(events.Start())
            if manager.draining:
                self.dispatch(Drain())

    @property
    def is_open(self) -> bool:
        """True until the client's connection is closed or being closed."""
        return not self.over and not self.client_endpoint.transport.is_closing()

    @property
    def idle_since(self) -> float | None:
        """The loop's clock when anything was last heard here; None while anything is in flight, or it is ending."""
        if not self.is_open or self.client_endpoint.transport.get_write_buffer_size():
            return None
        return self._heard if isinstance(self.layer, Lane) and self.layer.idle else None

    # Events.

    def dispatch(self, event: events.Event) -> None:
        """Give an event to the lane and carry out what it says. Never raises."""
        queue = self._queue
        if self._busy or self.over:
            queue.append(event)
            return
        self._busy = True
        self._heard = self._clock()
        try:
            while True:
                for command in self.layer.handle_event(event):
                    if type(command) is commands.SendData:
                        self._send(command.connection, command.data)
                    else:
                        self._carry_out(command)
                if not queue or self.over:
                    break
                event = queue.popleft()
        except Exception as error:
            self._fail(error)
        finally:
            self._busy = False

    def received(self, connection: Connection, data: bytes) -> None:
        """Bytes arrived."""
        self.dispatch(events.DataReceived(connection, data))

    def ended(self, connection: Connection) -> None:
        """The peer sent FIN: it may still read."""
        connection.state &= ~ConnectionState.CAN_READ
        self.dispatch(events.ConnectionClosed(connection))

    def lost(self, connection: Connection, told: bool) -> None:
        """The socket is gone. ``told``: the lane knows already, or closed it itself."""
        connection.state = ConnectionState.CLOSED
        endpoint = self.endpoints.pop(connection, None)
        if endpoint is not None and endpoint is self.upstream_endpoint:
            self.upstream_endpoint = None
        gone = connection is self.client
        try:
            if not told:
                self.dispatch(events.ConnectionClosed(connection))
        finally:
            self.over = self.over or gone
            if gone:
                self._finish()
            else:
                self.balance()

    # Commands.

    def _send(self, connection: Connection, data: bytes) -> None:
        endpoint = self.client_endpoint if connection is self.client else self.upstream_endpoint
        if endpoint is not None and endpoint.connection is connection:
            endpoint.write(data)

    def _carry_out(self, command: commands.Command) -> None:
        match command:
            case commands.OpenConnection():
                self._start_task(self.open_connection, command)
            case FetchKeys():
                self._start_task(self._fetch_keys, command)
            case HoldReading():
                endpoint = self.endpoints.get(command.connection)
                if endpoint is not None:
                    endpoint.held = command.held
                    self.balance()
            case commands.RequestWakeup():
                self._call_later(command.delay, lambda: self.dispatch(events.Wakeup(command)))
            case commands.CloseConnection():
                half = isinstance(command, commands.CloseTcpConnection) and command.half_close
                self.close_connection(command.connection, half)
            case CutConnection():
                endpoint = self.endpoints.get(command.connection)
                if endpoint is not None:
                    command.connection.state = ConnectionState.CLOSED
                    endpoint.reset()
            case commands.SendData():
                self._send(command.connection, command.data)
            case commands.Log():
                logger.log(command.level, command.message)
            case _:
                raise RuntimeError(f"unexpected command {type(command).__name__}")

    def close_connection(self, connection: Connection, half_close: bool = False) -> None:
        """Close after what was written is sent. Closing the client closes everything."""
        endpoint = self.endpoints.get(connection)
        if endpoint is None:
            return
        if half_close:
            if connection.state & ConnectionState.CAN_WRITE:
                connection.state &= ~ConnectionState.CAN_WRITE
                endpoint.finish_writing()
            if connection.state is not ConnectionState.CLOSED:
                return
        connection.state = ConnectionState.CLOSED
        endpoint.close()
        if endpoint is self.upstream_endpoint:
            self.upstream_endpoint = None
            self.balance()
        if connection is self.client:
            for other, upstream in list(self.endpoints.items()):
                if other is not connection:
                    other.state = ConnectionState.CLOSED
                    upstream.close()

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Dial; the lane hears of success from inside ``connection_made``, before any byte can arrive."""
        server = command.connection
        problem = "no address"
        self._opening.add(command)
        if server.address is not None:
            host, port = server.address[:2]
            try:
                async with asyncio.timeout(self.limits.connect_seconds):
                    await self.loop.create_connection(
                        lambda: Endpoint(lambda made: self._connected(command, made)), host, port
                    )
                problem = "the upstream is this proxy itself, or the connection could not be used"
            except OSError as error:
                problem = describe_problem(error)
        if command in self._opening:
            self._opening.discard(command)
            self.dispatch(events.OpenConnectionCompleted(command, problem))

    def _connected(self, command: commands.OpenConnection, endpoint: Endpoint) -> None:
        server = command.connection
        peer = endpoint.transport.get_extra_info("peername")
        if self.over or self.manager.is_own_address(peer):
            endpoint.transport.abort()
            return
        server.state = ConnectionState.OPEN
        server.peername, server.sockname = peer, endpoint.transport.get_extra_info("sockname")
        self.endpoints[server] = self.upstream_endpoint = endpoint
        endpoint.attach(self, server)
        self._opening.discard(command)
        self.dispatch(events.OpenConnectionCompleted(command, None))

    async def _fetch_keys(self, command: FetchKeys) -> None:
        try:
            async with asyncio.timeout(self.limits.keys_seconds):
                await self.manager.fetch_keys(command.sources)
        except Exception as error:
            logger.error("fetching keys failed: %s", type(error).__name__)
        self.dispatch(KeysFetched(command.ticket))

    # Back-pressure: who is not read while somebody else does not read.

    def balance(self) -> None:
        """Read from a side only while the other one takes what is written to it and the lane has use for it.

        Each direction by itself: a client that reads slowly stops the upstream from being read, and may go on
        uploading. A client that provokes answers of our own and reads none of them stops being read itself.
        """
        client, upstream = self.client_endpoint, self.upstream_endpoint
        client.set_reading(
            not (
                client.held
                or (upstream is not None and upstream.choked)
                or client.is_flooded(self.limits.pending_bytes)
            )
        )
        if upstream is not None:
            upstream.set_reading(not (upstream.held or client.choked))

    # Ending.

    def _fail(self, error: Exception) -> None:
        """A lane raised. Nothing more goes anywhere; what was already written to the client may still reach it."""
        logger.error("lane failed: %s", describe_fault(error))
        self.over = True
        self._queue.clear()
        for connection, endpoint in list(self.endpoints.items()):
            connection.state = ConnectionState.CLOSED
            if connection is self.client:
                endpoint.close()
            else:
                endpoint.abort()

    def _look_for_idleness(self) -> None:
        left = self._heard + self.limits.idle_seconds - self._clock()
        if left > 0:
            self._call_later(left, self._look_for_idleness)
        else:
            self.abort()

    def leave(self) -> None:
        """Make room for another client: say goodbye where there are words for it (GOAWAY), and close."""
        self.dispatch(Drain(at_once=True))
        self.close_connection(self.client)

    def abort(self) -> None:
        """Cut all connections now. A client that may be in the middle of a response must not take it for whole."""
        answering = self.upstream_endpoint is not None
        for connection, endpoint in list(self.endpoints.items()):
            connection.state = ConnectionState.CLOSED
            if answering and connection is self.client:
                endpoint.reset()
            else:
                endpoint.abort()

    def _finish(self) -> None:
        self.over = True
        self.manager.forget(self.client.id)
        self._queue.clear()
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        for connection, endpoint in list(self.endpoints.items()):
            connection.state = ConnectionState.CLOSED
            endpoint.close()

    # Plumbing.

    def _call_later(self, delay: float, callback: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            callback()

        timer = self.loop.call_later(delay, run)
        self._timers.add(timer)

    def _start_task[C: commands.Command](self, work: Callable[[C], Coroutine[Any, Any, None]], command: C) -> None:
        """The coroutine is made here, where it is awaited: a caller that fails in between leaves none behind."""
        task = self.loop.create_task(work(command))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not self.over:
            self._fail(error)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Lanes start no hooks; mitmproxy's base class wants the method."""

    async def server_event(self, event: events.Event) -> None:
        """The base class's name for ``dispatch``."""
        self.dispatch(event)
