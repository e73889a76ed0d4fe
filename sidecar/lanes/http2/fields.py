"""HPACK (RFC 7541): a decoder for the client's request heads, and literals for what the lane writes itself.

Knows: the static table, one dynamic table of at most 4096 bytes, integers, strings, bounds. Must not know: what a field
means. Nothing the lane writes enters a dynamic table, on either side: each field is a reference to the static table or
a never-indexed literal without Huffman coding, so its encoder has no state, and the application's own encoder, whose
blocks pass undecoded, never notices what was written between them. Differential-tested against ``hpack``.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.table import HeaderTable

from sidecar.lanes.http2.huffman import HuffmanError, decode_huffman
from sidecar.lanes.http2.memo import RecentMemo

type Field = tuple[bytes, bytes]

TABLE_BYTES = 4096
"""SETTINGS_HEADER_TABLE_SIZE's default. The client is never told of another, whatever the application would like."""

FIELD_OVERHEAD = 32
"""What a field counts beside its bytes, in tables and in list sizes (RFC 7541 section 4.1, RFC 9113 section 6.5.2)."""

_LONGEST_INTEGER = 5
"""Continuation bytes of an integer: 35 bits, beyond any length or index. Envoy and nghttp2 stop at 32 bits."""

_MEMO_BYTES = 4 * 1024 * 1024
_STATIC: tuple[Field, ...] = tuple((bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE)
_STATIC_COUNT = len(_STATIC)

_literals: RecentMemo[Field] = RecentMemo(_MEMO_BYTES)


class FieldsError(Exception):
    """A block that cannot be decoded: the table is in doubt, and with it the connection (COMPRESSION_ERROR)."""


class FieldsTooLargeError(Exception):
    """A list beyond its bounds. The block was decoded to its end: the table is right and the connection may go on."""


class FieldDecoder:
    """One client's decoding context. ``version`` changes whenever the dynamic table does.

    A list larger than ``list_bytes`` (RFC 9113 section 6.5.2's way of counting) or ``list_fields`` is not returned.
    """

    __slots__ = ("_limit", "_list_bytes", "_list_fields", "_size", "_table", "version")

    def __init__(self, list_bytes: int, list_fields: int) -> None:
        self._list_bytes = list_bytes
        self._list_fields = list_fields
        self._table: list[Field] = []  # newest last
        self._size = 0
        self._limit = TABLE_BYTES
        self.version = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of one block."""
        try:
            return self._decode(block)
        except (IndexError, HuffmanError):
            raise FieldsError("not an HPACK block") from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        total = 0
        position = 0
        end = len(block)
        begun = False
        while position < end:
            first = block[position]
            position += 1
            if first & 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _read_integer(block, position, 0x7F)
                field = self._look_up(index)
            elif first & 0xE0 == 0x20:
                if begun:
                    raise FieldsError("table size update after a field")
                size = first & 0x1F
                if size == 0x1F:
                    size, position = _read_integer(block, position, 0x1F)
                self._resize(size)
                continue
            else:
                mask = 0x3F if first & 0x40 else 0x0F
                index = first & mask
                if index == mask:
                    index, position = _read_integer(block, position, mask)
                if index:
                    name = self._look_up(index)[0]
                else:
                    name, position = _read_string(block, position, end)
                value, position = _read_string(block, position, end)
                field = (name, value)
                if first & 0x40:
                    self._insert(field)
            begun = True
            total += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if total <= self._list_bytes:
                fields.append(field)
        if total > self._list_bytes or len(fields) > self._list_fields:
            raise FieldsTooLargeError("field list beyond its bounds")
        return fields

    def _look_up(self, index: int) -> Field:
        if index <= _STATIC_COUNT:
            if not index:
                raise FieldsError("index zero")
            return _STATIC[index - 1]
        index -= _STATIC_COUNT
        if index > len(self._table):
            raise FieldsError("index beyond the table")
        return self._table[-index]

    def _insert(self, field: Field) -> None:
        self.version += 1
        size = len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._evict(self._limit - size)
        if size <= self._limit:
            self._table.append(field)
            self._size += size

    def _resize(self, limit: int) -> None:
        if limit > TABLE_BYTES:
            raise FieldsError("table larger than allowed")
        self.version += 1
        self._limit = limit
        self._evict(limit)

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until the rest takes at most ``room`` bytes."""
        table = self._table
        count = 0
        while self._size > room and count < len(table):
            name, value = table[count]
            self._size -= len(name) + len(value) + FIELD_OVERHEAD
            count += 1
        if count:
            del table[:count]


def _read_integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was full (RFC 7541 section 5.1), and the position after it."""
    value = prefix
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise FieldsError("integer too long")


def _read_string(block: bytes, position: int, end: int) -> tuple[bytes, int]:
    first = block[position]
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _read_integer(block, position, 0x7F)
    after = position + length
    if after > end:
        raise FieldsError("string beyond the block")
    text = block[position:after]
    return (decode_huffman(text) if first & 0x80 else text), after


# --- writing ------------------------------------------------------------------------------------------------------

_STATIC_NAMES: dict[bytes, int] = {}
_STATIC_FIELDS: dict[Field, bytes] = {}
for _index, _field in enumerate(_STATIC, start=1):
    _STATIC_NAMES.setdefault(_field[0], _index)
    if _field[1]:
        _STATIC_FIELDS[_field] = bytes((0x80 | _index,))


def encode_fields(fields: Iterable[Field]) -> bytes:
    """A block that leaves every dynamic table as it was."""
    return b"".join([encode_field(field) for field in fields])


def encode_field(field: Field) -> bytes:
    """One field: from the static table if it is there, else a never-indexed literal."""
    text = _literals.get(field)
    if text is None:
        text = _STATIC_FIELDS.get(field) or _encode_literal(*field)
        _literals.put(field, text)
    return text


def _encode_literal(name: bytes, value: bytes) -> bytes:
    index = _STATIC_NAMES.get(name, 0)
    head = _encode_integer(index, 0x0F, 0x10)
    if not index:
        head += _encode_integer(len(name), 0x7F, 0) + name
    return head + _encode_integer(len(value), 0x7F, 0) + value


def encode_table_size(size: int) -> bytes:
    """A dynamic table size update, only right at the start of a block (RFC 7541 section 6.3)."""
    return _encode_integer(size, 0x1F, 0x20)


def _encode_integer(value: int, mask: int, flags: int) -> bytes:
    if value < mask:
        return bytes((flags | value,))
    text = bytearray((flags | mask,))
    value -= mask
    while value >= 0x80:
        text.append(value & 0x7F | 0x80)
        value >>= 7
    text.append(value)
    return bytes(text)
