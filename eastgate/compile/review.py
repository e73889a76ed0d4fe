"""What an author should know beyond what a reader can see: policies and routes looked at together.

Nothing here changes what is enforced. An error is something that can never work as it is written; a warning works,
though perhaps not as it was meant. What a reader already called invalid is not reported again. Must not know: a
workload; what is said holds for every one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from eastgate.compile.coverage import find_unreachable
from eastgate.compile.fields import ENVOY_GATEWAY, provider_field, selection_field
from eastgate.compile.guards import REQUIRE_AUTH_LABEL
from eastgate.compile.matchers import MatcherError
from eastgate.compile.policies import asserted_headers, find_problems
from eastgate.compile.routes import compile_match, header_names_of
from eastgate.compile.rules_review import review_rules
from eastgate.compile.selection import Selected, Selection, Subject, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.keys.keyset import KeySetError, parse_key_set
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import Policy, Provider
from eastgate.model.routes import Action, Comparison, Destination, Order, Route, StringMatch
from eastgate.model.sets import PolicySet

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def review(policy_set: PolicySet) -> tuple[Diagnostic, ...]:
    """Everything there is to say, policies first, in the order they were read."""
    found = list[Diagnostic]()
    selected = _select_everywhere(policy_set)
    for policy in policy_set.policies:
        if not policy.invalid:
            found += _review_policy(policy)
    found += _review_selection(policy_set, selected)
    for route in policy_set.routes:
        if not route.invalid:
            found += _review_route(route, policy_set.policies, selected[id(route)])
    found += _review_order(policy_set.routes)
    return tuple(dict.fromkeys(found))


def _about_policy(policy: Policy, severity: Severity, code: str, message: str, field: str = "") -> Diagnostic:
    return Diagnostic(policy.position, severity, code, message, str(policy.name), field)


def _about_route(route: Route, severity: Severity, code: str, message: str) -> Diagnostic:
    return Diagnostic(route.position, severity, code, message, str(route))


def _select_everywhere(policy_set: PolicySet) -> dict[int, Selected]:
    selection = Selection(policy_set.policies, ServiceDirectory(policy_set.services))
    return {id(route): selection.select(subject_of(route)) for route in policy_set.routes}


# --- one policy by itself -----------------------------------------------------------------------------------------


def _review_policy(policy: Policy) -> Iterator[Diagnostic]:
    for problem in find_problems(policy):
        yield _about_policy(policy, ERROR, problem.code, problem.message, problem.field)
    for provider in policy.requirement.providers if policy.requirement else ():
        for severity, code, message in _review_keys(provider):
            yield _about_policy(policy, severity, code, message, provider_field(policy, provider))
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


def _review_local_keys(keys: LocalKeys) -> Iterator[tuple[Severity, str, str]]:
    try:
        key_set = parse_key_set(keys.text, remote=False)
    except KeySetError:
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


def _review_selection(policy_set: PolicySet, selected: dict[int, Selected]) -> Iterator[Diagnostic]:
    held = {id(policy) for one in selected.values() for policy in one.policies}
    lost = {id(loser) for one in selected.values() for loser, _ in (*one.conflicting, *one.overridden)}
    yield from _review_conflicts(policy_set.routes, selected)
    destinations = _destinations(policy_set)
    selection = Selection(policy_set.policies, ServiceDirectory(policy_set.services))
    told = {(id(loser), id(winner)) for one in selected.values() for loser, winner in one.conflicting}
    yield from _review_unrouted(policy_set, selection, (*destinations, *_named_destinations(policy_set)), told)
    reached = selection.select(Subject(frozenset(), None, destinations, routed=False))
    held |= {id(policy) for policy in reached.policies}
    lost |= {id(loser) for loser, _ in reached.conflicting}
    for policy in policy_set.policies:
        if policy.everything or policy.invalid or id(policy) in held | lost:
            continue
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


def _review_conflicts(routes: Iterable[Route], selected: dict[int, Selected]) -> Iterator[Diagnostic]:
    places: defaultdict[tuple[int, int, bool], list[Route]] = defaultdict(list)
    pairs: dict[tuple[int, int, bool], tuple[Policy, Policy]] = {}
    for route in routes:
        one = selected[id(route)]
        for same_level, losses in ((True, one.conflicting), (False, one.overridden)):
            for loser, winner in losses:
                key = (id(loser), id(winner), same_level)
                places[key].append(route)
                pairs[key] = (loser, winner)
    for key, where in places.items():
        loser, winner = pairs[key]
        listed = ", ".join(str(route) for route in where[:3])
        if len(where) > 3:
            listed += f" and {len(where) - 3} more"
        if key[2]:
            message = _conflict_message(loser, winner, listed)
            yield _about_policy(loser, WARNING, "conflict", message, selection_field(loser))
        elif _asks_for_token(loser) and not _asks_for_token(winner):
            message = f"replaces {loser.name} as a whole on {listed}: no token is asked for there any more"
            yield _about_policy(winner, WARNING, "shadowed-jwt", message, selection_field(winner))


def _review_unrouted(
    policy_set: PolicySet, selection: Selection, destinations: tuple[Destination, ...], told: set[tuple[int, int]]
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
        for loser, winner in selection.select(subject).conflicting:
            if (id(loser), id(winner)) in told:
                continue
            told.add((id(loser), id(winner)))
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


def _review_route(route: Route, policies: Iterable[Policy], selected: Selected) -> Iterator[Diagnostic]:
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
    yield from _review_foreign(route, policies, selected)
    looked_at = header_names_of(route)
    for policy in policies:
        for name in sorted(looked_at & asserted_headers(policy)):
            yield _about_route(
                route,
                WARNING,
                "asserted-header",
                f"matches on header `{name.decode()}`, which {policy.name} sets from a token: "
                "what a client sends in it is never looked at",
            )


def _review_foreign(route: Route, policies: Iterable[Policy], selected: Selected) -> Iterator[Diagnostic]:
    """Where a table of one namespace leads into another that has policies of its own, and none of them holds."""
    if route.order is not Order.LISTED or route.action is not Action.FORWARD or selected.policies:
        return
    abroad = {one.namespace for one in route.destinations if one.kind == "Service"} - {route.namespace}
    for namespace in sorted(abroad & {policy.name.namespace for policy in policies}):
        services = ", ".join(
            sorted(f"{one.namespace}/{one.name}" for one in route.destinations if one.kind == "Service")
        )
        hosts = ", ".join(route.hosts) or "every host"
        message = (
            f"leads from namespace `{route.namespace}` to {services} for {hosts}, and no policy of `{namespace}` holds "
            "on it: requests pass without a token; select its labels, or every route (`applyToRoutes: [{}]`)"
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
