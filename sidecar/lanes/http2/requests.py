"""What the client sends: every frame is read, and either goes on as it is, goes on rewritten, or ends here.

Knows: the client's half of RFC 9113, its field decoding, and where the gate stands. Must not know: sockets, events, or
what comes back. There is one way to the application for a head: through ``_settle`` with an allowing decision. A fault
that a stream error would do for ends the connection where the application already knows the stream: its head block for
a stream that the client was told is dead could neither be passed on nor dropped (the field tables would run apart).
"""

from __future__ import annotations

from typing import Protocol

from eastgate.model.decisions import Decision, KeysNeeded
from eastgate.model.requests import Request
from sidecar.lanes.http2 import answers
from sidecar.lanes.http2.fields import FIELD_OVERHEAD, FieldDecoder, FieldsError, FieldsTooLargeError, encode_fields
from sidecar.lanes.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_BYTES,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Frame,
    FrameReader,
    Http2Error,
    encode_frame,
    encode_head,
    encode_window_update,
    read_word,
    strip_padding,
)
from sidecar.lanes.http2.heads import Head, MalformedHeadError, read_head, read_trailers
from sidecar.lanes.http2.session import Session, Upstream
from sidecar.lanes.http2.settings import (
    ACKNOWLEDGEMENT,
    MAX_OUTSTANDING,
    encode_settings,
    read_settings,
    settings_for_upstream,
)
from sidecar.lanes.http2.streams import Stream, Waiting

MAX_HEAD_FRAMES = 16
"""HEADERS and CONTINUATIONs of one head (CVE-2024-27316 and its kin; nghttp2 takes 8 CONTINUATIONs, mitmproxy's 64)."""

_MEMO_HEADS = 32
_MEMO_BLOCK = 2048
"""Heads remembered by their block, a connection; a browser-sized head with a token fits."""


class Gate(Protocol):
    """What the lane asks (``sidecar.gate.Gate``)."""

    def decide(self, request: Request, *, asked: bool = False) -> Decision | KeysNeeded:
        """Decide one request."""
        ...

    def refuse(self, request: Request, decision: Decision) -> None:
        """Hear of a refusal that the lane made by itself."""
        ...


