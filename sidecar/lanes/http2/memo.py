"""A bounded memory for results of pure functions over bytes.

Two generations: what is used moves to the young one; when that is full, the old one is forgotten and the young one
takes its place. Lookups are one or two dictionary reads, no order is kept, and the bound is in bytes. The HTTP/2 lane
keeps decoded and encoded field strings here, so tokens of recent requests are among them, as they are in every HPACK
table: within one process, never beyond the bound, never written anywhere. A hit tells a caller by its speed only that
the very same complete string came by lately.
"""

from __future__ import annotations

_OVERHEAD = 160
"""What an entry costs beside its bytes: two bytes objects and a dictionary slot, measured."""


class RecentMemo[Key: (bytes, tuple[bytes, bytes])]:
    """Remembers the values of recently used keys, up to about ``limit`` bytes."""

    __slots__ = ("_half", "_old", "_weight", "_young")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._weight = 0
        self._young: dict[Key, bytes] = {}
        self._old: dict[Key, bytes] = {}

    def get(self, key: Key) -> bytes | None:
        """The value, if it is remembered."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: Key, value: bytes) -> None:
        """Remember a value."""
        length = len(key) if isinstance(key, bytes) else len(key[0]) + len(key[1])
        weight = length + len(value) + _OVERHEAD
        if weight > self._half:
            return
        if self._weight + weight > self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = value
        self._weight += weight
