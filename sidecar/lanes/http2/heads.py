"""Request heads: from a decoded field list to a request without doubt, and back to a block for the application.

Knows: what makes an HTTP/2 request well-formed (RFC 9113 sections 8.2 and 8.3, RFC 9110 section 5.5), and what a
decision changes. Must not know: frames, streams, or how it is decided. The grammar is the HTTP/1 lane's: a request is
refused for what two readers could understand differently. The application gets what was decided on, written anew.
"""

from __future__ import annotations

import re

from eastgate.model.decisions import Edits
from eastgate.model.requests import Request
from eastgate.render.grpc import is_grpc
from sidecar.lanes.grammar import AUTHORITY, CONTENT_LENGTH, FIELD_NAME, FIELD_VALUE, TARGET
from sidecar.lanes.http2.fields import Field, encode_field, encode_fields

_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_METHOD = re.compile(rb"[A-Z][A-Z0-9_\-]{0,31}+")

_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_DROPPED = frozenset((b"proxy", b"proxy-authorization", b"proxy-authenticate"))
"""Neither forwarded nor seen by the engine, as in the HTTP/1 lane (RFC 9110 section 11.7; httpoxy, CVE-2016-5385)."""

_NOT_ADDED = _CONNECTION_SPECIFIC | {b"host", b"content-length"}
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))

_NOT_IN_TRAILERS = frozenset(
    (
        b"authorization", b"proxy-authorization", b"cookie", b"host", b"content-length", b"content-type",
        b"content-encoding", b"content-range", b"te", b"trailer", b"expect", b"max-forwards", b"cache-control",
    )
)  # fmt: skip
"""Framing, routing, modifiers, authentication (RFC 9110 section 6.5.1): dropped."""


class MalformedHeadError(Exception):
    """A head that is answered with ``status`` and never forwarded. Its text is ours, never the client's."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


class Head:
    """A request head that passed. ``fields`` are the client's regular ones without ``host``, cookie crumbs apart.

    Remembers the last block written for it: the same head usually gets the same edits.
    """

    __slots__ = ("_block", "_edits", "_prefix", "content_length", "fields", "grpc", "request")

    def __init__(self, request: Request, fields: tuple[Field, ...], content_length: int) -> None:
        self.request = request
        self.fields = fields
        self.content_length = content_length  # -1 where it is not said
        self.grpc = is_grpc(fields)
        self._prefix = encode_fields(((b":method", request.method), (b":scheme", request.scheme)))
        self._edits: Edits | None = None
        self._block = b""

    @property
    def is_head(self) -> bool:
        """Whether an answer must have no body."""
        return self.request.method == b"HEAD"

    def encode(self, edits: Edits) -> bytes:
        """The block that the application gets: pseudo-header fields, then the edited rest.

        The edits come from the engine, which has its own checks; what must not be in a head is refused here again,
        because claims are foreign data.
        """
        if edits is not self._edits and edits != self._edits:
            if TARGET.fullmatch(edits.target) is None:
                raise ValueError("target of the decision")
            for name, value in edits.add:
                if FIELD_NAME.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None or name in _NOT_ADDED:
                    raise ValueError("header of the decision")
            regular = edits.apply(self.fields)
            self._block = b"".join(
                [
                    self._prefix,
                    encode_field((b":path", edits.target)),
                    encode_field((b":authority", self.request.authority)),
                    *[encode_field(field) for field in regular],
                ]
            )
            self._edits = edits
        return self._block


def read_head(fields: list[Field], port: int, peer: str) -> Head:
    """The head that these fields are, or ``MalformedHeadError``."""
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    host: bytes | None = None
    length = -1
    crumbs = 0
    for field in fields:
        name, value = field
        if name[:1] == b":":
            if regular or host is not None or name in pseudo or name not in _PSEUDO:
                raise MalformedHeadError("pseudo-header field repeated, unknown or out of place")
            pseudo[name] = value
            continue
        _check_field(name, value)
        if name == b"host":
            if host is not None:
                raise MalformedHeadError("more than one host")
            host = value
            continue
        if name == b"content-length":
            if length >= 0 or CONTENT_LENGTH.fullmatch(value) is None:
                raise MalformedHeadError("content-length repeated or not a number")
            length = int(value)
        elif name == b"te" and value.lower() != b"trailers":
            raise MalformedHeadError("te other than trailers")
        elif name == b"cookie":
            crumbs += 1
        elif name in _DROPPED:
            continue
        regular.append(field)
    request = _read_request(pseudo, host, port, peer)
    headers = tuple(regular)
    request = request._replace(headers=_join_crumbs(headers) if crumbs > 1 else headers)
    return Head(request, headers, length)


def _check_field(name: bytes, value: bytes) -> None:
    if FIELD_NAME.fullmatch(name) is None:
        raise MalformedHeadError("field name not a lower-case token")
    # Deleting what must not be there is the fastest look at a long value, such as a token.
    if len(value.translate(None, _CONTROLS)) != len(value) or value.strip(b" \t") != value:
        raise MalformedHeadError("field value with a control character or white space around it")
    if name in _CONNECTION_SPECIFIC:
        raise MalformedHeadError("connection-specific field")


def _read_request(pseudo: dict[bytes, bytes], host: bytes | None, port: int, peer: str) -> Request:
    method = pseudo.get(b":method", b"")
    if method == b"CONNECT":
        raise MalformedHeadError("CONNECT is not supported", 405)
    scheme, target = pseudo.get(b":scheme"), pseudo.get(b":path", b"")
    if _METHOD.fullmatch(method) is None:
        raise MalformedHeadError("no method, or not one")
    if scheme not in (b"http", b"https"):
        raise MalformedHeadError("no scheme, or not http")
    if TARGET.fullmatch(target) is None:
        raise MalformedHeadError("no path, or not one")
    authority = pseudo.get(b":authority", host)
    if authority is None or AUTHORITY.fullmatch(authority) is None:
        raise MalformedHeadError("no authority, or not one")
    if host is not None and host.lower() != authority.lower():
        raise MalformedHeadError("host and :authority differ")
    return Request(method, target, authority, (), port, peer, scheme, "HTTP/2")


def _join_crumbs(headers: tuple[Field, ...]) -> tuple[Field, ...]:
    """The headers with all cookies in the place of the first (RFC 9113 section 8.2.3)."""
    joined = b"; ".join([value for name, value in headers if name == b"cookie"])
    result: list[Field] = []
    for field in headers:
        if field[0] != b"cookie":
            result.append(field)
        elif joined:
            result.append((b"cookie", joined))
            joined = b""
    return tuple(result)


def read_trailers(fields: list[Field], edits: Edits | None) -> list[Field]:
    """The trailers that may go on: none that the stream's decision took out of the head, or asserted in it."""
    barred = edits.remove.union([name for name, _ in edits.add]) if edits is not None else frozenset()
    kept: list[Field] = []
    for name, value in fields:
        if name[:1] == b":":
            raise MalformedHeadError("pseudo-header field in trailers")
        _check_field(name, value)
        if name not in _NOT_IN_TRAILERS and name.replace(b"_", b"-") not in barred:
            kept.append((name, value))
    return kept
