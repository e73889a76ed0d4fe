"""The client's frames that carry neither a head nor data: what of them the application is told, and when.

Knows: SETTINGS, WINDOW_UPDATE, PING, RST_STREAM and GOAWAY as RFC 9113 section 6 has them, and what each costs
(``floods``). Must not know: heads, bodies, or decisions. What is not known passes neither way.
"""

from __future__ import annotations

from sidecar.lanes.http2.frames import (
    ACK,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_BYTES,
    PING,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    Frame,
    Http2Error,
    encode_frame,
    encode_window_update,
    read_word,
)
from sidecar.lanes.http2.session import Session, Upstream
from sidecar.lanes.http2.settings import (
    ACKNOWLEDGEMENT,
    MAX_OUTSTANDING,
    encode_settings,
    read_settings,
    settings_for_upstream,
)


class ControlFrames:
    """``greeted``: the client's SETTINGS have come, before which nothing else may."""

    __slots__ = ("_session", "greeted")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.greeted = False

    def read_window_update(self, frame: Frame) -> None:
        """Credit, for a stream or for all: the application's, but for what the lane owes to the client's window."""
        session = self._session
        session.guard.count_control()
        increment = read_word(frame)
        if not increment or not self.greeted or frame.stream > session.highest:
            raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE of zero or on an idle stream")
        if frame.stream:
            stream = session.streams.get(frame.stream)
            if stream is None:
                return
            if stream.waiting is None:
                session.to_upstream.append(frame.data)
            else:
                stream.waiting.frames.append(frame.data)
                session.grow(stream, len(frame.data))
            return
        passed = session.window.replenish(increment)
        if session.window.stalled:
            session.to_client.extend(session.window.release())
        if session.upstream is not Upstream.OPEN:
            session.held_credit += passed
        elif passed:
            session.to_upstream.append(frame.data if passed == increment else encode_window_update(0, passed))

    def read(self, frame: Frame) -> None:
        """Any other."""
        kind = frame.kind
        session = self._session
        if kind == SETTINGS:
            self._read_settings(frame)
            return
        if not self.greeted:
            raise Http2Error(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == RST_STREAM:
            self._read_reset(frame)
            return
        session.guard.count_control()
        if kind == PING:
            self._read_ping(frame)
        elif kind == GOAWAY:
            if frame.stream or len(frame.data) < HEADER_BYTES + 8:
                raise Http2Error(PROTOCOL_ERROR, "malformed GOAWAY")
            if session.upstream is Upstream.OPEN:
                session.to_upstream.append(frame.data)
        elif kind == PUSH_PROMISE:
            raise Http2Error(PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        # PRIORITY, PRIORITY_UPDATE and what no one agreed on end here (RFC 9113 sections 5.3.2 and 5.5).

    def _read_reset(self, frame: Frame) -> None:
        session = self._session
        number = frame.stream
        if number == 0 or number > session.highest:
            raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        session.abandoned.pop(number, None)
        stream = session.streams.get(number)
        if stream is None:
            session.guard.count_control()
            return
        if stream.waiting is None:
            session.to_upstream.append(frame.data)
            session.finish(stream)
        else:
            session.unqueue(stream)
            session.depart()
        if not stream.upstream_ended:
            session.guard.count_reset(stream.opened)

    def _read_settings(self, frame: Frame) -> None:
        session = self._session
        if frame.stream:
            raise Http2Error(PROTOCOL_ERROR, "SETTINGS on a stream")
        session.guard.count_control()
        if frame.flags & ACK:
            if len(frame.data) > HEADER_BYTES:
                raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            if not session.unacknowledged_by_client:
                raise Http2Error(PROTOCOL_ERROR, "acknowledgement of nothing")
            if session.unacknowledged_by_client.popleft() and session.upstream is Upstream.OPEN:
                session.to_upstream.append(frame.data)
            return
        values = read_settings(frame)
        self.greeted = True
        session.client_settings.update(values)
        if session.upstream is not Upstream.OPEN:
            session.to_client.append(ACKNOWLEDGEMENT)
            session.client_accepted(values)
            return
        if len(session.unacknowledged_by_upstream) >= MAX_OUTSTANDING:
            raise Http2Error(ENHANCE_YOUR_CALM, "too many SETTINGS at once")
        session.unacknowledged_by_upstream.append(values)
        session.to_upstream.append(encode_settings(settings_for_upstream(values, first=False)))

    def _read_ping(self, frame: Frame) -> None:
        session = self._session
        if frame.stream:
            raise Http2Error(PROTOCOL_ERROR, "PING on a stream")
        if session.upstream is Upstream.OPEN:
            session.to_upstream.append(frame.data)
        elif not frame.flags & ACK:
            session.to_client.append(encode_frame(PING, ACK, 0, frame.payload))
