"""Base64url as JOSE means it: one encoding of each value.

Knows: RFC 7515 section 2 (no padding, no line breaks, no other characters) and RFC 4648 section 3.5 (the unused
trailing bits are zero). Envoy accepts other trailing bits and PyJWT accepts padding; either gives one token several
spellings.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64

_ALPHABET = re.compile(rb"[A-Za-z0-9_-]*+")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_PADDING = (b"", None, b"==", b"=")
# The last character of a group of two has four unused bits, of three has two: these are the ones where they are zero.
_CANONICAL_ENDS = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}


class Base64Error(ValueError):
    """Not canonical base64url. Never quotes the text."""


def decode_base64url(text: bytes) -> bytes:
    """The bytes behind a canonical, unpadded base64url text."""
    rest = len(text) & 3
    padding = _PADDING[rest]
    if padding is None or _ALPHABET.fullmatch(text) is None or (rest and text[-1] not in _CANONICAL_ENDS[rest]):
        raise Base64Error("not base64url")
    return a2b_base64(text.translate(_STANDARD) + padding)


def encode_base64url(data: bytes) -> bytes:
    """The canonical base64url text of some bytes."""
    return urlsafe_b64encode(data).rstrip(b"=")
