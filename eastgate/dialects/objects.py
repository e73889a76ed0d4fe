"""Objects that are JSON values already, from the API server or out of a bundle: Python data in, ``Value`` out.

No YAML is scanned, so there are no lines: every position is line 1 of what the caller calls the file, and the field
path says where. The limits are those of ``documents``. Must not know what any object means.
"""

from __future__ import annotations

from typing import Any

from eastgate.dialects.documents import MAX_DEPTH, MAX_NODES
from eastgate.dialects.values import Value
from eastgate.model.diagnostics import Diagnostic, Position, Severity

LARGEST_INTEGER = 10**39
"""From here on a number is read as floating point, as ``documents`` does."""

_NO_KEYS: dict[str, Position] = {}
"""Where keys stand: nowhere. Shared, for it is never written to."""


class _RefusedError(Exception):
    """Python data that is no JSON value, or beyond the limits. The message is for the author."""


def read_value(file: str, data: object, sink: list[Diagnostic]) -> Value | None:
    """The value tree, or None after saying why there is none. It may be read as often as wanted: nobody changes it."""
    try:
        return _Builder(Position(file, 1)).build(data, "", 0)
    except _RefusedError as error:
        sink.append(Diagnostic(Position(file, 1), Severity.ERROR, "not-json", str(error)))
        return None


class _Builder:
    def __init__(self, position: Position) -> None:
        self.position = position
        self.count = 0

    def build(self, data: Any, path: str, depth: int) -> Value:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise _RefusedError(f"more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}")
        if isinstance(data, str):
            if not data.isascii():
                _check_text(data, path)
            built: Any = data
        elif isinstance(data, dict):
            prefix = f"{path}." if path else ""
            built = {}
            for key, inner in data.items():
                if not isinstance(key, str):
                    raise _RefusedError(f"{path or 'the object'} has a key that is no string")
                if not key.isascii():
                    _check_text(key, path)
                built[key] = self.build(inner, prefix + key, depth + 1)
        elif isinstance(data, (list, tuple)):
            built = [self.build(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(data)]
        elif data is None or isinstance(data, (bool, float)):
            built = data
        elif isinstance(data, int):
            built = data if -LARGEST_INTEGER < data < LARGEST_INTEGER else _approximate(data)
        else:
            raise _RefusedError(f"{path or 'the object'} is no JSON value but a {type(data).__name__}")
        return Value(built, path, self.position, _NO_KEYS)


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _RefusedError(f"{path or 'the object'}: half of a surrogate pair is not a character") from None


def _approximate(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
