"""The top lane: chooses. The *port* decides whether a connection is opaque; on all other ports the first bytes only
choose between HTTP/1 and HTTP/2 (RFC 9113 section 3.4), and nothing that they say can lead around the gate.

Knows: the client's first 24 bytes. Must not know: policy. There is no branch that forwards what is not understood:
bytes that look like nothing go to the HTTP/1 lane, whose grammar refuses them; TLS is refused, because no policy can
look inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar._mitmproxy import Commands, Context, Drain, Lane, commands, events
from sidecar.lanes.http1.lane import Http1Lane
from sidecar.lanes.http1.session import DRAIN_GRACE_SECONDS
from sidecar.lanes.http2 import Http2Lane
from sidecar.lanes.opaque import OpaqueLane
from sidecar.lanes.refusal import RefusalLane

if TYPE_CHECKING:
    from collections.abc import Collection

    from sidecar.gate import Gate
    from sidecar.options import Limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4. HTTP/1 never begins so: PRI is reserved (RFC 9113 section 11.6)."""

TLS_HANDSHAKE = b"\x16\x03"
"""A TLS record of type handshake (RFC 8446 section 5.1). No HTTP method begins with a control character."""


class TopLane(Lane):
    """Becomes the chosen lane: hands it the events so far and gets out of the way."""

    def __init__(self, context: Context, gate: Gate, limits: Limits, opaque_ports: Collection[int]) -> None:
        super().__init__(context)
        self._gate = gate
        self._limits = limits
        self._opaque_ports = opaque_ports
        self._seen = b""
        self._chosen: Lane | None = None
        self._wakeup: commands.RequestWakeup | None = None
        self._beginning = False
        self._draining = False

    @property
    def idle(self) -> bool:
        """Nothing has come yet, or the lane has nothing in flight."""
        return not self._seen if self._chosen is None else self._chosen.idle

    def handle_event(self, event: events.Event) -> Commands:
        """Wait for enough bytes, choose, hand over."""
        if self._chosen is not None:  # the caller holds an old reference to this method
            yield from self._chosen.handle_event(event)
            return
        client, server = self.context.client, self.context.server
        if isinstance(event, events.Start):
            if server.address is not None and server.address[1] in self._opaque_ports:
                yield from self._become(OpaqueLane(self.context, report=self._gate.report_upstream_error))
            else:
                yield from self._wait(self._limits.first_byte_seconds)
        elif isinstance(event, events.DataReceived) and event.connection is client:
            self._seen += event.data
            yield from self._choose()
        elif isinstance(event, Drain) and event.at_once:
            yield commands.CloseConnection(client)
        elif isinstance(event, Drain):
            # A client that has just connected may have its first request on the way.
            self._draining = True
            yield from self._wait(DRAIN_GRACE_SECONDS)
        elif not isinstance(event, events.Wakeup) or event.command is self._wakeup:
            # Nothing came in time, or the head took too long, the client left, or what cannot be: the upstream speaks.
            yield commands.CloseConnection(client)

    def _wait(self, seconds: float) -> Commands:
        """Give the client so long; what was given before does not count any more."""
        self._wakeup = commands.RequestWakeup(seconds)
        yield self._wakeup

    def _choose(self) -> Commands:
        seen = self._seen
        if seen.startswith(PREFACE):
            yield from self._become(Http2Lane(self.context, self._gate, self._limits))
        elif PREFACE.startswith(seen):
            if not self._beginning:
                self._beginning = True
                yield from self._wait(self._limits.head_seconds)
        elif TLS_HANDSHAKE.startswith(seen[:2]):
            yield from self._become(RefusalLane(self.context))
        else:
            yield from self._become(Http1Lane(self.context, self._gate, self._limits))

    def _become(self, lane: Lane) -> Commands:
        self._chosen = lane
        self.handle_event = lane.handle_event  # type: ignore[method-assign]
        yield from lane.handle_event(events.Start())
        if self._draining:
            yield from lane.handle_event(Drain())
        if self._seen:
            data, self._seen = self._seen, b""
            yield from lane.handle_event(events.DataReceived(self.context.client, data))