class RequestSide:
    """The client's direction. ``port`` and ``peer`` are the connection's, for every request on it."""

    def __init__(self, session: Session, gate: Gate, port: int, peer: str) -> None:
        self._session = session
        self._gate = gate
        self._port = port
        self._peer = peer
        self._unreadable = Request(b"", b"", b"", (), port, peer, protocol="HTTP/2")
        self._limits = session.limits
        self._reader = FrameReader()
        self._preface = PREFACE
        self._greeted = False
        self._decoder = FieldDecoder(session.limits.head_bytes, session.limits.head_fields)
        self._memo: dict[bytes, Head] = {}
        self._memo_version = 0
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_end = False
        self.frames = 0
        """Frames read so far: how the lane's timer sees progress."""

    @property
    def unfinished(self) -> bool:
        """True while the client owes the rest of its preface, of a frame or of a head."""
        return not self._greeted or self._block_stream != 0 or self._reader.partial

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._preface:
            data = self._read_preface(data)
            if not data:
                return
        session = self._session
        streams = session.streams
        for frame in self._reader.feed(data):
            self.frames += 1
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
                self._read_headers(frame)
            elif kind == WINDOW_UPDATE:
                self._read_window_update(frame)
            else:
                self._read_other(frame)
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
        if not self._greeted or not frame.stream:
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
            self._decode_and_forget(block)
            if end:
                session.abandoned.pop(number, None)
        else:
            raise Http2Error(STREAM_CLOSED, "HEADERS on a closed stream")

    def _open(self, number: int, block: bytes, end: bool) -> None:
        """A new stream: decode, judge, and let it go or answer."""
        session = self._session
        now = session.clock()
        try:
            head = self._read_head(block)
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
        stream = Stream(number, head, now, end)
        decision_or_need = self._gate.decide(head.request)
        if isinstance(decision_or_need, KeysNeeded):
            session.streams[number] = stream
            self._wait(stream, None)
            session.fetches.append((decision_or_need.sources, number))
        else:
            self._settle(stream, decision_or_need)

    def _refuse_unreadable(self, number: int, decision: Decision, end: bool, now: float, code: int) -> None:
        """Answer what is no request that the engine could see."""
        self._session.answer(number, decision, grpc=False, is_head=False, ended=end, code=code)
        self._session.guard.count_reset(now)
        self._gate.refuse(self._unreadable, decision)

    def _read_head(self, block: bytes) -> Head:
        """Decode and check. A block that leaves the table as it was means the same until the table changes."""
        decoder = self._decoder
        memo = self._memo
        if self._memo_version == decoder.version:
            head = memo.get(block)
            if head is not None:
                return head
        head = read_head(self._decode(block), self._port, self._peer)
        if self._memo_version != decoder.version:
            self._memo_version = decoder.version
            memo.clear()
        elif len(block) <= _MEMO_BLOCK:
            if len(memo) >= _MEMO_HEADS:
                memo.clear()
            memo[block] = head
        return head

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        try:
            return self._decoder.decode(block)
        except FieldsError as error:
            raise Http2Error(COMPRESSION_ERROR, str(error)) from None

    def _decode_and_forget(self, block: bytes) -> None:
        """Keep the table in step with the client's."""
        try:
            self._decode(block)
        except FieldsTooLargeError:
            return

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
        stream.edits = edits
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
        self._check_backlog(stream)

    def _check_backlog(self, stream: Stream) -> None:
        """Beyond ``pending_bytes`` the client is not read any more; what one turn can add to that is bounded here."""
        session = self._session
        if session.held_bytes > 2 * self._limits.pending_bytes:
            session.answer_waiting(stream, answers.BACKLOG_FULL)
            session.depart()

    # --- bodies ---------------------------------------------------------------------------------------------------

    def _read_data(self, frame: Frame) -> None:
        """DATA off the beaten track: with a promised length, of a waiting or ended stream, empty, or misplaced."""
        session = self._session
        number, size = frame.stream, len(frame.data) - HEADER_BYTES
        end = bool(frame.flags & END_STREAM)
        if not self._greeted or number == 0 or number > session.highest:
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
        self._grow(stream, waiting, len(frame.data))

    def _count_content(self, stream: Stream, content: int, end: bool) -> None:
        """Hold the body against its content-length (RFC 9113 section 8.1.1)."""
        if stream.remaining >= 0:
            stream.remaining -= content
            if stream.remaining < 0 or (end and stream.remaining):
                raise Http2Error(PROTOCOL_ERROR, "body and content-length differ")

    def _grow(self, stream: Stream, waiting: Waiting, size: int) -> None:
        waiting.size += size
        self._session.held_bytes += size
        self._check_backlog(stream)

    def _read_trailers(self, stream: Stream, block: bytes, end: bool) -> None:
        session = self._session
        if stream.client_ended:
            raise Http2Error(STREAM_CLOSED, "HEADERS after the end of a stream")
        if not end:
            raise Http2Error(PROTOCOL_ERROR, "trailers that do not end their stream")
        self._count_content(stream, 0, end)
        try:
            fields = read_trailers(self._decode(block), stream.edits)
        except (FieldsTooLargeError, MalformedHeadError):
            raise Http2Error(PROTOCOL_ERROR, "malformed trailers") from None
        waiting = stream.waiting
        if waiting is None:
            session.to_upstream.append(encode_head(stream.id, encode_fields(fields), True))
            self._end(stream)
            return
        stream.client_ended = True
        waiting.trailers = fields
        self._grow(stream, waiting, len(block))

    def _end(self, stream: Stream) -> None:
        stream.client_ended = True
        if stream.upstream_ended:
            self._session.finish(stream)

    # --- everything else ------------------------------------------------------------------------------------------

    def _read_window_update(self, frame: Frame) -> None:
        session = self._session
        session.guard.count_control()
        increment = read_word(frame)
        if not increment or not self._greeted or frame.stream > session.highest:
            raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE of zero or on an idle stream")
        if frame.stream:
            stream = session.streams.get(frame.stream)
            if stream is None:
                return
            if stream.waiting is None:
                session.to_upstream.append(frame.data)
            else:
                stream.waiting.frames.append(frame.data)
                self._grow(stream, stream.waiting, len(frame.data))
            return
        passed = session.window.replenish(increment)
        if session.window.stalled:
            session.to_client.extend(session.window.release())
        if session.upstream is not Upstream.OPEN:
            session.held_credit += passed
        elif passed:
            session.to_upstream.append(frame.data if passed == increment else encode_window_update(0, passed))

    def _read_other(self, frame: Frame) -> None:
        kind = frame.kind
        session = self._session
        if kind == CONTINUATION:
            self._read_continuation(frame)
            return
        if kind == SETTINGS:
            self._read_settings(frame)
            return
        if not self._greeted:
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
        self._greeted = True
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
