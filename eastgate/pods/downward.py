"""The files of a downward API volume: a pod's labels or annotations, as kubelet writes them.

One ``key="value"`` a line, sorted, the value quoted by Go's ``strconv.Quote`` (kubelet: ``fieldpath.FormatMap``, whose
``%q`` is that). What ``Quote`` never writes is refused: a file half understood would be a pod half known.

Knows: the format. Must not know: which keys there are, or where the file is.
"""

from __future__ import annotations

import re
from typing import Final

_LINE: Final = re.compile(r'([^\s="]+)="((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(
    rb'\\(?:([abfnrtv\\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.?))',
    re.DOTALL,
)
_PLAIN: Final = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\", b'"': b'"',
}  # fmt: skip


class DownwardError(ValueError):
    """What is wrong with the file. ``str()`` quotes no value."""


def read_pairs(text: bytes) -> dict[str, str]:
    """Labels or annotations. Raises ``DownwardError``."""
    try:
        lines = text.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise DownwardError("not UTF-8 text") from None
    if lines == [""]:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DownwardError(f'line {number} is not key="value"')
        key, quoted = match.groups()
        if key in found:
            raise DownwardError(f"line {number}: `{key}` is there already")
        try:
            found[key] = _unquote(quoted) if "\\" in quoted else quoted
        except ValueError:
            raise DownwardError(f"line {number}: the value of `{key}` has an escape that Go does not write") from None
    return found


def _unquote(quoted: str) -> str:
    """Go's strings are bytes, and so are some of its escapes. Bytes that are no UTF-8 become U+FFFD."""
    return _ESCAPE.sub(_replace, quoted.encode()).decode("utf-8", "replace")


def _replace(match: re.Match[bytes]) -> bytes:
    plain, byte, short, long, other = match.groups()
    if plain is not None:
        return _PLAIN[plain]
    if byte is not None:
        return bytes((int(byte, 16),))
    if other is not None:
        raise ValueError
    return chr(int(short or long, 16)).encode()  # half of a surrogate pair is no character: UnicodeEncodeError


def write_pairs(pairs: dict[str, str]) -> str:
    """The same file as kubelet would write it, for demonstrations and tests."""
    return "\n".join(f'{key}="{_quote(value)}"' for key, value in sorted(pairs.items()))


def _quote(value: str) -> str:
    names = {escaped[0]: f"\\{name.decode()}" for name, escaped in _PLAIN.items()}
    return "".join(names.get(ord(one)) or (one if one.isprintable() else _quote_character(ord(one))) for one in value)


def _quote_character(code: int) -> str:
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
