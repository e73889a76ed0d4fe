"""Sets of TCP ports as people write them: ``8080,9000-9010``.

Knows: the notation, and what it means. Must not know: which annotation it stands in, or which ports are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ACCEPTED = "ports and ranges from 1 to 65535, comma-separated, as 8080,9000-9010"

MAX_PORT = 65535

MAX_ENTRIES = 128
"""Entries of one list. Every range is a rule of the kernel's; iptables' multiport takes 15 a rule (Linkerd splits)."""

_ENTRY = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports as sorted ranges, both ends included, that neither overlap nor touch."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ports: Iterable[int]) -> PortSet:
        """The set of these ports."""
        return _merge((port, port) for port in ports)

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and any(first <= port <= last for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        """The notation, which ``read_ports`` reads back."""
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)

    def __and__(self, other: PortSet) -> PortSet:
        """The ports that are in both."""
        shared = (
            (max(one[0], two[0]), min(one[1], two[1]))
            for one in self.ranges
            for two in other.ranges
            if one[0] <= two[1] and two[0] <= one[1]
        )
        return _merge(shared)

    def __or__(self, other: PortSet) -> PortSet:
        """The ports that are in either."""
        return _merge((*self.ranges, *other.ranges))


NO_PORTS = PortSet()


def read_ports(text: str) -> PortSet:
    """The set that a text means. Raises ``ValueError`` with the entry that is at fault."""
    entries = [entry.strip() for entry in text.split(",")]
    if entries == [""]:
        raise ValueError("the list is empty")
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} entries")
    return _merge(_read_entry(entry) for entry in entries)


def _read_entry(entry: str) -> tuple[int, int]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(f"`{entry[:40]}` is no port and no range" if entry else "there is an empty entry")
    first = int(match[1])
    last = int(match[2] or first)
    if not 1 <= first <= MAX_PORT or not 1 <= last <= MAX_PORT:
        raise ValueError(f"`{entry}` is not within 1-{MAX_PORT}")
    if last < first:
        raise ValueError(f"`{entry}` ends before it begins")
    return first, last


def _merge(ranges: Iterable[tuple[int, int]]) -> PortSet:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return PortSet(tuple(merged))
