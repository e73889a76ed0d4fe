"""What the client sends: every frame is read, and either goes on as it is, goes on rewritten, or ends here.

Knows: the client's half of RFC 9113, its field decoding, and where the gate stands. Must not know: sockets, events, or
what comes back. There is one way to the application for a head: through ``_settle`` with an allowing decision. A fault
that a stream error would do for ends the connection where the application already knows the stream: its head block for
a stream that the client was told is dead could neither be passed on nor dropped (the field tables would run apart).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from eastgate.model.decisions import Decision, KeysNeeded
from eastgate.model.requests import Request
from sidecar.lanes.http2 import answers
from sidecar.lanes.http2.blocks import BlockReader
from sidecar.lanes.http2.control import ControlFrames
from sidecar.lanes.http2.fields import FIELD_OVERHEAD, FieldsTooLargeError, encode_fields
from sidecar.lanes.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADER_BYTES,
    HEADERS,
    NO_ERROR,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Frame,
    FrameReader,
    Http2Error,
    encode_head,
    strip_padding,
)
from sidecar.lanes.http2.heads import MalformedHeadError, read_trailers
from sidecar.lanes.http2.session import Session, Upstream
from sidecar.lanes.http2.streams import Stream, Waiting
from sidecar.upstream import UpstreamError

FRAMES_A_TURN = 1024
HEAD_FRAMES = 16
"""Frames read before other connections have their turn, and how many of them a head counts for, as that is what it
costs: twenty thousand that are refused at once fit into what is read at a time (Envoy: ``max_requests_per_io_cycle``).
"""

MAX_HEAD_FRAMES = 16
"""HEADERS and CONTINUATIONs of one head (CVE-2024-27316 and its kin; nghttp2 takes 8 CONTINUATIONs, mitmproxy's 64)."""


class Gate(Protocol):
    """What the lane asks (``sidecar.gate.Gate``)."""

    def decide(self, request: Request, *, asked: bool = False) -> Decision | KeysNeeded:
        """Decide one request."""
        ...

    def refuse(self, request: Request, decision: Decision) -> None:
        """Hear of a refusal that the lane made by itself."""
        ...

    def report_upstream_error(self, error: UpstreamError) -> None:
        """Hear of an allowed request that came to nothing."""
        ...


class RequestSide:
    """The client's direction. ``port`` and ``peer`` are the connection's, for every request on it."""

    def __init__(self, session: Session, gate: Gate, port: int, peer: str) -> None:
        self._session = session
        self._gate = gate
        self._unreadable = Request(b"", b"", b"", (), port, peer, protocol="HTTP/2")
        self._limits = session.limits
        self._reader = FrameReader()
        self._preface = PREFACE
        self._control = ControlFrames(session)
        self._blocks = BlockReader(session.limits, port, peer)
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_end = False
        self._unread: Iterator[Frame] | None = None
        self._later: list[bytes] = []
        self.frames = 0
        """Frames read so far: how the lane's timer sees progress."""

    @property
    def unfinished(self) -> bool:
        """True while the client owes the rest of its preface, of a frame or of a head."""
        return not self._control.greeted or self._block_stream != 0 or self._reader.partial

    @property
    def paused(self) -> bool:
        """True while frames that have come wait for the next turn: ``read_on`` is to be called then."""
        return self._unread is not None

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._preface:
            data = self._read_preface(data)
            if not data:
                return
        if self._unread is None:
            self._read(self._reader.feed(data))
        else:
            self._later.append(data)

    def read_on(self) -> None:
        """Another turn."""
        unread, self._unread = self._unread, None
        if unread is not None:
            self._read(unread)
        if self._later and self._unread is None:
            data = b"".join(self._later)
            self._later.clear()
            self._read(self._reader.feed(data))

    def _read(self, frames: Iterator[Frame]) -> None:
        """Take frames as far as one turn goes."""
        session = self._session
        streams = session.streams
        left = FRAMES_A_TURN
        for frame in frames:
            self.frames += 1
            left -= 1
            kind, flags, number, raw = frame
            if self._block_stream and (kind != CONTINUATION or number != self._block_stream):
                raise Http2Error(PROTOCOL_ERROR, "a head was interrupted")
            if kind == DATA:
                stream = streams.get(number)
                if (
                    stream is not None
                    and stream.waiting is None
                    and stream.remaining < 0
                    and not stream.client_ended
                    and len(raw) > HEADER_BYTES
                    and not flags & PADDED
                ):
                    session.guard.work += 1
                    session.to_upstream.append(raw)
                    if flags & END_STREAM:
                        self._end(stream)
                else:
                    self._read_data(frame)
            elif kind == HEADERS:
                left -= HEAD_FRAMES
                self._read_headers(frame)
            elif kind == WINDOW_UPDATE:
                self._control.read_window_update(frame)
            elif kind == CONTINUATION:
                self._read_continuation(frame)
            else:
                self._control.read(frame)
            if left <= 0:
                self._unread = frames
                break
        session.repay()
        session.close_if_done()

    def _read_preface(self, data: bytes) -> bytes:
        """What follows the preface. The lane's own SETTINGS answer it."""
        expected = self._preface
        if data[: len(expected)] != expected[: len(data)]:
            raise Http2Error(PROTOCOL_ERROR, "not the HTTP/2 preface")
        self._preface = expected[len(data) :]
        if not self._preface:
            self._session.greet()
        return data[len(expected) :]

    # --- heads ----------------------------------------------------------------------------------------------------

    def _read_headers(self, frame: Frame) -> None:
        if not self._control.greeted or not frame.stream:
            raise Http2Error(PROTOCOL_ERROR, "HEADERS before SETTINGS or on stream 0")
        block = strip_padding(frame)
        if frame.flags & END_HEADERS:
            self._read_block(frame.stream, block, bool(frame.flags & END_STREAM))
            return
        self._block = [block]
        self._block_stream = frame.stream
        self._block_end = bool(frame.flags & END_STREAM)

    def _read_continuation(self, frame: Frame) -> None:
        if not self._block_stream:
            raise Http2Error(PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block.append(frame.payload)
        if len(self._block) > MAX_HEAD_FRAMES or sum(map(len, self._block)) > self._limits.head_bytes:
            raise Http2Error(ENHANCE_YOUR_CALM, "head too large")
        if frame.flags & END_HEADERS:
            stream, block = self._block_stream, b"".join(self._block)
            self._block, self._block_stream = [], 0
            self._read_block(stream, block, self._block_end)

    def _read_block(self, number: int, block: bytes, end: bool) -> None:
        session = self._session
        if number > session.highest:
            if not number & 1:
                raise Http2Error(PROTOCOL_ERROR, "even stream id from a client")
            session.highest = number
            self._open(number, block, end)
            return
        stream = session.streams.get(number)
        if stream is not None:
            self._read_trailers(stream, block, end)
        elif number in session.abandoned:
            session.guard.count_control()
            self._blocks.skip(block)
            if end:
                session.abandoned.pop(number, None)
        else:
            raise Http2Error(STREAM_CLOSED, "HEADERS on a closed stream")

    def _open(self, number: int, block: bytes, end: bool) -> None:
        """A new stream: decode, judge, and let it go or answer."""
        session = self._session
        now = session.clock()
        try:
            head = self._blocks.read_head(block)
            if end and head.content_length > 0:
                raise MalformedHeadError("content-length without content")
        except FieldsTooLargeError:
            self._refuse_unreadable(number, answers.HEAD_TOO_LARGE, end, now, NO_ERROR)
            return
        except MalformedHeadError as error:
            decision = answers.refuse_malformed(error.status, error.why)
            self._refuse_unreadable(number, decision, end, now, PROTOCOL_ERROR)
            return
        if session.draining or len(session.streams) >= self._limits.streams:
            session.refuse(number, end)
            if False in session.unacknowledged_by_client:  # the client may not have heard of the limit yet
                session.guard.count_control()
            else:
                session.guard.count_reset(now)
            return
        decision_or_need = self._gate.decide(head.request)
        if isinstance(decision_or_need, KeysNeeded):
            session.streams[number] = stream = Stream(number, head, now, end)
            self._wait(stream, None)
            session.fetches.append((decision_or_need.sources, number))
        elif decision_or_need.allowed:
            self._settle(Stream(number, head, now, end), decision_or_need)
        else:
            session.answer(number, decision_or_need, grpc=head.grpc, is_head=head.is_head, ended=end)

    def _refuse_unreadable(self, number: int, decision: Decision, end: bool, now: float, code: int) -> None:
        """Answer what is no request that the engine could see."""
        self._session.answer(number, decision, grpc=False, is_head=False, ended=end, code=code)
        self._session.guard.count_reset(now)
        self._gate.refuse(self._unreadable, decision)

    def keys_fetched(self, number: int) -> None:
        """The fetch that a stream waited for ended: ask again."""
        session = self._session
        stream = session.streams.get(number)
        if stream is not None and stream.waiting is not None and stream.waiting.block is None:
            answer = self._gate.decide(stream.head.request, asked=True)
            self._settle(stream, answers.NO_EDITS if isinstance(answer, KeysNeeded) else answer)
        session.repay()
        session.close_if_done()

    def _settle(self, stream: Stream, decision: Decision) -> None:
        """Carry out a decision."""
        session = self._session
        edits = decision.edits
        if not decision.allowed or edits is None:
            refusal = answers.NO_EDITS if decision.allowed else decision
            head = stream.head
            if stream.waiting is not None:
                session.answer_waiting(stream, refusal)
                session.depart()
            else:
                session.answer(stream.id, refusal, grpc=head.grpc, is_head=head.is_head, ended=stream.client_ended)
            return
        block = stream.head.encode(edits)
        stream.edits, stream.route = edits, decision.route
        if stream.waiting is not None:
            stream.waiting.block = block
            if stream.waiting.trailers is not None:
                stream.waiting.trailers = read_trailers(stream.waiting.trailers, edits)
            session.depart()
        elif stream.id > session.last_accepted:
            session.refuse(stream.id, stream.client_ended)
        else:
            session.streams[stream.id] = stream
            if session.upstream is Upstream.OPEN and not session.departures:
                session.send_head(stream.id, block, stream.client_ended)
            else:
                self._wait(stream, block)
                session.depart()

    def _wait(self, stream: Stream, block: bytes | None) -> None:
        head = stream.head
        size = sum([len(name) + len(value) + FIELD_OVERHEAD for name, value in head.fields]) + len(block or b"")
        stream.waiting = Waiting(size, stream.client_ended)
        stream.waiting.block = block
        self._session.queue(stream)
        self._session.check_backlog(stream)

    # --- bodies ---------------------------------------------------------------------------------------------------

    def _read_data(self, frame: Frame) -> None:
        """DATA off the beaten track: with a promised length, of a waiting or ended stream, empty, or misplaced."""
        session = self._session
        number, size = frame.stream, len(frame.data) - HEADER_BYTES
        end = bool(frame.flags & END_STREAM)
        if not self._control.greeted or number == 0 or number > session.highest:
            raise Http2Error(PROTOCOL_ERROR, "DATA on an idle stream")
        content = len(strip_padding(frame)) if frame.flags & PADDED else size
        if not content and not end:
            session.guard.count_control()
        else:
            session.guard.work += 1
        stream = session.streams.get(number)
        if stream is None:
            if number not in session.abandoned:
                raise Http2Error(STREAM_CLOSED, "DATA on a closed stream")
            session.owed += size
            if end:
                session.abandoned.pop(number, None)
            return
        if stream.client_ended:
            raise Http2Error(STREAM_CLOSED, "DATA after the end of a stream")
        if not size and not end:
            return
        self._count_content(stream, content, end)
        if end:
            stream.client_ended = True
        waiting = stream.waiting
        if waiting is None:
            session.to_upstream.append(frame.data)
            if end and stream.upstream_ended:
                session.finish(stream)
            return
        waiting.frames.append(frame.data)
        waiting.credit += size
        session.grow(stream, len(frame.data))

    def _count_content(self, stream: Stream, content: int, end: bool) -> None:
        """Hold the body against its content-length (RFC 9113 section 8.1.1)."""
        if stream.remaining >= 0:
            stream.remaining -= content
            if stream.remaining < 0 or (end and stream.remaining):
                raise Http2Error(PROTOCOL_ERROR, "body and content-length differ")

    def _read_trailers(self, stream: Stream, block: bytes, end: bool) -> None:
        session = self._session
        if stream.client_ended:
            raise Http2Error(STREAM_CLOSED, "HEADERS after the end of a stream")
        if not end:
            raise Http2Error(PROTOCOL_ERROR, "trailers that do not end their stream")
        self._count_content(stream, 0, end)
        try:
            fields = read_trailers(self._blocks.decode(block), stream.edits)
        except (FieldsTooLargeError, MalformedHeadError):
            raise Http2Error(PROTOCOL_ERROR, "malformed trailers") from None
        waiting = stream.waiting
        if waiting is None:
            session.to_upstream.append(encode_head(stream.id, encode_fields(fields), True))
            self._end(stream)
            return
        stream.client_ended = True
        waiting.trailers = fields
        session.grow(stream, len(block))

    def _end(self, stream: Stream) -> None:
        stream.client_ended = True
        if stream.upstream_ended:
            self._session.finish(stream)
