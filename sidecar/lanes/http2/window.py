"""The client's receive window, where the application's answers and the lane's own meet.

Flow control stays end to end: WINDOW_UPDATE passes. But the lane's own bodies use connection credit that the
application does not know to be gone: a *debt*, repaid by keeping back as much of the client's next WINDOW_UPDATEs.
Until then the application may believe in up to ``debt`` bytes of credit too many; what of its DATA does not fit the
client's window waits here, with everything behind it that has to stay in order. So what waits is bounded by the debt,
and the debt by ``MAX_DEBT``. Rules: RFC 9113 sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections import deque

from sidecar.lanes.http2.frames import (
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADER_BYTES,
    INTERNAL_ERROR,
    MAX_WINDOW,
    PADDED,
    Frame,
    Http2Error,
    encode_frame,
)
from sidecar.lanes.http2.settings import DEFAULT_WINDOW

MAX_DEBT = 16 * 1024
"""Beyond it answers have no body until the client has given credit back. A quarter of the smallest window there is."""

_MAX_WAITING = 256 * 1024
"""Bytes that may wait: the debt, and response heads behind it."""


class ClientWindow:
    """``credit``: DATA bytes the client accepts on the connection. ``initial``: what it accepts on a new stream."""

    __slots__ = ("_debt", "_waiting", "_waiting_bytes", "_waiting_data", "credit", "initial")

    def __init__(self) -> None:
        self.credit = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self._debt = 0
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._waiting_data = 0

    @property
    def stalled(self) -> bool:
        """True while something waits; whatever comes from the application then has to queue up behind it."""
        return bool(self._waiting)

    def lend(self, size: int) -> bool:
        """Take credit for a body of the lane's own on a new stream. False: there is none, answer without a body."""
        if size > self.credit or size > self.initial or self._debt + size > MAX_DEBT or self._waiting:
            return False
        self.credit -= size
        self._debt += size
        return True

    def replenish(self, increment: int) -> int:
        """The client gave credit. The part of it that is the application's to know."""
        self.credit += increment
        if self.credit > MAX_WINDOW:
            raise Http2Error(FLOW_CONTROL_ERROR, "connection window too large")
        kept = min(self._debt, increment)
        self._debt -= kept
        return increment - kept

    def hold(self, frame: Frame) -> None:
        """Queue what cannot be sent yet. DATA beyond the debt is the application's fault."""
        self._waiting.append(frame)
        self._waiting_bytes += len(frame.data)
        if frame.kind == DATA:
            self._waiting_data += len(frame.data) - HEADER_BYTES
        if self._waiting_data > self.credit + self._debt or self._waiting_bytes > _MAX_WAITING:
            raise Http2Error(INTERNAL_ERROR, "upstream exceeded the flow-control window")

    def release(self) -> list[bytes]:
        """What fits now, in order. DATA without padding is cut to fit; padded DATA waits until it does."""
        out: list[bytes] = []
        waiting = self._waiting
        while waiting:
            frame = waiting[0]
            size = len(frame.data) - HEADER_BYTES if frame.kind == DATA else 0
            if size > self.credit:
                if self.credit > 0 and not frame.flags & PADDED:
                    out.append(self._cut(frame))
                break
            waiting.popleft()
            self._waiting_bytes -= len(frame.data)
            self._waiting_data -= size
            self.credit -= size
            out.append(frame.data)
        return out

    def forget(self) -> None:
        """Drop what waits: it came from an application that broke its bounds."""
        self._waiting.clear()
        self._waiting_bytes = self._waiting_data = 0

    def _cut(self, frame: Frame) -> bytes:
        """Take as much off the first waiting frame as there is credit for."""
        first, rest = frame.payload[: self.credit], frame.payload[self.credit :]
        flags = frame.flags & END_STREAM
        self._waiting[0] = Frame(DATA, flags, frame.stream, encode_frame(DATA, flags, frame.stream, rest))
        self._waiting_bytes -= len(first)
        self._waiting_data -= len(first)
        self.credit = 0
        return encode_frame(DATA, 0, frame.stream, first)
