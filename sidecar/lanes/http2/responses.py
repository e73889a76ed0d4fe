"""What the application sends: answers pass as they are, in order, within the client's window.

Knows: the server's half of RFC 9113 as far as a relay has to follow it. Must not know: what an answer says; head blocks
are never decoded, because their dynamic table is the application's and the client's own affair.
"""

from __future__ import annotations

from sidecar.lanes.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    INTERNAL_ERROR,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    FrameReader,
    Http2Error,
    read_word,
)
from sidecar.lanes.http2.session import Session
from sidecar.lanes.http2.settings import (
    ACKNOWLEDGEMENT,
    ENABLE_PUSH,
    MAX_OUTSTANDING,
    encode_settings,
    read_settings,
    settings_for_client,
)

_MAX_HEAD_FRAMES = 64
"""HEADERS and CONTINUATIONs of one answer's head. Its bytes are bounded like a request's (Envoy: 60 KiB both ways)."""


class ResponseSide:
    """The application's direction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reader = FrameReader()
        self._greeted = False
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._block_stream = 0
        self._block_flags = 0

    def feed(self, data: bytes) -> None:
        """Bytes from the application."""
        session = self._session
        streams, window, out = session.streams, session.window, session.to_client
        for frame in self._reader.feed(data):
            kind, flags, number, raw = frame
            if not self._greeted and kind != SETTINGS:
                raise Http2Error(INTERNAL_ERROR, "upstream does not speak HTTP/2")
            if kind == DATA and not self._block_stream:
                stream = streams.get(number)
                size = len(raw) - HEADER_BYTES
                session.guard.work += 1
                if stream is None or stream.waiting is not None or stream.upstream_ended:
                    self._check_stream(number)
                if size <= window.credit and not window.stalled:
                    window.credit -= size
                    out.append(raw)
                else:
                    window.hold(frame)
                    out.extend(window.release())
                if flags & END_STREAM and stream is not None:
                    self._end(number)
            elif kind in (HEADERS, CONTINUATION) or self._block_stream:
                self._read_head(frame)
            else:
                self._read_other(frame)
        session.depart()
        session.repay()
        session.close_if_done()

    def _check_stream(self, number: int) -> None:
        """An answer must be to something that was sent, and be one. Late ones, to what the client reset, keep tables in
        step; a stream that waits was not sent, whatever its number.
        """
        if not number & 1 or number > self._session.last_departed:
            raise Http2Error(INTERNAL_ERROR, "upstream answered a stream that it never saw")
        stream = self._session.streams.get(number)
        if stream is not None and stream.upstream_ended:
            raise Http2Error(INTERNAL_ERROR, "upstream went on after the end of an answer")

    def _read_head(self, frame: Frame) -> None:
        if frame.kind == HEADERS and not self._block_stream:
            self._check_stream(frame.stream)
            self._block_stream, self._block_flags = frame.stream, frame.flags
        elif frame.kind != CONTINUATION or frame.stream != self._block_stream or not self._block_stream:
            raise Http2Error(INTERNAL_ERROR, "upstream interrupted a head")
        self._block.append(frame.data)
        self._block_bytes += len(frame.data)
        if self._block_bytes > self._session.limits.head_bytes or len(self._block) > _MAX_HEAD_FRAMES:
            raise Http2Error(INTERNAL_ERROR, "upstream sent a head too large")
        if not frame.flags & END_HEADERS:
            return
        session = self._session
        number, end = self._block_stream, self._block_flags & END_STREAM
        session.guard.work += 1
        session.deliver(HEADERS, number, b"".join(self._block))
        self._block, self._block_bytes, self._block_stream = [], 0, 0
        stream = session.streams.get(number)
        if stream is not None:
            stream.responded = True
            if end:
                self._end(number)

    def _end(self, number: int) -> None:
        stream = self._session.streams[number]
        stream.upstream_ended = True
        if stream.client_ended:
            self._session.finish(stream)

    def _read_other(self, frame: Frame) -> None:
        kind = frame.kind
        session = self._session
        if kind == SETTINGS:
            self._read_settings(frame)
            return
        if kind == WINDOW_UPDATE:
            stream = session.streams.get(frame.stream)
            if not frame.stream or (stream is not None and stream.waiting is None):
                session.to_client.append(frame.data)
        elif kind == RST_STREAM:
            stream = session.streams.get(frame.stream)
            if stream is not None and stream.waiting is None:
                session.finish(stream)
                if not stream.client_ended:
                    session.abandon(frame.stream)
                session.deliver(RST_STREAM, frame.stream, frame.data)
        elif kind == PING:
            session.to_client.append(frame.data)
        elif kind == GOAWAY:
            if frame.stream or len(frame.data) < HEADER_BYTES + 8:
                raise Http2Error(INTERNAL_ERROR, "upstream sent a malformed GOAWAY")
            session.last_accepted = min(session.last_accepted, read_word(frame))
            session.to_client.append(frame.data)
        elif kind == PUSH_PROMISE:
            raise Http2Error(INTERNAL_ERROR, "upstream pushed although it must not")
        # PRIORITY and what no one agreed on end here.

    def _read_settings(self, frame: Frame) -> None:
        session = self._session
        if frame.flags & ACK:
            if not self._greeted or not session.unacknowledged_by_upstream:
                raise Http2Error(INTERNAL_ERROR, "upstream acknowledged nothing")
            values = session.unacknowledged_by_upstream.popleft()
            if values is not None:
                session.to_client.append(ACKNOWLEDGEMENT)
                session.client_accepted(values)
            return
        values = read_settings(frame)
        if frame.stream or values.get(ENABLE_PUSH) or len(session.unacknowledged_by_client) >= MAX_OUTSTANDING:
            raise Http2Error(INTERNAL_ERROR, "upstream sent wrong SETTINGS")
        self._greeted = True
        session.unacknowledged_by_client.append(True)
        session.to_client.append(encode_settings(settings_for_client(values, session.limits)))
