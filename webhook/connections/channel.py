"""TLS under one connection: records in, bytes to the connection above, bytes of its answers out as records.

asyncio has this, too (``sslproto``), and spends a third more on it: a buffer of 256 KiB for each connection, of which
none is in the processor's cache when it is needed, and a task and timers for each handshake. Here all connections of a
port share two buffers, for what the first holds is decrypted, and what the second holds is parsed, before anything else
is read. OpenSSL does everything that TLS is.

Knows: when a handshake is over, and how a connection ends. Must not know: HTTP, or certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import Final

from webhook.connections.connection import RECORD_BYTES, Connection, Shared

LOG = logging.getLogger(__name__)

_SLICE: Final = 4 * RECORD_BYTES
"""Given to OpenSSL at once. It keeps room for as much in every connection for ever."""


class Channel(asyncio.BufferedProtocol):
    """A connection from its first byte to its end. To the ``Connection`` above it is the transport."""

    def __init__(self, shared: Shared, context: ssl.SSLContext) -> None:
        self._shared = shared
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._above: Connection | None = None
        self.deadline = asyncio.get_running_loop().time() + shared.limits.handshake_seconds

    # --- from the transport -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The other side is there and has said nothing yet."""
        self._transport = transport  # type: ignore[assignment]
        self._shared.greeting.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        if self in self._shared.greeting:
            self._give_up("the other side is gone")
        if self._above is not None:
            self._above.connection_lost(error)
        self._above = None

    def get_buffer(self, _: int) -> memoryview:
        """Where the next records go."""
        return self._shared.records

    def buffer_updated(self, size: int) -> None:
        """Records, or pieces of them."""
        try:
            for start in range(0, size, _SLICE):
                self._incoming.write(self._shared.records[start : min(start + _SLICE, size)])
                if self._above is None and not self._greet():
                    continue
                if not self._receive():
                    return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            if self._above is None:
                self._give_up(error.reason or type(error).__name__)
                self._transport.close()
            else:
                LOG.debug("TLS is broken: %s", error.reason)
                self._transport.abort()

    def eof_received(self) -> bool:
        """Half a connection is none."""
        return False

    def pause_writing(self) -> None:
        """The other side does not read."""
        if self._above is not None:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._above is not None:
            self._above.resume_writing()

    # --- TLS --------------------------------------------------------------------------------------------------------

    def _greet(self) -> bool:
        """Go on with the handshake; True once it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        self._shared.greeting.discard(self)
        self._above = Connection(self._shared)
        self._above.connection_made(self)
        return True

    def _receive(self) -> bool:
        """Decrypt what is there and hand it up; False when the other side has said that it is done."""
        received, ended = self._decrypt()
        self._flush()  # new keys may have been asked for
        if received and self._above is not None:
            self._above.buffer_updated(received)
        if ended:
            self.close()
        return not ended

    def _decrypt(self) -> tuple[int, bool]:
        """How much is in the buffer now, and whether the other side is done."""
        buffer, read, incoming = self._shared.buffer, self._tls.read, self._incoming
        received = 0
        try:
            while incoming.pending:
                count = int(read(RECORD_BYTES, buffer[received:]))
                if not count:
                    return received, True
                received += count
        except ssl.SSLWantReadError:  # the end of a record is still to come
            return received, False
        return received, False

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _give_up(self, why: str) -> None:
        self._shared.greeting.discard(self)
        self._shared.metrics.closed.labels("handshake").inc()
        LOG.debug("no TLS handshake: %s", why)

    # --- for the connection above -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send this."""
        if self._transport.is_closing():
            return
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Say goodbye, and end it once everything is sent. Nobody waits for theirs (RFC 8446 section 6.1)."""
        if self._transport.is_closing():
            return
        with contextlib.suppress(ssl.SSLError):  # theirs is not there yet, or the handshake was not over
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def expire(self) -> None:
        """The handshake did not end in time."""
        self._give_up("time is up")
        self._transport.abort()

    def pause_reading(self) -> None:
        """Take nothing more."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        self._transport.resume_reading()
