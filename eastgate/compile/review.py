"""What an author should know beyond what a reader can see: policies and routes looked at together.

Nothing here changes what is enforced. An error is something that can never work as it is written; a warning works,
though perhaps not as it was meant. What a reader already called invalid is not reported again. Must not know: a
workload; what is said holds for every one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations

from eastgate.compile.coverage import find_unreachable
from eastgate.compile.fields import ENVOY_GATEWAY, keys_field, selection_field, sources_field
from eastgate.compile.guards import REQUIRE_AUTH_LABEL
from eastgate.compile.matchers import MatcherError
from eastgate.compile.policies import asserted_headers, find_problems, parse_local_keys
from eastgate.compile.routes import compile_match, header_names_of
from eastgate.compile.rules_review import review_rules
from eastgate.compile.selection import Conflict, Selected, Selection, Subject, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.keys.keyset import KeySetError
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import Policy, Provider, TokenSources
from eastgate.model.routes import Action, Comparison, Destination, Order, Route, StringMatch
from eastgate.model.sets import PolicySet

ERROR, WARNING = Severity.ERROR, Severity.WARNING

MAX_CONFLICTS = 8
"""Policies named to the author of one that loses to them. Whoever has more has one mistake, not many."""


def review(policy_set: PolicySet) -> tuple[Diagnostic, ...]:
    """Everything there is to say, policies first, in the order they were read."""
    selection = Selection(policy_set.policies, ServiceDirectory(policy_set.services))
    return review_selected(policy_set, selection, select_everywhere(policy_set, selection))


type Everywhere = Mapping[int, Selected]
"""What holds on each route, by ``id(route)``."""


def select_everywhere(policy_set: PolicySet, selection: Selection) -> Everywhere:
    """The policies of every route of the set."""
    return {id(route): selection.select(subject_of(route)) for route in policy_set.routes}


def review_selected(policy_set: PolicySet, selection: Selection, selected: Everywhere) -> tuple[Diagnostic, ...]:
    """``review`` for those who need to know what is selected, too."""
    found = list[Diagnostic]()
    for policy in policy_set.policies:
        if not policy.invalid:
            found += _review_policy(policy)
    found += _review_selection(policy_set, selection, selected)
    neighbours = _Neighbours(policy_set.policies)
    for route in policy_set.routes:
        if not route.invalid:
            found += _review_route(route, neighbours, selected[id(route)])
    found += _review_order(policy_set.routes)
    return tuple(dict.fromkeys(found))


def _about_policy(policy: Policy, severity: Severity, code: str, message: str, field: str = "") -> Diagnostic:
    return Diagnostic(policy.place_of(field), severity, code, message, str(policy.name), field)


def _about_route(route: Route, severity: Severity, code: str, message: str) -> Diagnostic:
    return Diagnostic(route.position, severity, code, message, str(route))


# --- one policy by itself -----------------------------------------------------------------------------------------


def _review_policy(policy: Policy) -> Iterator[Diagnostic]:
    for problem in find_problems(policy):
        yield _about_policy(policy, ERROR, problem.code, problem.message, problem.field)
    for provider in policy.requirement.providers if policy.requirement else ():
        for severity, code, message in _review_keys(provider):
            yield _about_policy(policy, severity, code, message, keys_field(policy, provider))
        for message in _review_sources(provider.sources):
            yield _about_policy(policy, WARNING, "read-twice", message, sources_field(policy, provider))
    for severity, code, message, field in review_rules(policy):
        yield _about_policy(policy, severity, code, message, field)


def _review_keys(provider: Provider) -> Iterator[tuple[Severity, str, str]]:
    keys = provider.keys
    if isinstance(keys, RemoteKeys):
        if keys.unresolved is not None:
            yield ERROR, "no-keys", f"keys can never be fetched: {keys.unresolved}"
        elif not keys.tls:
            yield (
                WARNING,
                "plain-http",
                f"keys come from {keys.label} without TLS: whoever answers there decides which tokens are genuine",
            )
        return
    yield from _review_local_keys(keys)


def _review_sources(sources: TokenSources) -> Iterator[str]:
    """One provider wants all that it finds to be good (as in Envoy), so it must not find one value in two forms."""
    for one, other in permutations(sources.headers, 2):
        same = one.name == other.name and other.prefix.startswith(one.prefix)
        if same and other.prefix.removeprefix(one.prefix).strip():
            yield (
                f"a value of `{one.name}` that begins with `{other.prefix}` never passes: it is also read "
                + (f"after `{one.prefix}`" if one.prefix else "whole")
                + ", and that is no token; accepted: one provider for each of the two"
            )


def _review_local_keys(keys: LocalKeys) -> Iterator[tuple[Severity, str, str]]:
    key_set = parse_local_keys(keys.text)
    if isinstance(key_set, KeySetError):
        return
    for line in key_set.skipped:
        yield WARNING, "skipped-key", f"a key in {keys.origin} is not used: {line}"
    if any(key.family == "oct" for key in key_set.keys):
        yield (
            WARNING,
            "shared-secret",
            f"{keys.origin} holds a shared secret: whoever can read it can issue tokens; prefer a public key",
        )


# --- what policies select -----------------------------------------------------------------------------------------


def _review_selection(policy_set: PolicySet, selection: Selection, selected: Everywhere) -> Iterator[Diagnostic]:
    conflicts = _Conflicts(policy_set.routes, selected)
    yield from conflicts.review()
    destinations = _destinations(policy_set)
    yield from _review_unrouted(policy_set, selection, (*destinations, *_named_destinations(policy_set)), conflicts)
    reached = selection.select(Subject(frozenset(), None, destinations, routed=False))
    acting = {id(policy) for one in selected.values() for policy in one.policies} | conflicts.losers
    acting |= {id(policy) for policy in reached.policies} | {
        id(loser) for one in reached.conflicts for loser in one.losers
    }
    for policy in policy_set.policies:
        if not (policy.everything or policy.invalid or id(policy) in acting):
            yield from _selects_nothing(policy, policy_set)


def _destinations(policy_set: PolicySet) -> tuple[Destination, ...]:
    known = {(one.namespace, one.name): Destination("Service", one.namespace, one.name) for one in policy_set.services}
    for route in policy_set.routes:
        known |= {(one.namespace, one.name): one for one in route.destinations if one.kind == "Service"}
    return tuple(known.values())


def _named_destinations(policy_set: PolicySet) -> tuple[Destination, ...]:
    """The Services that policies name, read or not."""
    names = {
        (selector.namespace or policy.name.namespace, selector.name): None
        for policy in policy_set.policies
        for selector in policy.destinations
        if selector.name is not None and not selector.of_routes
    }
    return tuple(Destination("Service", *name) for name in names)


def _selects_nothing(policy: Policy, policy_set: PolicySet) -> Iterator[Diagnostic]:
    namespaces = {one.namespace or policy.name.namespace for one in policy.routes} or {policy.name.namespace}
    listed = ", ".join(sorted(namespaces))
    severity, message = ERROR, ""
    if policy.targets:
        names = ", ".join(f"{one.target}{' ' + one.section if one.section else ''}" for one in policy.targets)
        message = f"no route here is or belongs to {names}"
    elif policy.dialect == ENVOY_GATEWAY:
        return  # its target selectors found nothing, which the reader has said
    elif any(route.namespace in namespaces for route in policy_set.routes):
        labels = "; ".join(", ".join(f"{key}={value}" for key, value in one.labels) for one in policy.routes)
        message = f"selects none of the routes in {listed}" + (f": none has {labels}" if labels else "")
    elif policy.destinations and not policy.routes:
        severity, message = WARNING, "none of the Services it selects is among these files"
    else:
        severity = WARNING
        message = (
            f"no routes of {listed} are among these files: it holds only on pods without routes that have these labels"
        )
    yield _about_policy(policy, severity, "selects-nothing", message, selection_field(policy))


class _Conflicts:
    """Who loses to whom on routes. Policies that select alike share their conflicts, which are looked at once."""

    def __init__(self, routes: Sequence[Route], selected: Everywhere) -> None:
        self._places: dict[tuple[int, int, bool], tuple[Conflict, list[int]]] = {}
        self._routes = routes
        self._told: defaultdict[int, set[int]] = defaultdict(set)
        for index, route in enumerate(routes):
            one = selected[id(route)]
            for same_level, conflicts in ((True, one.conflicts), (False, one.overrides)):
                for conflict in conflicts:
                    key = (id(conflict.losers), id(conflict.winner), same_level)
                    self._places.setdefault(key, (conflict, []))[1].append(index)
        groups = {id(conflict.losers): conflict.losers for conflict, _ in self._places.values()}
        self.losers = {id(loser) for losers in groups.values() for loser in losers}

    def tell(self, loser: Policy, winner: Policy) -> bool:
        """Whether this is to be said: it was not yet, and not too many others were said of the loser."""
        told = self._told[id(loser)]
        if id(winner) in told or len(told) >= MAX_CONFLICTS:
            return False
        told.add(id(winner))
        return True

    def review(self) -> Iterator[Diagnostic]:
        pairs: dict[tuple[int, int, bool], tuple[Policy, Policy, list[list[int]]]] = {}
        winners: defaultdict[int, int] = defaultdict(int)
        for (losers, _, same_level), (conflict, where) in self._places.items():
            # All of them lose to each of these winners, and the list is long for all of them in the same place.
            winners[losers] += 1
            if winners[losers] > MAX_CONFLICTS:
                continue
            for loser in conflict.losers:
                key = (id(loser), id(conflict.winner), same_level)
                pairs.setdefault(key, (loser, conflict.winner, []))[2].append(where)
        for (_, _, same_level), (loser, winner, places) in pairs.items():
            if same_level and self.tell(loser, winner):
                message = _conflict_message(loser, winner, self._list(places))
                yield _about_policy(loser, WARNING, "conflict", message, selection_field(loser))
            elif not same_level and _asks_for_token(loser) and not _asks_for_token(winner):
                message = (
                    f"replaces {loser.name} as a whole on {self._list(places)}: no token is asked for there any more"
                )
                yield _about_policy(winner, WARNING, "shadowed-jwt", message, selection_field(winner))

    def _list(self, places: list[list[int]]) -> str:
        """The first few routes, and how many more."""
        first = heapq.nsmallest(3, (index for some in places for index in some[:3]))
        listed = ", ".join(str(self._routes[index]) for index in first)
        count = sum(map(len, places))
        return f"{listed} and {count - 3} more" if count > 3 else listed


def _review_unrouted(
    policy_set: PolicySet, selection: Selection, destinations: tuple[Destination, ...], conflicts: _Conflicts
) -> Iterator[Diagnostic]:
    """Conflicts that no route shows: on pods without routes, and at destinations. Each pair is told of once."""
    subjects = {
        f"pods of {namespace} without routes": Subject(frozenset(), namespace, ())
        for namespace in dict.fromkeys(policy.name.namespace for policy in policy_set.policies)
    }
    subjects |= {
        f"Service {one.namespace}/{one.name}": Subject(frozenset(), None, (one,), routed=False) for one in destinations
    }
    for where, subject in subjects.items():
        for conflict in selection.select(subject).conflicts:
            winner = conflict.winner
            for loser in conflict.losers:
                if conflicts.tell(loser, winner):
                    message = f"conflicts with {winner.name} on {where}: skipping {loser.name}, {_why_it_wins(winner)}"
                    yield _about_policy(loser, WARNING, "conflict", message, selection_field(loser))


def _conflict_message(loser: Policy, winner: Policy, listed: str) -> str:
    if loser.dialect == ENVOY_GATEWAY:
        return f"unable to target {listed}: {winner.name} has already attached to it"
    return f"conflicts with existing policy applied to route {listed}: skipping {loser.name}, {_why_it_wins(winner)}"


def _why_it_wins(winner: Policy) -> str:
    return f"{winner.name} " + (
        "is older" if winner.created else "comes first by name, for neither says when it was made"
    )


def _asks_for_token(policy: Policy) -> bool:
    return policy.requirement is not None


# --- routes -------------------------------------------------------------------------------------------------------


class _Neighbours:
    """The policies, by what a route may have to do with one that does not hold on it."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.namespaces = {policy.name.namespace for policy in policies}
        self.asserting: defaultdict[bytes, list[Policy]] = defaultdict(list)
        for policy in policies:
            for name in asserted_headers(policy):
                self.asserting[name].append(policy)


