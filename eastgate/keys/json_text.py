"""Strict JSON: one text, one meaning, or none.

Everything that two readers could understand differently is refused: a byte-order mark, any encoding but UTF-8,
duplicate members at any depth, ``NaN`` and ``Infinity``, numbers that no double can hold, lone surrogates. So is what
exists to exhaust a reader: depth, size, endless digits. Envoy refuses all of these in tokens; Python's ``json`` and
PyJWT accept most. Must not know: tokens, key sets, or what the value means. Rules: RFC 8259 (sections 4, 6, 8.1), RFC
7493 (I-JSON), RFC 7519 section 4 (duplicate claim names).
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder, dumps
from math import isinf
from typing import NoReturn

MAX_DEPTH = 100
"""Protobuf's default recursion limit, which is what Envoy's JSON reader applies."""

MAX_BYTES = 1 << 20
"""One MiB: more than any published key set, and tokens are capped far lower by their own reader."""

_MAX_NUMBER_DIGITS = 309
"""The decimal digits of the largest double (RFC 8259 section 6: interoperable numbers are doubles)."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# A string always matches, closed or not, so that no starting quote is scanned twice: linear in the worst case.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class JSONTextError(ValueError):
    """The text is not strict JSON. ``str()`` says which rule it breaks and never quotes the text."""


def _refuse_constant(_name: str) -> NoReturn:
    raise JSONTextError("NaN and Infinity are not JSON")


def _read_integer(text: str) -> int:
    if len(text) >= _MAX_NUMBER_DIGITS and (len(text) > _MAX_NUMBER_DIGITS + 1 or isinf(float(text))):
        raise JSONTextError("a number is too large")
    return int(text)


def _read_fraction(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise JSONTextError("a number is too large")
    return value


def _read_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JSONTextError("an object has two members of one name")
    return members


_decoder = JSONDecoder(
    object_pairs_hook=_read_members,
    parse_int=_read_integer,
    parse_float=_read_fraction,
    parse_constant=_refuse_constant,
)


def _check_depth(text: str) -> None:
    """Refuse nesting deeper than the limit. Most texts have too few brackets to need a look."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        mark = found.group()
        if mark in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                raise JSONTextError(f"nested deeper than {MAX_DEPTH} levels")
        elif mark in ("}", "]"):
            depth -= 1


def parse_json(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> object:
    """The value of a JSON text; ``JSONTextError`` where there is any doubt about it."""
    if len(data) > max_bytes:
        raise JSONTextError(f"longer than {max_bytes} bytes")
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise JSONTextError("not UTF-8") from None
    else:
        text = data
        if not text.isascii():
            _check_surrogates(text)
    if text.startswith("\ufeff"):
        raise JSONTextError("starts with a byte-order mark")
    _check_depth(text)
    try:
        value: object = _decoder.decode(text)
    except JSONDecodeError as error:
        # The message of the exception is a fixed phrase; its ``doc`` is the whole text and must not travel on.
        raise JSONTextError(f"line {error.lineno} column {error.colno}: {error.msg.lower()}") from None
    except RecursionError:
        raise JSONTextError(f"nested deeper than {MAX_DEPTH} levels") from None
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value)
    return value


def _check_surrogates(value: object) -> None:
    """Refuse half of a surrogate pair: it has no UTF-8 form, and readers disagree on what it is (RFC 8259 section
    8.2).
    """
    try:
        dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JSONTextError("a string holds half of a surrogate pair") from None
