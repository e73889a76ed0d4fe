"""HTTP/1 response heads: the application's, read and rewritten for the client.

Rules: RFC 9112 sections 4 and 6.3 (message body length), RFC 9110 sections 7.6.1 (Connection) and 15.2 (1xx). A
response that could be read in two ways is not repaired but answered with 502: the application is trusted, its framing
is not.

Knows: heads. Must not know: bodies, connections, why a request was refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.lanes.framing import Body, ChunkedBody, EndlessBody, LengthBody
from sidecar.lanes.grammar import (
    CONNECTION_OPTIONS,
    CONTENT_LENGTH,
    STATUS_LINE,
    MalformedError,
    read_fields,
    split_list,
)

_NOT_FORWARDED = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade content-length te http2-settings".split()
)
_BODILESS = frozenset((204, 304))


class ResponseError(Exception):
    """The application's response cannot be understood without doubt. The text is ours and quotes nothing."""


@dataclass(slots=True)
class ResponseHead:
    """What was understood. ``length`` and ``chunked`` are what the head said (for HEAD and 304 of a body that does not
    come), ``body`` is what follows. ``reusable``: the connection may carry another request.
    """

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    body: Body
    reusable: bool
    length: int | None
    chunked: bool
    upgrade: bytes


def read_response_head(data: bytes, most_fields: int, method: bytes) -> ResponseHead:
    """Read a complete head, up to and including its empty line. Raises ``ResponseError``."""
    match = STATUS_LINE.match(data)
    if match is None:
        raise ResponseError("malformed status line")
    try:
        fields = read_fields(data[match.end() : -2])
    except MalformedError:
        raise ResponseError("malformed header field") from None
    if len(fields) > most_fields:
        raise ResponseError("too many header fields")
    status = int(match[2])
    special = _NOT_FORWARDED
    kept = [field for field in fields if field[0] not in special]
    length: int | None = None
    chunked = False
    upgrade = b""
    connection: set[bytes] = set()
    for name, value in fields:
        if name not in special:
            continue
        if name == b"content-length":
            if length is not None or CONTENT_LENGTH.fullmatch(value) is None:
                raise ResponseError("malformed Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise ResponseError("transfer coding not supported")
            chunked = True
        elif name == b"connection":
            connection.update(split_list(value))
        elif name == b"upgrade":
            upgrade = value.lower()
    if chunked and (length is not None or match[1] == b"0"):
        raise ResponseError("ambiguous framing")
    if connection and (nominated := connection - CONNECTION_OPTIONS):
        kept = [field for field in kept if field[0] not in nominated]
    reusable = b"keep-alive" in connection if match[1] == b"0" else b"close" not in connection
    body: Body
    if method == b"HEAD" or status < 200 or status in _BODILESS:
        body = LengthBody(0)
    elif chunked:
        body = ChunkedBody()
    elif length is not None:
        body = LengthBody(length)
    else:
        body, reusable = EndlessBody(), False
    return ResponseHead(status, match[3] or b"", kept, body, reusable, length, chunked, upgrade)


def write_response_head(head: ResponseHead, *, http10: bool, persistent: bool) -> bytes:
    """The head for the client. ``persistent``: the client's connection stays open after this response."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    lines += [b"%b: %b\r\n" % field for field in head.fields]
    if head.length is not None and head.status >= 200 and head.status != 204:
        lines.append(b"content-length: %d\r\n" % head.length)
    if head.chunked and head.status >= 200 and head.status != 204 and not http10:
        lines.append(b"transfer-encoding: chunked\r\n")
    if head.status == 101:
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade)
    elif head.status >= 200:
        if not persistent:
            lines.append(b"connection: close\r\n")
        elif http10:
            lines.append(b"connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
