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
    earlier: list[Entry] = []
    identical: dict[Match, Route] = {}
    for entry in entries:
        route, _, match = entry
        taker = identical.get(match)
        if taker is None or taker is route:
            taker = next((one for one, _, wide in earlier if one is not route and covers(wide, match)), None)
        if taker is not None:
            yield entry, taker
        elif match not in identical:
            identical[match] = route
            # Narrow matches cover next to nothing but themselves: only the wide ones are worth comparing with.
            if not (match.headers or match.query):
                earlier.append(entry)


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
