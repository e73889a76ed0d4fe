"""A refusal as gRPC says it: HTTP 200, no body, the verdict in ``grpc-status`` and ``grpc-message``.

Knows: which requests are gRPC, the mapping of HTTP codes, the message's percent-encoding. Must not know: why it was
refused. Rules: gRPC over HTTP/2 (PROTOCOL-HTTP2.md: Trailers-Only, Percent-Encoded), gRPC's http-grpc-status-mapping,
and Envoy's local replies (``source/common/http/utility.cc``, ``source/common/grpc/status.cc``), which agree with it.
"""

from __future__ import annotations

from collections.abc import Iterable

CONTENT_TYPE = b"application/grpc"

_UNKNOWN = 2
_STATUS_OF_HTTP = {
    400: 13,  # INTERNAL
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 12,  # UNIMPLEMENTED
    429: 14,  # UNAVAILABLE, as are the next three
    502: 14,
    503: 14,
    504: 14,
}
_ENCODED = tuple(bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in range(256))


def is_grpc(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True for ``application/grpc`` and ``application/grpc+x``, not for ``application/grpc-web`` (Envoy's rule).

    Names are lower case already. Only the first ``content-type`` counts; it decides the form of an answer, never
    whether there is one.
    """
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(CONTENT_TYPE) and value[16:17] in (b"", b"+")
    return False


def map_status(status: int) -> int:
    """The gRPC code of an HTTP status."""
    return _STATUS_OF_HTTP.get(status, _UNKNOWN)


def encode_message(text: bytes) -> bytes:
    """Percent-encode what ``grpc-message`` may not hold as it is: all but %x20-%x24 and %x26-%x7E."""
    return b"".join([_ENCODED[byte] for byte in text])


def render_headers(
    status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    """The header fields of a trailers-only answer. What the decision added (``www-authenticate``) is kept."""
    fields = [(b"content-type", CONTENT_TYPE), (b"grpc-status", b"%d" % map_status(status))]
    if body:
        fields.append((b"grpc-message", encode_message(body)))
    return (*fields, *headers)