def _review_route(route: Route, neighbours: _Neighbours, selected: Selected) -> Iterator[Diagnostic]:
    for match in (*route.matches, *route.rewritten):
        try:
            compile_match(match, None)
        except MatcherError as error:
            yield _about_route(route, ERROR, "bad-regex", str(error))
        if match.path is not None:
            reason = why_path_never_matches(match.path)
            if reason:
                yield _about_route(route, ERROR, "never-matches", f"path `{match.path.value}` never matches: {reason}")
    if REQUIRE_AUTH_LABEL in route.labels and not selected.policies:
        yield _about_route(
            route, WARNING, "no-policy", f"refuses every request: its label `{REQUIRE_AUTH_LABEL[0]}` asks for a policy"
        )
    yield from _review_foreign(route, neighbours.namespaces, selected)
    for name in sorted(header_names_of(route)):
        setting = neighbours.asserting.get(name, ())
        if setting:
            listed = ", ".join(str(policy.name) for policy in setting[:3])
            if len(setting) > 3:
                listed += f" and {len(setting) - 3} more"
            yield _about_route(
                route,
                WARNING,
                "asserted-header",
                f"matches on header `{name.decode()}`, which {listed} {'sets' if len(setting) == 1 else 'set'} from a "
                "token: what a client sends in it is never looked at",
            )


