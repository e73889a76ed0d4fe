"""The opaque lane: a tunnel, by declaration of the port or after an accepted websocket upgrade. No policy applies
inside.

The upstream is dialled at once, because it may be the one to speak first. A FIN is passed on as a FIN, so that each
direction ends by itself. Knows: two connections. Must not know: what they say.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar._mitmproxy import Commands, Connection, ConnectionState, Context, HoldReading, Lane, commands, events
from sidecar.upstream import UpstreamError, read_problem


class OpaqueLane(Lane):
    """``connected``: the upstream is there already, as after an upgrade. ``report`` hears of one that cannot be had."""

    def __init__(
        self,
        context: Context,
        *,
        connected: bool = False,
        report: Callable[[UpstreamError], None] | None = None,
    ) -> None:
        super().__init__(context)
        self._connected = connected
        self._report = report

    def handle_event(self, event: events.Event) -> Commands:
        """Relay."""
        client, server = self.context.client, self.context.server
        match event:
            case events.DataReceived():
                # Nothing is read from the client before there is an upstream, so there is always somebody to write to.
                yield commands.SendData(server if event.connection is client else client, event.data)
            case events.ConnectionClosed():
                yield from self._end(event.connection)
            case events.Start() if not self._connected:
                yield HoldReading(client, held=True)
                yield commands.OpenConnection(server)
            case events.OpenConnectionCompleted() if event.reply:
                if self._report is not None:
                    failure, detail = read_problem(event.reply)
                    self._report(UpstreamError(failure, server.address, detail=detail))
                yield commands.CloseConnection(client)
            case events.OpenConnectionCompleted():
                self._connected = True
                yield HoldReading(client, held=False)

    def _end(self, ended: Connection) -> Commands:
        client, server = self.context.client, self.context.server
        other = server if ended is client else client
        if not self._connected or not other.state & ConnectionState.CAN_READ or ended.state is ConnectionState.CLOSED:
            yield commands.CloseConnection(server)
            yield commands.CloseConnection(client)
        else:
            yield commands.CloseTcpConnection(other, half_close=True)
