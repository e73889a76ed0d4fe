"""Where a message body ends: RFC 9112 section 6 and 7, incrementally and without holding the body.

A reader is fed bytes and returns the body bytes found in them; ``done`` says that the end was seen, ``rest`` holds
what came after it. Bodies are never copied raw: what was chunked is decoded and written again, so that the next
parser sees only what this one understood. Chunk extensions are dropped (RFC 9112 section 7.1.1 allows it).

Knows: body framing. Must not know: connections, policy, whether it is a request or a response.
"""

from __future__ import annotations

from sidecar.lanes.grammar import CHUNK_LINE, NOT_IN_HEAD, MalformedError, read_fields

CHUNK_LINE_BYTES = 256
"""The longest chunk line with its extensions. Go bounds it by 4 KiB; nobody is known to send extensions at all."""

TRAILER_BYTES = 16 * 1024
"""The longest trailer section. Node: 16 KiB for all headers."""

LAST_CHUNK = b"0\r\n"

FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host trailer te connection keep-alive upgrade expect range max-forwards "
    b"cache-control pragma authorization proxy-authorization proxy-authenticate proxy-connection www-authenticate "
    b"cookie set-cookie content-encoding content-type content-range age date expires location retry-after vary warning "
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip".split()
)
"""RFC 9110 section 6.5.1: framing, routing, request modifiers, authentication, response control, content format."""


class FramingError(Exception):
    """The peer's body does not follow the grammar. Its text is ours, never the peer's bytes."""


class LengthBody:
    """A body of a stated length (RFC 9112 section 6.3, rule 6)."""

    __slots__ = ("done", "remaining", "rest")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that belongs to the body."""
        remaining = self.remaining - len(data)
        if remaining > 0:
            self.remaining = remaining
            return data
        self.done = True
        length, self.remaining = self.remaining, 0
        if remaining:
            self.rest = data[length:]
            return data[:length]
        return data


class EndlessBody:
    """A response body that ends with the connection (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ()

    done = False
    rest = b""

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1), decoded. ``trailers`` are set when it is done."""

    __slots__ = ("_in_chunk", "_line", "_state", "done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self._line = b""  # an unfinished chunk line, CRLF or trailer section
        self._in_chunk = 0
        self._state = self._chunk_line

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes in ``data``. Raises ``FramingError``."""
        if self._line:
            data, self._line = self._line + data, b""
        found: list[bytes] = []
        at = 0
        while not self.done:
            if self._in_chunk:
                piece = data[at : at + self._in_chunk]
                if not piece:
                    break
                found.append(piece)
                at += len(piece)
                self._in_chunk -= len(piece)
                if self._in_chunk:
                    break
                self._state = self._chunk_end
            end = self._state(data, at)
            if end < 0:
                self._line = data[at:]
                break
            at = end
        if self.done:
            self.rest = data[at:]
        return found[0] if len(found) == 1 else b"".join(found)

    def _chunk_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + CHUNK_LINE_BYTES + 2)
        if end < 0:
            if len(data) - at > CHUNK_LINE_BYTES:
                raise FramingError("chunk line too long")
            if b"\n" in data[at:]:
                raise FramingError("bare LF in a chunk line")
            return -1
        match = CHUNK_LINE.fullmatch(data, at, end)
        if match is None:
            raise FramingError("malformed chunk line")
        self._in_chunk = int(match[1], 16)
        if not self._in_chunk:
            self._state = self._trailers
        return end + 2

    def _chunk_end(self, data: bytes, at: int) -> int:
        ending = data[at : at + 2]
        if ending == b"\r\n":
            self._state = self._chunk_line
            return at + 2
        if ending and ending != b"\r":
            raise FramingError("chunk longer than its size")
        return -1

    def _trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at, at + TRAILER_BYTES)
        if end < 0:
            if len(data) - at >= TRAILER_BYTES:
                raise FramingError("trailers too long")
            if NOT_IN_HEAD.search(data, at):
                raise FramingError("malformed trailers")
            return -1
        try:
            self.trailers = read_fields(data[at : end + 2])
        except MalformedError:
            raise FramingError("malformed trailers") from None
        self.done = True
        return end + 4


type Body = LengthBody | EndlessBody | ChunkedBody


def write_chunk(data: bytes) -> bytes:
    """One chunk. Not for empty data: that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def write_last_chunk(trailers: list[tuple[bytes, bytes]], removed: frozenset[bytes] = frozenset()) -> bytes:
    """The end of a chunked body with those trailers that may be there.

    ``removed`` are the names a policy asserts, folded as ``Edits.remove`` is: a trailer must not speak for a policy
    either.
    """
    kept = [
        b"%b: %b\r\n" % field
        for field in trailers
        if field[0] not in FORBIDDEN_TRAILERS and field[0].replace(b"_", b"-") not in removed
    ]
    return LAST_CHUNK + b"".join(kept) + b"\r\n"