def _review_foreign(route: Route, guarded: set[str], selected: Selected) -> Iterator[Diagnostic]:
    """Where a table of one namespace leads into another that has policies of its own, and none of them holds."""
    if route.order is not Order.LISTED or route.action is not Action.FORWARD:
        return
    guarded = guarded - {policy.name.namespace for policy in selected.policies}
    services = {(one.namespace, one.name) for one in route.destinations if one.kind == "Service"}
    hosts = ", ".join(route.hosts) or "every host"
    for namespace in sorted({one for one, _ in services}.intersection(guarded) - {route.namespace, *route.asked}):
        led_to = [(one, name) for one, name in sorted(services) if one == namespace]
        listed = ", ".join("/".join(one) for one in led_to)
        message = (
            f"leads from namespace `{route.namespace}` to {listed} for {hosts}, and no policy of `{namespace}` holds "
            "on it: "
        )
        if all(one in route.granted for one in led_to):
            message += (
                "a ReferenceGrant lets it, so what no route there matches passes without a token; select its labels, "
                "or every route (`applyToRoutes: [{}]`)"
            )
        else:
            message += (
                f"it takes no request away from the routes of `{namespace}`, and opens nothing there; accepted: a "
                f"ReferenceGrant in `{namespace}` from {route.origin.kind} in `{route.namespace}` to Service"
            )
        yield _about_route(route, WARNING, "foreign-route", message)


def why_path_never_matches(path: StringMatch) -> str:
    """Why no canonical request path can be like this; empty where one can."""
    if path.comparison in (Comparison.REGEX, Comparison.PRESENT):
        return ""
    value = path.value
    if not value.startswith("/") and (value or path.comparison is not Comparison.PREFIX):
        return "a path starts with a slash"
    if "?" in value or "#" in value:
        return "the query and the fragment are not part of a path"
    if "\\" in value:
        return "a path with a backslash is refused"
    if "//" in value:
        return "slashes are merged before paths are compared"
    segments = value.split("/")
    closed = segments if path.comparison is not Comparison.PREFIX else segments[:-1]
    if "." in closed or ".." in closed:
        return "dot segments are removed before paths are compared"
    lowered = value.lower()
    if "%2f" in lowered or "%5c" in lowered or "%00" in lowered:
        return "a path with an encoded slash, backslash or NUL is refused"
    return ""


def _review_order(routes: Iterable[Route]) -> Iterator[Diagnostic]:
    for route, earlier in find_unreachable([route for route in routes if not route.invalid]):
        yield _about_route(
            route, WARNING, "unreachable-route", f"can never match: {earlier} takes every request that it would match"
        )
