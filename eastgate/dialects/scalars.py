"""What a scalar without quotes means to kubectl: sigs.k8s.io/yaml, which is go-yaml v2.

``yes``/``on``/``y`` are booleans, ``0777`` is octal, ``1:30`` and dates are strings. Keys are taken the same way, and
written as JSON keys: ``on:`` is ``true``. Must not know: documents, tags, quotes.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from typing import Any

_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_NUMERIC = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

_FLOAT32 = struct.Struct("<f")


def read_scalar(text: str) -> Any:
    """What a plain scalar means: a boolean, a number, None, or the text itself."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text in _NULL:
        return None
    if text[0] not in _NUMERIC:
        return text
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        unsigned = digits.lstrip("+-")
        if len(unsigned) > 1 and unsigned[0] == "0" and unsigned[1].isdigit():
            digits = digits.replace(unsigned, "0o" + unsigned[1:])
        if len(unsigned) < 40:
            try:
                return int(digits, 0)
            except ValueError:  # ``0x_`` has the look of a number and no digits
                return text
    if _FLOAT.fullmatch(text):
        number = float(text)
        return text if math.isinf(number) else number
    return text


def name_key(value: object, text: str) -> str:
    """A key that is no string, as sigs.k8s.io/yaml writes it: ``on`` is ``true``, ``0x10`` is ``16``, and ``1.10`` is
    ``1.1``.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return _write_float(value, text) if isinstance(value, float) else str(value)


def _write_float(number: float, text: str) -> str:
    """Go's ``strconv.FormatFloat(number, 'g', -1, 32)``: the fewest digits that a float32 needs."""
    try:
        wanted = _FLOAT32.pack(number)
    except OverflowError:
        return text
    (single,) = _FLOAT32.unpack(wanted)
    shown = next(one for digits in range(9) if _FLOAT32.pack(float(one := f"{single:.{digits}e}")) == wanted)
    return f"{Decimal(shown):f}" if -4 <= int(shown.partition("e")[2]) < 6 else shown
