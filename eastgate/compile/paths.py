"""Percent-encoding: the one canonical spelling of a path, for requests and for what they are compared with.

RFC 3986 section 6.2.2: escapes of unreserved characters are decoded, all other escapes are written in upper case; what
section 3.3 has no place for in a path (``|``, ``{`` …) is escaped, as Envoy does it. Configured paths go through the
same door, so that ``/caf%c3%a9`` in a policy meets ``/caf%C3%A9`` in a request, and ``/a|b`` meets ``/a%7Cb``.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"//+")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_UNWISE = re.compile(rb'["<>^`{|}]')
_SPELLING = {b"%02x" % octet: bytes([octet]) if octet in _UNRESERVED else b"%%%02X" % octet for octet in range(256)}


def _respell(escape: re.Match[bytes]) -> bytes:
    return _SPELLING[escape[1].lower()]


def normalise_escapes(path: bytes) -> bytes:
    """The canonical spelling of every well-formed escape. A stray ``%`` stays; who must refuse it has to look first."""
    return _ESCAPE.sub(_respell, path) if b"%" in path else path


def spell_path(path: bytes) -> bytes:
    """The canonical spelling of a path of visible ASCII, as it is forwarded and compared."""
    return normalise_escapes(_UNWISE.sub(lambda raw: b"%%%02X" % raw[0][0], path))


def canonicalise_configured_path(text: str) -> bytes:
    """A path from a policy as it would stand in a canonical request: UTF-8, escapes normalised, no raw odd bytes."""
    raw = b"".join(
        bytes([octet]) if 0x21 <= octet <= 0x7E else b"%%%02X" % octet
        for octet in text.encode("utf-8", "surrogatepass")
    )
    return spell_path(raw)


def drop_parameters(path: bytes) -> bytes:
    """A canonical path as an application reads it that ignores ``;parameters`` (servlet containers do)."""
    return _SLASHES.sub(b"/", _PARAMETERS.sub(b"", path))


def decode_once(text: bytes) -> bytes:
    """Every well-formed escape decoded, once; ``+`` stays a plus (Envoy's reading of query parameters)."""
    if b"%" not in text:
        return text
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), text)
