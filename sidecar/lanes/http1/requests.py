"""HTTP/1 request heads: from bytes to a ``Request`` that has one reading, and from a decision back to bytes.

Rules: RFC 9112 sections 3, 6 and 11.2 (smuggling), RFC 9110 sections 7.2 (Host), 7.6.1 (Connection), 7.8 (Upgrade),
10.1.1 (Expect). Where the RFC lets a server choose between repairing and refusing, this one refuses. The head that
the application gets is always written anew from what was understood; no byte of it is copied unread.

``X-Forwarded-*``, ``Forwarded`` and ``Via`` pass unchanged and none is added, as at an Istio or Linkerd inbound
proxy: they speak of the path before the mesh. Knows: heads. Must not know: bodies, connections, policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from eastgate.model.decisions import Edits
from eastgate.model.requests import Request
from sidecar.lanes.grammar import (
    ABSOLUTE,
    AUTHORITY,
    CONNECTION_OPTIONS,
    CONTENT_LENGTH,
    FIELD_NAME,
    FIELD_VALUE,
    OTHER_VERSION,
    REQUEST_LINE,
    TARGET,
    MalformedError,
    read_fields,
    remembers_fields,
    split_list,
)

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization proxy te transfer-encoding "
    b"upgrade http2-settings".split()
)
"""Never forwarded as received (RFC 9110 section 7.6.1). ``proxy`` is there for httpoxy (CVE-2016-5385)."""

SPECIAL = HOP_BY_HOP | frozenset((b"host", b"content-length", b"expect"))
"""Fields that this module reads itself. The engine sees all others, and only them."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""RFC 9110 section 9.2.2."""


class RequestError(Exception):
    """A head that is refused. ``why`` is our own text and quotes nothing."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


@dataclass(slots=True)
class RequestHead:
    """What was understood. ``length`` None and not ``chunked``: no body."""

    request: Request
    keep_alive: bool
    http10: bool = False
    length: int | None = None
    chunked: bool = False
    expects_continue: bool = False
    websocket: bool = False
    takes_trailers: bool = False

    @property
    def has_body(self) -> bool:
        """True when bytes of a body follow."""
        return self.chunked or bool(self.length)


class _Section(NamedTuple):
    """What the field lines of a head say, whatever its request line is. ``authority_fits``: Host is there, well-formed.
    ``closes`` and the others below it: what is asked of Connection, TE, Upgrade and Expect.
    """

    ordinary: tuple[tuple[bytes, bytes], ...]
    lines: int
    authority: bytes | None
    authority_fits: bool
    length: int | None
    chunked: bool
    expects_continue: bool
    takes_trailers: bool
    closes: bool
    keeps_alive: bool
    upgrades: bool


def read_request_head(data: bytes, most_fields: int, port: int, peer: str, own_authority: bytes) -> RequestHead:
    """Read a complete head, up to and including its empty line. Raises ``RequestError``.

    ``own_authority`` stands in for Host where HTTP/1.0 has none (RFC 9112 section 3.3).
    """
    match = REQUEST_LINE.match(data)
    if match is None:
        if OTHER_VERSION.match(data):
            raise RequestError("HTTP version not supported", 505)
        raise RequestError("malformed request line")
    method, target, minor = match.groups()
    if method == b"CONNECT":
        raise RequestError("CONNECT is not supported", 405)
    block = data[match.end() : -2]
    section = _sections.get(block) if len(block) <= _LONGEST_REMEMBERED else None
    if section is None:
        section = _read_section(block, most_fields)
    (
        ordinary, lines, authority, authority_fits, length, chunked, expects_continue, takes_trailers, closes,
        keeps_alive, upgrades,
    ) = section  # fmt: skip
    if lines > most_fields:
        raise RequestError("too many header fields", 431)
    http10 = minor == b"0"
    if chunked and http10:
        raise RequestError("Transfer-Encoding in HTTP/1.0")
    if authority is None:
        if not http10:
            raise RequestError("no Host field")
        authority = own_authority
    elif not authority_fits:
        raise RequestError("malformed Host")
    if target[0] != _SLASH:
        target = _origin_form(target, authority)
    request = Request(method, target, authority, ordinary, port, peer)
    if http10:
        return RequestHead(request, keeps_alive and not closes, True, length, chunked)
    websocket = upgrades and method == b"GET" and not chunked and not length
    return RequestHead(request, not closes, False, length, chunked, expects_continue, websocket, takes_trailers)


_tuple = tuple.__new__
"""Makes a ``_Section`` without the detour through Python: every request comes by here."""

_LONGEST_REMEMBERED = 512
"""Bytes: what a client says of itself without a token. A browser's fields are longer, and do not call services."""

_REMEMBERED = 512
"""Sections kept: with what was read of them 3 MiB, measured with sections of as many lines as fit."""

