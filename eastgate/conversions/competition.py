"""Which routes could match one request, and so depend on who is asked first.

Careful in one direction only: what is told apart here never meets, what is not might. Rules: ``compile.matchers``.
"""

from __future__ import annotations

from collections.abc import Iterable

from eastgate.compile.hosts import ANY, normalise_host, service_hosts
from eastgate.compile.paths import canonicalise_configured_path
from eastgate.model.routes import Comparison, FieldMatch, Match, Route, StringMatch

_WHOLE = (Comparison.EXACT, Comparison.SEGMENTS, Comparison.PREFIX)


def hosts_of(route: Route) -> frozenset[str]:
    """The hosts under which a route is found: its own, and the names of the Services that it leads to."""
    hosts = {normalise_host(host) for host in route.hosts} or {ANY}
    for one in route.destinations:
        if one.kind == "Service":
            hosts.update(service_hosts(one.namespace, one.name))
    return frozenset(hosts)


def covers(pattern: str, host: str) -> bool:
    """Whether a wildcard stands for a host, or for all that a longer wildcard stands for. Not for itself."""
    if not pattern.startswith(ANY) or pattern == host:
        return False
    return host.endswith(pattern[1:]) and len(host.removeprefix(ANY)) > len(pattern) - 1 if pattern != ANY else True


def may_meet(one: Iterable[Match], other: Iterable[Match]) -> bool:
    """Whether some request could match an alternative of each."""
    others = tuple(other) or (Match(),)
    return any(_may_both_match(first, second) for first in tuple(one) or (Match(),) for second in others)


def _may_both_match(one: Match, other: Match) -> bool:
    if one.method and other.method and one.method.upper() != other.method.upper():
        return False
    if one.port is not None and other.port is not None and one.port != other.port:
        return False
    if one.path is not None and other.path is not None and not _may_paths_meet(one.path, other.path):
        return False
    return not any(
        _exclude(first, second)
        for mine, theirs in ((one.headers, other.headers), (one.query, other.query))
        for first in mine
        for second in theirs
        if first.name == second.name
    )


def _exclude(one: FieldMatch, other: FieldMatch) -> bool:
    """Whether no value fits both."""
    if one.invert or other.invert:
        return one.invert is not other.invert and one.value == other.value
    exact = one.value.comparison is Comparison.EXACT and other.value.comparison is Comparison.EXACT
    folded = one.value.ignore_case or other.value.ignore_case
    return exact and not folded and one.value.value != other.value.value


def _may_paths_meet(one: StringMatch, other: StringMatch) -> bool:
    if one.comparison not in _WHOLE or other.comparison not in _WHOLE:
        return True
    first, second = (canonicalise_configured_path(path.value) for path in (one, other))
    if one.ignore_case or other.ignore_case:
        first, second = first.lower(), second.lower()
    return _covers(one.comparison, first, other.comparison, second) or _covers(
        other.comparison, second, one.comparison, first
    )


def _covers(comparison: Comparison, wide: bytes, other: Comparison, narrow: bytes) -> bool:
    """Whether the first condition holds for some path that the second is about, and begins no later than it."""
    if comparison is Comparison.EXACT:
        return other is Comparison.EXACT and wide == narrow
    if comparison is Comparison.PREFIX:
        return narrow.startswith(wide)
    stem = wide.rstrip(b"/")
    if other is Comparison.PREFIX and (stem + b"/").startswith(narrow):
        return True
    return not stem or narrow == stem or narrow.startswith(stem + b"/")
