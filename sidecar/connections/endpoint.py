"""One socket of a proxied connection, as an asyncio protocol: no streams, no task, no copy.

Says what happens to its owner and keeps the two facts that back-pressure needs: ``choked`` (what we wrote is not
being taken) and ``held`` (the lane has no use for more). Limits: Envoy's default buffer is 1 MiB a connection; ours
is smaller, because a sidecar's memory is the pod's.

Knows: one transport. Must not know: mitmproxy, lanes, which side it is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol, cast

from sidecar.faults import describe_fault

logger = logging.getLogger("eastgate.proxy")

HIGH_WATER = 128 * 1024
LOW_WATER = 32 * 1024

LARGE_READ = 64 * 1024
"""After a read of so many bytes it is the other connections' turn. uvloop reads up to 32 times 256,000 bytes from one
socket before it looks at another."""

STUCK_SECONDS = 30.0
"""A closed connection whose peer has taken nothing for this long is cut (nginx: lingering_time 30 s)."""


class Owner(Protocol):
    """Who runs the lane."""

    def received(self, connection: Any, data: bytes) -> None:
        """Bytes came."""

    def ended(self, connection: Any) -> None:
        """FIN came."""

    def lost(self, connection: Any, told: bool) -> None:
        """The socket is gone. ``told``: nobody needs to hear of it."""

    def balance(self) -> None:
        """Somebody takes bytes, or takes none, who did not before."""


class Endpoint(asyncio.Protocol):
    """``begin`` is called once there is a transport; it attaches an owner or closes the transport."""

    __slots__ = (
        "_begin",
        "_early",
        "_ended",
        "_reading",
        "_told",
        "choked",
        "connection",
        "held",
        "owner",
        "transport",
        "writable",
    )

    transport: asyncio.Transport
    owner: Owner
    connection: Any

    def __init__(self, begin: Callable[[Endpoint], None]) -> None:
        self._begin = begin
        self._reading = True
        self._ended = False  # FIN has come
        self._early = b""  # bytes that came although nobody reads
        self._told = True  # of a connection nobody owns there is nobody to tell
        self.writable = True
        self.choked = False
        self.held = False

    def attach(self, owner: Owner, connection: object) -> None:
        """From now on ``owner`` hears of everything."""
        self.owner = owner
        self.connection = connection
        self._told = False

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection was accepted or dialled."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        try:
            self._begin(self)
        except Exception as error:
            self._told = True
            self._give_up(error)

    def data_received(self, data: bytes) -> None:
        """Bytes. None are wanted any more once the lane has closed this side.

        uvloop begins to read after ``connection_made`` even where that has paused reading, so bytes may come that have
        to wait here.
        """
        if self._told:
            return
        if not self._reading:
            self._early += data
            self.transport.pause_reading()
            return
        try:
            self.owner.received(self.connection, data)
            if self.choked:
                self.owner.balance()
        except Exception as error:
            self._give_up(error)
            return
        if len(data) >= LARGE_READ and self._reading and not self.transport.is_closing():
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        """The others had their turn."""
        if self._reading and not self._ended and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """FIN. The other direction stays open until the lane closes it."""
        if not self._ended:
            self._ended = True
            if not self._early:
                self._tell_end()
        return True

    def _tell_end(self) -> None:
        if not self._told:
            self._told = True
            try:
                self.owner.ended(self.connection)
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """The owner is broken. The event loop would log its exception with its text, so it is not left to that."""
        logger.error("connection given up: %s", describe_fault(error))
        self.writable = False
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        if hasattr(self, "owner"):
            told, self._told = self._told, True
            try:
                self.owner.lost(self.connection, told)
            except Exception as error:
                self._give_up(error)

    def pause_writing(self) -> None:
        """More than ``HIGH_WATER`` bytes wait to be taken."""
        self.choked = True
        if hasattr(self, "owner"):
            self.owner.balance()

    def resume_writing(self) -> None:
        """Fewer than ``LOW_WATER`` wait."""
        self.choked = False
        if hasattr(self, "owner"):
            self.owner.balance()

    # The owner's side.

    def set_reading(self, wanted: bool) -> None:
        """Read or let the kernel's buffer, and then the sender, wait."""
        if wanted is self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if not wanted:
            if not self._ended:
                self.transport.pause_reading()
            return
        if self._early:
            early, self._early = self._early, b""
            self.owner.received(self.connection, early)
        if self._ended:
            self._tell_end()
        elif self._reading and not self.transport.is_closing():
            self.transport.resume_reading()

    def is_flooded(self, bound: int) -> bool:
        """True while more than ``bound`` bytes wait that nobody takes."""
        return self.choked and self.transport.get_write_buffer_size() > bound

    def write(self, data: bytes) -> None:
        """Send, unless this side was finished or closed."""
        if self.writable:
            self.transport.write(data)

    def finish_writing(self) -> None:
        """Send FIN after what was written."""
        if self.writable and not self.transport.is_closing():
            self.writable = False
            self.transport.write_eof()

    def close(self) -> None:
        """Close after what was written is taken, and cut when nothing is taken any more."""
        self._told = True
        self.writable = False
        self.transport.close()
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            asyncio.get_running_loop().call_later(STUCK_SECONDS, self._cut_if_stuck, waiting)

    def _cut_if_stuck(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()
        elif waiting:
            asyncio.get_running_loop().call_later(STUCK_SECONDS, self._cut_if_stuck, waiting)

    def abort(self) -> None:
        """Cut now."""
        self._told = True
        self.writable = False
        self.transport.abort()

    def reset(self) -> None:
        """Cut now, with a reset that the peer cannot take for an end (SO_LINGER with a time of zero)."""
        accepted = self.transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()
