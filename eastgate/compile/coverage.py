"""Routes that no request can reach, because another one takes everything they would match.

Knows: when one match accepts all that another does, as far as that can be read off without thinking about languages
(two regular expressions are compared as texts). Must not know: policies. Says nothing where it is not sure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from eastgate.compile.hosts import ANY
from eastgate.compile.routes import alternatives_of, precedence
from eastgate.model.routes import Comparison, Match, Order, Route, StringMatch

Entry = tuple[Route, int, Match]


def find_unreachable(routes: Sequence[Route]) -> Iterator[tuple[Route, Route]]:
    """Pairs of a route that can never match and one that is always found before it."""
    groups: defaultdict[tuple[Order, str, str], list[Entry]] = defaultdict(list)
    for route in routes:
        for index, match in enumerate(alternatives_of(route)):
            for host in route.hosts or (ANY,):
                # No namespace takes a request away from another's routes.
                groups[route.order, route.namespace, host].append((route, index, match))
    takers: defaultdict[int, dict[tuple[str, int], Route]] = defaultdict(dict)
    for (order, _, host), entries in groups.items():
        if order is Order.PRECEDENCE:
            entries.sort(key=_precedence_of)
        for (route, index, _), taker in _covered(entries):
            takers[id(route)][host, index] = taker
    for route in routes:
        taken = takers.get(id(route), {})
        if taken and len(taken) == len(alternatives_of(route)) * len(set(route.hosts or (ANY,))):
            yield route, next(iter(taken.values()))


def _precedence_of(entry: Entry) -> tuple[Any, ...]:
    route, index, match = entry
    return precedence(route, match, index)


def _covered(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Route]]:
    """Each entry whose requests an earlier one of another route takes."""
    earlier = _Earlier()
    identical: dict[Match, Route] = {}
    for entry in entries:
        route, _, match = entry
        taker = identical.get(match)
        if taker is None or taker is route:
            taker = earlier.find_taker(entry)
        if taker is not None:
            yield entry, taker
        elif match not in identical:
            identical[match] = route
            # Narrow matches cover next to nothing but themselves: only the wide ones are worth comparing with.
            if not (match.headers or match.query):
                earlier.add(entry)


type _Key = StringMatch | tuple[Comparison, bool, str] | None


class _Earlier:
    """Entries by their path, so that one is compared with those whose path could cover its own, not with all."""

    def __init__(self) -> None:
        self._entries: defaultdict[_Key, list[tuple[int, Entry]]] = defaultdict(list)
        self._prefix_lengths: set[int] = set()
        self._count = 0

    def add(self, entry: Entry) -> None:
        path = entry[2].path
        key: _Key = path
        if path is None or _is_total(path):
            key = None
        elif path.comparison is Comparison.PREFIX:
            key = (Comparison.PREFIX, path.ignore_case, path.value)
            self._prefix_lengths.add(len(path.value))
        elif path.comparison is Comparison.SEGMENTS:
            key = (Comparison.SEGMENTS, path.ignore_case, path.value.rstrip("/"))
        self._entries[key].append((self._count, entry))
        self._count += 1

    def find_taker(self, entry: Entry) -> Route | None:
        """The first route that takes the requests of an entry of another route."""
        route, _, narrow = entry
        found = [
            (place, taker)
            for key in self._keys(narrow.path)
            for place, (taker, _, wide) in self._entries.get(key, ())
            if taker is not route and covers(wide, narrow)
        ]
        return min(found, key=lambda one: one[0])[1] if found else None

    def _keys(self, narrow: StringMatch | None) -> Iterator[_Key]:
        """Where everything stands that covers a path."""
        yield None
        if narrow is None:
            return
        yield narrow
        value, ignore_case = narrow.value, narrow.ignore_case
        if narrow.comparison in (Comparison.EXACT, Comparison.PREFIX):
            for length in self._prefix_lengths:
                if length <= len(value):
                    yield Comparison.PREFIX, ignore_case, value[:length]
        if narrow.comparison in (Comparison.EXACT, Comparison.SEGMENTS):
            yield from {
                (Comparison.SEGMENTS, ignore_case, value[:end])
                for end in (len(value.rstrip("/")), *(place for place, letter in enumerate(value) if letter == "/"))
            }


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that ``narrow`` matches is one that ``wide`` matches. False when not sure."""
    if wide.method is not None and wide.method != narrow.method:
        return False
    if wide.port is not None and wide.port != narrow.port:
        return False
    if not set(wide.headers) <= set(narrow.headers) or not set(wide.query) <= set(narrow.query):
        return False
    if wide.path is None or _is_total(wide.path):
        return True
    return narrow.path is not None and _path_covers(wide.path, narrow.path)


def _is_total(path: StringMatch) -> bool:
    return path.comparison is Comparison.PRESENT or (
        path.comparison in (Comparison.PREFIX, Comparison.SEGMENTS) and path.value in ("", "/")
    )


def _path_covers(wide: StringMatch, narrow: StringMatch) -> bool:
    if wide == narrow:
        return True
    if narrow.comparison in (Comparison.REGEX, Comparison.PRESENT) or wide.ignore_case is not narrow.ignore_case:
        return False
    if wide.comparison is Comparison.PREFIX:
        return narrow.value.startswith(wide.value) and narrow.comparison is not Comparison.SEGMENTS
    if wide.comparison is Comparison.SEGMENTS and narrow.comparison in (Comparison.EXACT, Comparison.SEGMENTS):
        stem = wide.value.rstrip("/")
        return narrow.value.rstrip("/") == stem or narrow.value.startswith(stem + "/")
    return False
