"""HTTP/2 frames: their bytes, and a reader that turns a byte stream into whole frames.

Knows: the frame layout of RFC 9113 section 4 and 6. Must not know: streams' states, field compression, or which side
it reads. What the reader hands out is always a complete frame: a DATA frame that has only partly arrived is cut in two,
each part a DATA frame of its own that uses the same flow-control credit. So nothing downstream ever waits for a slow
sender's payload, and nothing can ever be written into the middle of a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""The default SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2). Neither side is ever told of another, so it holds both
ways, and the most that one direction can hold back is one such frame."""

MAX_WINDOW = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

_HEADER = struct.Struct(">HBBBL")
_WORD = struct.Struct(">L")
_FIXED_LENGTHS = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_BEGIN_WITH_RESERVED = frozenset((WINDOW_UPDATE, GOAWAY))
"""Kinds that are passed on, and whose payload begins with a reserved bit."""


class Http2Error(Exception):
    """The peer broke the protocol, or a limit: the connection ends with GOAWAY. Its text is ours, never the peer's."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class Frame(NamedTuple):
    """``data`` is the whole frame, header included. Reserved bits are cleared, in ``data`` too: what is sent must have
    none (RFC 9113 section 4.1), and there are readers that take them for part of the number.
    """

    kind: int
    flags: int
    stream: int
    data: bytes

    @property
    def payload(self) -> bytes:
        """What follows the header, padding and priority fields included."""
        return self.data[HEADER_BYTES:]


_tuple = tuple.__new__
"""Makes a ``Frame`` without the detour through Python: every frame comes by here."""


class FrameReader:
    """Bytes in any portions in, whole frames out. Holds back one incomplete frame at most."""

    __slots__ = ("_flags", "_held", "_rest", "_stream")

    def __init__(self) -> None:
        self._held = b""
        self._rest = 0
        self._flags = 0
        self._stream = 0

    @property
    def partial(self) -> bool:
        """True while an incomplete frame is held back."""
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete. Raises ``Http2Error`` for one that cannot be right."""
        if self._held:
            data = self._held + data
            self._held = b""
        size = len(data)
        position = 0
        if self._rest:
            position = min(self._rest, size)
            yield self._portion(data[:position])
        while size - position >= HEADER_BYTES:
            high, low, kind, flags, stream = _HEADER.unpack_from(data, position)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                raise Http2Error(FRAME_SIZE_ERROR, "frame longer than announced")
            if kind in _FIXED_LENGTHS and length != _FIXED_LENGTHS[kind]:
                raise Http2Error(FRAME_SIZE_ERROR, "frame of a wrong length")
            end = position + HEADER_BYTES + length
            if end <= size:
                raw = data[position:end]
                if stream > MAX_WINDOW or (kind in _BEGIN_WITH_RESERVED and length and raw[HEADER_BYTES] & 0x80):
                    stream &= MAX_WINDOW
                    raw = _clear_reserved(kind, flags, stream, raw[HEADER_BYTES:])
                yield _tuple(Frame, (kind, flags, stream, raw))
                position = end
                continue
            stream &= MAX_WINDOW
            if kind == DATA and not flags & PADDED and size - position > HEADER_BYTES:
                self._rest, self._flags, self._stream = length, flags, stream
                yield self._portion(data[position + HEADER_BYTES :])
                position = size
            break
        if position < size:
            self._held = data[position:]

    def _portion(self, payload: bytes) -> Frame:
        """A part of a DATA frame as a frame; the last part carries the flags."""
        self._rest -= len(payload)
        flags = 0 if self._rest else self._flags
        return Frame(DATA, flags, self._stream, encode_frame(DATA, flags, self._stream, payload))


def _clear_reserved(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame without its reserved bits; ``stream`` has none."""
    if kind in _BEGIN_WITH_RESERVED and payload:
        payload = bytes((payload[0] & 0x7F,)) + payload[1:]
    return encode_frame(kind, flags, stream, payload)


def encode_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame. The payload must fit the frame size that its reader accepts."""
    length = len(payload)
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def encode_head(stream: int, block: bytes, end_stream: bool) -> bytes:
    """A field block as HEADERS and, where it does not fit, CONTINUATION frames, to be written in one piece."""
    if len(block) <= MAX_FRAME_BYTES:
        return encode_frame(HEADERS, END_HEADERS | end_stream, stream, block)
    parts = [block[start : start + MAX_FRAME_BYTES] for start in range(0, len(block), MAX_FRAME_BYTES)]
    frames = [encode_frame(HEADERS, int(end_stream), stream, parts[0])]
    frames.extend(encode_frame(CONTINUATION, 0, stream, part) for part in parts[1:-1])
    frames.append(encode_frame(CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def encode_reset(stream: int, code: int) -> bytes:
    """RST_STREAM."""
    return encode_frame(RST_STREAM, 0, stream, _WORD.pack(code))


def encode_window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return encode_frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def encode_goaway(last_stream: int, code: int, why: str = "") -> bytes:
    """GOAWAY; the text is for whoever reads the peer's log."""
    return encode_frame(GOAWAY, 0, 0, _WORD.pack(last_stream) + _WORD.pack(code) + why.encode("ascii"))


def read_word(frame: Frame) -> int:
    """The first 31 bits of the payload: a window increment or a last stream id. Not for error codes."""
    return int(_WORD.unpack_from(frame.data, HEADER_BYTES)[0]) & MAX_WINDOW


def strip_padding(frame: Frame) -> bytes:
    """The payload of DATA or HEADERS without padding and priority fields (RFC 9113 sections 6.1 and 6.2)."""
    payload = frame.payload
    if not frame.flags & (PADDED | WITH_PRIORITY):
        return payload
    start, end = 0, len(payload)
    if frame.flags & PADDED:
        if not payload:
            raise Http2Error(FRAME_SIZE_ERROR, "padded frame without a pad length")
        start, end = 1, end - payload[0]
    if frame.kind == HEADERS and frame.flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise Http2Error(PROTOCOL_ERROR, "padding longer than the frame")
    return payload[start:end]
