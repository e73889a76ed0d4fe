"""RFC 9112 (HTTP/1.1) and RFC 9110 field grammar, as regular expressions over a whole message head.

A head is checked as one piece before anything in it is looked at: what passes here has exactly one reading, the one
that ``h11`` and ``llhttp`` have too (``tests/property/test_http1.py``). Deliberately refused, although some servers
take it: bare LF or CR, obs-fold, control characters, white space before the colon, methods in lower case, a ``#`` in
the target. Every repetition is possessive, so that matching is linear in the size of the head.

Knows: bytes. Must not know: what a field means, except how its line is written.
"""

from __future__ import annotations

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110 section 5.6.2."""

VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
"""RFC 9110 section 5.5: VCHAR, SP, HTAB and obs-text; no other control character, above all no CR, LF or NUL."""

REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_\-]{0,31}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n")
"""RFC 9112 section 3. Groups: method, target, minor version. No registered method has a lower-case letter; a fragment
is not part of a request target (RFC 9112 section 3.2), and servers disagree about one.
"""

OTHER_VERSION = re.compile(rb"[A-Za-z]++ [^ \r\n]++ HTTP/(?!1\.[01]\r\n)[0-9]++\.?[0-9]*+\r\n")
"""A request line that is fine but for its version: 505 rather than 400."""

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (" + VALUE + rb"))?\r\n")
"""RFC 9112 section 4. Groups: minor version, status, reason. Many servers leave out the reason with its space."""

CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15}+)(?:;"
    + TOKEN
    + rb"(?:=(?:"
    + TOKEN
    + rb'|"(?:[\t\x20-\x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*+"))?)*+'
)
"""RFC 9112 section 7.1: the size of a chunk, and extensions without the white space that RFC 9112 calls bad. Fifteen
digits are 2^60: no parser of a 64-bit size disagrees about one.
"""

NOT_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""What can be refused before a head is complete: control characters, a bare LF, a bare CR."""

FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
"""A field name as we write it: a token in lower case."""

FIELD_VALUE = re.compile(VALUE)
TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*+")
"""Origin-form, RFC 9112 section 3.2.1."""

ABSOLUTE = re.compile(rb"(?i:http)://([^/?#@]++)([/?][\x21\x22\x24-\x7e]*+)?")
"""Absolute-form, RFC 9112 section 3.2.2, in the only scheme that is spoken here. Groups: authority, the rest. No
userinfo (RFC 9110 section 4.2.4).
"""

AUTHORITY = re.compile(rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9._\-]*+)|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""``uri-host [ ":" port ]`` (RFC 9110 section 7.2): a DNS name (underscores occur in compose files), IPv4 or [IPv6]."""

CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")
"""RFC 9110 section 8.6, one value. Eighteen digits fit in 64 bits with a sign."""


FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):(" + VALUE + rb")")
"""One field line, RFC 9112 section 5, without its CRLF. No obs-fold (section 5.2), no white space before the colon
(section 5.1)."""


class MalformedError(ValueError):
    """A line is not a field line."""


_REMEMBERED = 2048
_LONGEST_REMEMBERED = 96
"""Field lines kept, and bytes of the longest: what clients say again and again; less than a megabyte."""

_fields: dict[bytes, tuple[bytes, bytes]] = {}


def read_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """(name in lower case, value without surrounding white space) of every line of a block; each line ends with CRLF.

    Raises ``MalformedError``. Reading a line is pure and most lines repeat from request to request, so short ones are
    remembered (a bounded memory, emptied when full). Long ones are not: they do not repeat, and a token has no business
    outliving its request.
    """
    known = _fields
    fields = []
    lines = block.split(b"\r\n")
    lines.pop()  # what follows the last CRLF: nothing
    for line in lines:
        field = known.get(line)
        if field is None:
            match = FIELD_LINE.fullmatch(line)
            if match is None:
                raise MalformedError
            name, value = match.groups()
            field = (name.lower(), value.strip(b" \t"))
            if len(line) <= _LONGEST_REMEMBERED and field[0] not in _SECRET:
                if len(known) >= _REMEMBERED:
                    known.clear()
                known[line] = field
        fields.append(field)
    return fields


def remembers_fields(block: bytes) -> bool:
    """True while every line of a block is remembered: none is long, and none is a secret by its name."""
    return all(line in _fields for line in block.split(b"\r\n")[:-1])


_SECRET = frozenset([b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-auth"])


CONNECTION_OPTIONS = frozenset((b"", b"close", b"keep-alive", b"upgrade", b"te"))
"""Connection options that mean something to a connection; any other names a field that ends here."""


def split_list(value: bytes) -> list[bytes]:
    """The members of a comma-separated list of tokens, in lower case (RFC 9110 section 5.6.1)."""
    value = value.lower()
    if b"," not in value:
        return [value.strip(b" \t")]
    return [token.strip(b" \t") for token in value.split(b",")]