_sections: dict[bytes, _Section] = {}
_seen: set[int] = set()


def _read_section(block: bytes, most_fields: int) -> _Section:
    """Read the field lines, each ending with CRLF. Raises ``RequestError``.

    Reading is pure, and a client says the same about itself in every request, so short sections that come again are
    remembered; a line that must not be kept (``grammar.read_fields``) is not kept here either.
    """
    try:
        fields = read_fields(block)
    except MalformedError:
        raise RequestError("malformed header field") from None
    if len(fields) > most_fields:
        raise RequestError("too many header fields", 431)
    special = SPECIAL
    ordinary = [field for field in fields if field[0] not in special]
    authority: bytes | None = None
    length: int | None = None
    chunked = expects_continue = takes_trailers = False
    connection: set[bytes] = set()
    upgrade: bytes | None = None
    for name, value in fields:
        if name not in special:
            continue
        if name == b"host":
            if authority is not None:
                raise RequestError("more than one Host field")
            authority = value
        elif name == b"content-length":
            if length is not None:
                raise RequestError("more than one Content-Length field")
            if CONTENT_LENGTH.fullmatch(value) is None:
                raise RequestError("malformed Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked:
                raise RequestError("more than one Transfer-Encoding field")
            if value.lower() != b"chunked":
                raise RequestError("transfer coding not supported", 501)
            chunked = True
        elif name == b"connection":
            connection.update(split_list(value))
        elif name == b"upgrade":
            upgrade = value.lower() if upgrade is None else b""
        elif name == b"te":
            takes_trailers = b"trailers" in split_list(value)
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise RequestError("expectation not supported", 417)
            expects_continue = True
    if chunked and length is not None:
        raise RequestError("both Content-Length and Transfer-Encoding")
    closes = keeps_alive = upgrades = False
    if connection:
        closes, keeps_alive = b"close" in connection, b"keep-alive" in connection
        upgrades = upgrade == b"websocket" and b"upgrade" in connection
        nominated = connection - CONNECTION_OPTIONS
        if nominated:
            ordinary = [field for field in ordinary if field[0] not in nominated]
    section = _tuple(
        _Section,
        (
            tuple(ordinary),
            len(fields),
            authority,
            authority is not None and AUTHORITY.fullmatch(authority) is not None,
            length,
            chunked,
            expects_continue,
            takes_trailers,
            closes,
            keeps_alive,
            upgrades,
        ),
    )
    if len(block) <= _LONGEST_REMEMBERED:
        _remember(block, section)
    return section


def _remember(block: bytes, section: _Section) -> None:
    """Keep a section that came before."""
    mark = hash(block)
    if mark not in _seen:
        if len(_seen) >= 4 * _REMEMBERED:
            _seen.clear()
        _seen.add(mark)
    elif remembers_fields(block):
        if len(_sections) >= _REMEMBERED:
            _sections.clear()
        _sections[block] = section


_SLASH = 0x2F


def _origin_form(target: bytes, authority: bytes) -> bytes:
    """The path and query of an absolute-form target that names the same authority as Host does."""
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise RequestError("request target is not a path")
    if AUTHORITY.fullmatch(match[1]) is None or _same_host(match[1]) != _same_host(authority):
        raise RequestError("request target and Host differ")
    rest: bytes = match[2] or b"/"
    return b"/" + rest if rest.startswith(b"?") else rest


def _same_host(authority: bytes) -> bytes:
    """An authority for comparison: case, the default port and the root's dot do not count (RFC 9110 section 4.2.3)."""
    return authority.lower().removesuffix(b":80").removesuffix(b".")


@lru_cache(maxsize=1024)
def check_added(add: tuple[tuple[bytes, bytes], ...]) -> None:
    """Raise ``ValueError`` for a header that would break out of its line or speak about framing."""
    for name, value in add:
        if name in SPECIAL or FIELD_NAME.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None:
            raise ValueError("header of the decision")


def write_request_head(head: RequestHead, edits: Edits) -> bytes:
    """The head that the application gets: what was understood, with the decision's edits.

    The edits come from the engine, which has its own checks; what would break out of its line is refused here again,
    because claims are foreign data.
    """
    request = head.request
    if edits.target != request.target and TARGET.fullmatch(edits.target) is None:
        raise ValueError("target of the decision")
    check_added(edits.add)
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, edits.target, request.authority)]
    lines += [b"%b: %b\r\n" % field for field in edits.apply(request.headers)]
    if head.chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif head.length is not None:
        lines.append(b"content-length: %d\r\n" % head.length)
    if head.websocket:
        lines.append(b"connection: upgrade\r\nupgrade: websocket\r\n")
    elif head.takes_trailers:
        lines.append(b"connection: te\r\nte: trailers\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
