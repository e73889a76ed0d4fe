"""Routes as something to ask: which bind to a workload, in what order they compete, and who matches a request.

Rules: Gloo and own tables take the first match in reading order; the Gateway API takes the most specific (as Envoy
Gateway sorts: exact, then regular expression, then prefix; longer; method; headers; query; age; name). Each of the two
families finds its own match, and the policies of both hold. Whose word a route is, its ``Standing`` says: no namespace
takes a request away from another's routes (docs/decisions/0004). Must not know: policies, tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from eastgate.compile.hosts import ANY, HostIndex, normalise_host, service_hosts
from eastgate.compile.matchers import BytesTest, RequestTest, compile_conditions, compile_path
from eastgate.compile.services import ServiceDirectory
from eastgate.model.requests import Request
from eastgate.model.routes import ANYBODY, Action, Comparison, Destination, Match, Order, Route, StringMatch
from eastgate.model.workloads import Workload

LARGE_GROUP = 16
"""Candidates of one host from which remembering the fitting ones by path is cheaper than trying all."""

MAX_NARROWED = 4096
MAX_NARROWED_PATH = 512
"""Paths remembered, and their length: a few megabytes at most."""

EVERYTHING = Match()
_HARMLESS_FIELDS = ("backendrefs", "parentrefs", "destinations")
_RANK = {Comparison.EXACT: 0, Comparison.REGEX: 1, Comparison.SEGMENTS: 2, Comparison.PREFIX: 2, Comparison.PRESENT: 3}


class Candidate[Found](NamedTuple):
    """One alternative of one route. None in ``path`` or ``rest`` accepts everything. A ``certain`` one that matches
    ends the search; one that is not (a form after rewriting, an unknown port) only says what the request could be.
    None: it is a guest's, and ends the search for guests only.
    """

    path: BytesTest | None
    rest: RequestTest | None
    certain: bool | None
    found: Found


class Standing(Enum):
    """Whose word a route is, seen from the workload: its own namespace's; that of a ``GUEST``, a namespace which may
    lead here by leave of the workload's (ReferenceGrant); or that of a ``FOREIGN`` one, which nobody asked.
    """

    OWN = "own"
    GUEST = "guest"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Bound:
    """A route that leads to the workload. ``ports`` None: to every port. ``local`` are the destinations that are it.
    ``voice`` are the other namespaces whose word it is as well: routes of different voices do not compete.
    """

    route: Route
    ports: frozenset[int] | None
    local: tuple[Destination, ...]
    standing: Standing = Standing.OWN
    voice: tuple[str, ...] = ()


def bind(route: Route, workload: Workload, services: ServiceDirectory) -> Bound | None:
    """The route as it concerns a workload, or None when it leads elsewhere."""
    if workload.one_port:
        route = forget_ports(route)
    if workload.services is None:
        # The file set is one workload behind one upstream: nothing leads elsewhere, and ports mean nothing.
        return Bound(route, None, tuple(one for one in route.destinations if one.kind == "Service"))
    local = list[Destination]()
    ports: set[int] | None = set()
    for destination in route.destinations:
        for namespace, name, port in workload.services:
            if (destination.kind, destination.namespace, destination.name) != ("Service", namespace, name):
                continue
            if not services.may_be_same_port(namespace, name, destination.port, port):
                continue
            local.append(destination)
            targets = services.targets(namespace, name, destination.port if destination.port is not None else port)
            ports = None if ports is None or targets is None else ports | targets
    homes = frozenset({workload.namespace}.union(namespace for namespace, _, _ in workload.services))
    standing = _standing_of(route, local, homes)
    if local:
        bound = None if ports is None or workload.one_port else frozenset(ports)
    elif route.invalid and not route.destinations and (standing is Standing.OWN or _may_mean(route, homes)):
        bound = None
    else:
        return None
    return Bound(route, bound, tuple(local), standing, _voice_of(route, standing, homes))


def _standing_of(route: Route, local: Iterable[Destination], homes: frozenset[str]) -> Standing:
    if not homes.isdisjoint((route.namespace, *route.asked)):
        return Standing.OWN
    granted = {(one.namespace, one.name) in route.granted for one in local}
    return Standing.GUEST if granted == {True} else Standing.FOREIGN


def _voice_of(route: Route, standing: Standing, homes: frozenset[str]) -> tuple[str, ...]:
    """The namespaces above the topmost table that is the workload's own, or the guest's; of a foreign one all."""
    chain = (*route.through, route.namespace)
    if standing is not Standing.FOREIGN:
        heard = homes if standing is Standing.OWN else {route.namespace}
        chain = chain[: next(index for index, namespace in enumerate(chain) if namespace in heard)]
    return tuple(dict.fromkeys(chain))


def _may_mean(route: Route, homes: frozenset[str]) -> bool:
    """Whether a broken route that leads nowhere readable could have been for a workload of these namespaces."""
    return ANYBODY in route.mentions or not homes.isdisjoint(route.mentions)


def forget_ports(route: Route) -> Route:
    """The route without conditions on the port, for a workload whose one port stands for every port."""
    if all(match.port is None for match in (*route.matches, *route.rewritten)):
        return route
    matches, rewritten = (
        tuple(replace(match, port=None) for match in some) for some in (route.matches, route.rewritten)
    )
    return replace(route, matches=matches, rewritten=rewritten)


def hosts_of(bound: Bound) -> dict[str, bool]:
    """The host groups that a route contributes to: its own hosts and its Services' names (True), and those that a
    sender may rewrite its hosts to (False: whether the request came this way is not certain).
    """
    groups = {normalise_host(host): False for host in bound.route.rewritten_hosts}
    groups |= {normalise_host(host) if host != ANY else ANY: True for host in bound.route.hosts or (ANY,)}
    for destination in bound.local:
        groups |= dict.fromkeys(service_hosts(destination.namespace, destination.name), True)
    return groups


def is_readable(route: Route) -> bool:
    """Whether the matches and hosts of a broken route can be trusted: only where it leads is what was wrong."""
    fields = [message.partition(": ")[0].lower() for message in route.invalid]
    return all(" " not in field and any(known in field for known in _HARMLESS_FIELDS) for field in fields)


def alternatives_of(route: Route) -> tuple[Match, ...]:
    """The matches of a route as requests are sent. What cannot be read of a broken route matches everything."""
    if route.action is Action.NOBODY:
        return ()
    if route.invalid and not is_readable(route):
        return (EVERYTHING,)
    return route.matches or (EVERYTHING,)


def header_names_of(route: Route) -> frozenset[bytes]:
    """The headers that its matches look at, spelled as ``Plan.asserted`` is."""
    names = {header.name for match in (*route.matches, *route.rewritten) for header in match.headers}
    return frozenset(name.lower().replace("_", "-").encode("utf-8", "replace") for name in names)


def compile_match(match: Match, ports: frozenset[int] | None) -> tuple[BytesTest | None, RequestTest | None]:
    """The tests of one match; raises ``MatcherError``."""
    return (compile_path(match.path) if match.path is not None else None), compile_conditions(match, ports)


def accepted_ports(match: Match, bound: Bound, services: ServiceDirectory) -> tuple[frozenset[int] | None, bool]:
    """The ports that ``Match.port`` accepts, and whether that is certain: itself, and the container ports behind a
    Service's port of that number. A container port that is not known could be any.
    """
    if match.port is None:
        return None, True
    found = {match.port}
    for destination in bound.local:
        targets = services.targets(destination.namespace, destination.name, match.port)
        if targets is None:
            return None, False
        found |= targets
    return frozenset(found), True


def precedence(route: Route, match: Match, index: int) -> tuple[object, ...]:
    """Sorts the more specific match first."""
    path = match.path or StringMatch(Comparison.SEGMENTS, "/")
    unreadable = bool(route.invalid) and not is_readable(route)
    return (
        not unreadable,
        _RANK[path.comparison],
        -len(path.value),
        match.method is None,
        -len(match.headers),
        -len(match.query),
        (not route.created, route.created),
        route.namespace,
        route.origin.name,
        route.index,
        index,
    )


class _Ranked[Found](NamedTuple):
    """A candidate with what it is sorted by. ``borrowed``: it stands in for a host that its route does not name."""

    key: tuple[object, ...]
    place: int
    candidate: Candidate[Found]
    borrowed: bool = False


type _Groups[Found] = defaultdict[str, list[_Ranked[Found]]]


def _arrange[Found](group: list[_Ranked[Found]]) -> tuple[Candidate[Found], ...]:
    """In the order in which they are tried. LISTED keys are all equal: the order of reading remains. What is not
    certain comes first, because the search ends at the first that is.
    """
    group.sort(key=lambda one: (one.candidate.certain is not False, one.borrowed, one.key, one.place))
    return tuple(one.candidate for one in group)


def _receive[Found](own: _Groups[Found], guests: _Groups[Found]) -> _Groups[Found]:
    """Guests among the own routes. A host that only guests name opens a group of theirs; the own routes that hold for
    it without them follow there, so that a guest takes no request away by being more specific about its host.
    """
    if not guests:
        return own
    index = HostIndex((host, tuple(group)) for host, group in own.items())
    joined: _Groups[Found] = defaultdict(list, {host: list(group) for host, group in own.items()})
    for host, group in guests.items():
        # No host has a NUL in it: what is found for this one holds for everything that the wildcard stands for.
        instead = index.find(host.replace(ANY, "\0", 1).encode("utf-8", "surrogatepass")) if host not in own else None
        joined[host] += [*group, *(one._replace(borrowed=True) for one in instead or ())]
    return joined


class RouteIndex[Found]:
    """The routes of one port, in their families: by order of competition, and by voice."""

    def __init__(self, routes: Iterable[tuple[Bound, Found, Found]], services: ServiceDirectory) -> None:
        """Of each pair the first is found when the route matches, the second where a match of it cannot be compiled."""
        families: dict[tuple[Order, tuple[str, ...]], tuple[_Groups[Found], _Groups[Found]]]
        families = {(order, ()): (defaultdict(list), defaultdict(list)) for order in Order}
        for place, (bound, found, broken) in enumerate(routes):
            candidates = [_Ranked(key, place, one) for key, one in self._candidates(bound, found, broken, services)]
            uncertain = [one._replace(candidate=one.candidate._replace(certain=False)) for one in candidates]
            own, guests = families.setdefault((bound.route.order, bound.voice), (defaultdict(list), defaultdict(list)))
            groups = guests if bound.standing is Standing.GUEST else own
            for host, certain in hosts_of(bound).items():
                groups[host].extend(candidates if certain else uncertain)
        self._families = tuple(
            HostIndex((host, _arrange(group)) for host, group in _receive(own, guests).items())
            for own, guests in families.values()
            if own or guests
        )
        self._narrowed: dict[tuple[int, bytes], tuple[Candidate[Found], ...]] = {}
        self.bound = bool(self._families)
        """False where no route is."""

    @staticmethod
    def _candidates(
        bound: Bound, found: Found, broken: Found, services: ServiceDirectory
    ) -> Iterable[tuple[tuple[object, ...], Candidate[Found]]]:
        listed = bound.route.order is Order.LISTED
        guest = bound.standing is Standing.GUEST
        alternatives = [(match, True) for match in alternatives_of(bound.route)]
        alternatives += [(match, False) for match in bound.route.rewritten if alternatives]
        for index, (match, as_sent) in enumerate(alternatives):
            key = () if listed else precedence(bound.route, match, index)
            ports, known = accepted_ports(match, bound, services)
            try:
                path, rest = compile_match(match if known else replace(match, port=None), ports)
            except ValueError:
                yield key, Candidate(None, None, None if guest and as_sent else as_sent, broken)
            else:
                certain = as_sent and known
                yield key, Candidate(path, rest, None if guest and certain else certain, found)

    def find(self, request: Request, path: bytes, query: bytes | None) -> list[Found]:
        """What the first route of each family that certainly matches leads to, and all that could be meant as well. A
        guest's that comes before it holds beside it.
        """
        matched: list[Found] = []
        for hosts in self._families:
            group = hosts.find(request.authority)
            if group is not None:
                if len(group) > LARGE_GROUP:
                    group = self._narrow(group, path)
                first, greeted = len(matched), False
                for test, rest, certain, found in group:
                    if (test is None or test(path)) and (rest is None or rest(request, query)):
                        if certain:
                            matched.insert(first, found)
                            break
                        if certain is None:
                            if greeted:
                                continue
                            greeted = True
                        matched.append(found)
        return matched

    def under_any_host(self) -> RouteIndex[Found]:
        """The same routes for a request whose host says nothing: those of each host are a family of their own."""
        index = RouteIndex[Found]((), ServiceDirectory(()))
        index._families = tuple(HostIndex([(ANY, group)]) for hosts in self._families for group in hosts)
        index.bound = self.bound
        return index

    def _narrow(self, group: tuple[Candidate[Found], ...], path: bytes) -> tuple[Candidate[Found], ...]:
        """The candidates of a large group whose path fits; remembered, for paths repeat."""
        key = (id(group), path)
        narrowed = self._narrowed.get(key)
        if narrowed is None:
            narrowed = tuple(one for one in group if one.path is None or one.path(path))
            if len(self._narrowed) >= MAX_NARROWED:
                self._narrowed.clear()
            if len(path) <= MAX_NARROWED_PATH:
                self._narrowed[key] = narrowed
        return narrowed
