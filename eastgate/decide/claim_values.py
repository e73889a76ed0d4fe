"""Claims as other people need them: found by name, split into scopes, written into a header.

Knows: how Envoy looks a claim up and turns it into a header value (``authenticator.cc``, ``addJWTClaimToHeader``),
and RFC 8693's and RFC 9068's ``scope``. Must not know: which claims a policy asks for, or which header they go to.
Deliberately unlike Envoy: an integer below 2^64 keeps every digit (Envoy rounds above 2^53).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from json import dumps
from typing import Final

_UINT64_END = 2**64

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters other than tab: no field value holds one (RFC 9110 section 5.5)."""


class UnsafeClaimError(ValueError):
    """A claim that would not stay one header value. The token was validly signed, so its issuer is at fault; the
    request must be refused (Envoy: 503). Never quotes the value.
    """


class _Missing:
    """What ``find_claim`` gives for a claim that is not there; ``null`` is there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


def find_claim(claims: Mapping[str, object], literal: str, path: Sequence[str]) -> object:
    """The claim of that very name, else the one that ``path`` leads to through nested objects, else ``MISSING``."""
    if literal in claims:
        return claims[literal]
    found: object = claims
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return MISSING
        found = found[name]
    return found if path else MISSING


def split_scopes(value: object) -> tuple[str, ...]:
    """The words of a ``scope`` string (separated by spaces, RFC 6749 section 3.3), or the strings of an ``scp``
    list.
    """
    if isinstance(value, str):
        return tuple(word for word in value.split(" ") if word)
    if isinstance(value, list):
        return tuple(word for word in value if isinstance(word, str))
    return ()


def claim_header_value(value: object) -> bytes | None:
    """The header value of a claim, or None for no header (missing, ``null``, empty). Raises ``UnsafeClaimError``.

    A string as it is, in UTF-8; ``true``/``false``; a whole number below 2^64 as digits, any other number with six
    decimals; a list or object as base64 of its compact JSON.
    """
    if value is MISSING or value is None:
        return None
    if isinstance(value, str):
        if _UNSAFE.search(value):
            raise UnsafeClaimError("a control character in a claim that goes into a header")
        # White space at the ends belongs to the field, not to the value: the application would never see it.
        return value.strip(" \t").encode("utf-8") or None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return _write_number(value).encode("ascii")
    text = dumps(_whole_numbers(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return b64encode(text.encode("utf-8"))


def _write_number(value: int | float) -> str:
    if 0 <= value < _UINT64_END and value == int(value):
        return str(int(value))
    return f"{float(value):f}"


def _whole_numbers(value: object) -> object:
    """``1.0`` becomes ``1`` inside of lists and objects too, as Envoy writes them."""
    if isinstance(value, list):
        return [_whole_numbers(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole_numbers(one) for name, one in value.items()}
    if isinstance(value, float) and 0 <= value < _UINT64_END and value.is_integer():
        return int(value)
    return value
