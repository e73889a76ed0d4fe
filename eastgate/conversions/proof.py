"""Whether what came out decides as what went in: both are read, and what was made of them is compared.

A conversion is right when every policy demands the same, every route takes the same requests to the same place, the
same policies hold on it, and routes that could take one request are asked in the same order. Positions, ages and the
names of kinds differ; nothing else may. Must not know: how anything was written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eastgate.compile.hosts import ANY
from eastgate.compile.selection import Selection, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.conversions.competition import covers, hosts_of, may_meet
from eastgate.conversions.drafts import Draft, Entry, Findings
from eastgate.conversions.security_policies import address_of, match_header_values
from eastgate.dialects.catalogue import Object
from eastgate.model.keys import KeySource, LocalKeys
from eastgate.model.policies import Authorization, Policy, Requirement
from eastgate.model.routes import Match, ObjectName, Order, Route
from eastgate.model.sets import PolicySet

_SAME_ORDER = (Order.LISTED, Order.LISTED)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A route as it was, the same as it is now, and where it was written. Several may come of one."""

    found: Object
    before: Route
    after: Route


def prove(
    before: PolicySet,
    after: PolicySet,
    drafts: Sequence[Draft],
    found_by: Mapping[ObjectName, Object],
    findings: Findings,
) -> None:
    """Report every difference as an error about the object that went in. Both sets were read without an error."""
    _compare_policies(before, after, drafts, findings)
    pairs = list(_pair_routes(before, after, drafts, found_by, findings))
    for pair in pairs:
        _compare_routes(pair, findings)
    _compare_selections(before, after, pairs, drafts, findings)
    _compare_order(before, after, pairs, findings)
    _compare_families(pairs, findings)


# --- policies -------------------------------------------------------------------------------------------------------


def _compare_policies(before: PolicySet, after: PolicySet, drafts: Sequence[Draft], findings: Findings) -> None:
    old = {policy.name: policy for policy in before.policies if policy.dialect != "eastgate"}
    new = {policy.name: policy for policy in after.policies if policy.dialect == "eastgate"}
    for draft in drafts:
        found = draft.sources[0]
        policy, made = old.get(found.title), new.get(draft.title)
        if found.kind not in ("JWTPolicy", "SecurityPolicy"):
            continue
        if policy is None or made is None:
            findings.error(found, "", "not-the-same", "it is not there any more after the conversion")
            continue
        for path, one, other in _aspects(policy, made):
            if one != other:
                findings.error(
                    found, path, "not-the-same", "our own kind cannot say this: it would come to something else"
                )


def _aspects(old: Policy, new: Policy) -> Iterator[tuple[str, object, object]]:
    gloo = old.dialect == "gloo"
    section = "spec.config" if gloo else "spec.jwt"
    yield section, _plain_requirement(old.requirement), _plain_requirement(new.requirement)
    rules = "spec.config" if gloo else "spec.authorization"
    yield rules, _plain_authorization(old.authorization), _plain_authorization(new.authorization)
    yield "spec.config.phase", (old.phase, old.priority), (new.phase, new.priority)
    if gloo:
        yield "spec", (old.everything, old.routes, old.destinations), (new.everything, new.routes, new.destinations)


def _plain_requirement(requirement: Requirement | None) -> object:
    if requirement is None:
        return None
    providers = tuple(replace(one, keys=_plain_keys(one.keys)) for one in requirement.providers)
    return replace(requirement, providers=providers, every_token=requirement.every_token or len(providers) < 2)


def _plain_keys(keys: KeySource) -> KeySource:
    """Where a text was written, and an address that is the URL's own, make no difference."""
    if isinstance(keys, LocalKeys):
        return LocalKeys(keys.text)
    own = address_of(keys)
    return replace(
        keys,
        addresses=() if keys.addresses == own else keys.addresses,
        server_name=None if keys.server_name == own[0][0] else keys.server_name,
    )


def _plain_authorization(authorization: Authorization | None) -> object:
    if authorization is None:
        return None
    rules = tuple(
        replace(one, name="", headers=(*one.headers, *match_header_values(one)), header_values=())
        for one in authorization.rules
    )
    return replace(authorization, rules=rules)


# --- routes ---------------------------------------------------------------------------------------------------------


def _pair_routes(
    before: PolicySet,
    after: PolicySet,
    drafts: Sequence[Draft],
    found_by: Mapping[ObjectName, Object],
    findings: Findings,
) -> Iterator[_Pair]:
    """Tables that were put together know their routes; those that were taken over have the same, in the same order."""
    made: defaultdict[ObjectName, list[Route]] = defaultdict(list)
    for route in after.routes:
        made[route.origin].append(route)
    for draft in drafts:
        if not draft.entries:
            continue
        routes = sorted(made.pop(draft.title, ()), key=lambda route: route.index)
        if len(routes) != len(draft.entries):
            findings.error(draft.sources[0], "spec.rules", "not-the-same", "its routes are not all there any more")
            continue
        for entry, route in zip(draft.entries, routes, strict=True):
            found = next(one for one in draft.sources if one.title == entry.route.origin)
            yield _Pair(found, _expect(entry), route)
    kept: defaultdict[ObjectName, list[Route]] = defaultdict(list)
    for route in before.routes:
        if route.origin.kind == "RouteTable":
            kept[route.origin].append(route)
    for title, routes in kept.items():
        now = made.get(title, [])
        if len(now) != len(routes):
            findings.error(found_by[title], "spec", "not-the-same", "its routes are not all there any more")
            continue
        for one, other in zip(routes, now, strict=True):
            yield _Pair(found_by[title], one, other)


def _expect(entry: Entry) -> Route:
    """The route that an entry stands for: its share of the alternatives, and of their forms after rewriting."""
    route = entry.route
    if entry.matches == route.matches:
        return route
    share = set(entry.matches)
    rewritten = tuple(
        form for form in route.rewritten if any(replace(match, path=form.path) == form for match in share)
    )
    return replace(route, matches=entry.matches, rewritten=rewritten)


def _compare_routes(pair: _Pair, findings: Findings) -> None:
    old, new = pair.before, pair.after
    place = f"spec.{'http' if old.origin.kind == 'RouteTable' else 'rules'}[{old.index}]"
    aspects = {
        "hosts": (frozenset(old.hosts), frozenset(new.hosts)),
        "matches": (_set(old.matches), _set(new.matches)),
        "filters": (
            (frozenset(old.rewritten), frozenset(old.rewritten_hosts)),
            (frozenset(new.rewritten), frozenset(new.rewritten_hosts)),
        ),
        "destinations": (frozenset(old.destinations), frozenset(new.destinations)),
        "action": (old.action, new.action),
        "delegation": ((old.through, old.asked), (new.through, new.asked)),
        "grants": (frozenset(old.granted), frozenset(new.granted)),
    }
    messages = {
        "filters": "the form in which requests arrive after this rewrite cannot be said in our own kind",
        "grants": f"it leads to a namespace that agreed to {old.origin.kind}s: a ReferenceGrant for RouteTables of "
        "policy.eastgate.dev has to be there",
    }
    for aspect, (one, other) in aspects.items():
        if one != other:
            message = messages.get(aspect, f"our own kind cannot say this: its {aspect} would be others")
            findings.error(pair.found, place, "not-the-same", message)


def _set(matches: tuple[Match, ...]) -> frozenset[Match]:
    return frozenset(matches)


# --- what holds -----------------------------------------------------------------------------------------------------


def _compare_selections(
    before: PolicySet, after: PolicySet, pairs: list[_Pair], drafts: Sequence[Draft], findings: Findings
) -> None:
    renamed = {one.title: draft.title for draft in drafts for one in draft.sources}
    old = Selection(before.policies, ServiceDirectory(before.services))
    new = Selection(after.policies, ServiceDirectory(after.services))
    for pair in pairs:
        place = f"spec.{'http' if pair.before.origin.kind == 'RouteTable' else 'rules'}[{pair.before.index}]"
        was, now = old.select(subject_of(pair.before)), new.select(subject_of(pair.after))
        wanted = {renamed.get(policy.name, policy.name) for policy in was.policies}
        holds = {policy.name for policy in now.policies}
        if wanted != holds:
            listed = ", ".join(sorted(map(str, wanted))) or "no policy"
            found = ", ".join(sorted(map(str, holds))) or "none"
            message = f"{listed} should hold here, and {found} would: of our own kind one policy holds on a route"
            findings.error(pair.found, place, "not-the-same", message)
        aged = {policy.name for lost in was.conflicting for policy in lost if policy.created}
        if not aged.isdisjoint(renamed):
            message = (
                f"which of {', '.join(sorted(map(str, aged)))} holds here is decided by their age, and converted they "
                "are all new: let their selectors exclude each other"
            )
            findings.error(pair.found, place, "by-age", message)


def _compare_order(before: PolicySet, after: PolicySet, pairs: list[_Pair], findings: Findings) -> None:
    """Routes that could take one request: of two families both hold, of one the first."""
    old_place = {id(route): place for place, route in enumerate(before.routes)}
    new_place = {id(route): place for place, route in enumerate(after.routes)}
    holds = Selection(before.policies, ServiceDirectory(before.services))
    outcome = {
        id(pair): (frozenset(one.name for one in holds.select(subject_of(pair.before)).policies), pair.before.action)
        for pair in pairs
    }
    by_host: defaultdict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        for host in hosts_of(pair.after):
            by_host[host].append(pair)
    said: set[tuple[int, int]] = set()
    for group in by_host.values():
        for index, one in enumerate(group):
            for other in group[:index]:
                key = (id(one), id(other))
                if key in said or outcome[id(one)] == outcome[id(other)] or one.found is other.found:
                    continue
                if (one.before.order, other.before.order) == (Order.PRECEDENCE, Order.PRECEDENCE):
                    continue  # ``gateway_routes`` put them into one table, or said why not
                if not may_meet(one.after.matches, other.after.matches):
                    continue
                listed = (one.before.order, other.before.order) == _SAME_ORDER
                if listed and (old_place[id(one.before)] < old_place[id(other.before)]) == (
                    new_place[id(one.after)] < new_place[id(other.after)]
                ):
                    _warn_of_age(one, other, findings)
                    said.add(key)
                    continue
                said.add(key)
                message = (
                    f"a request for it could be one for {other.found.title}, too: "
                    + ("they would be asked in another order" if listed else "the policies of both hold today")
                    + "; tables are asked one after the other, and the first takes it"
                )
                findings.error(one.found, "spec", "not-the-same", message)


def _compare_families(pairs: list[_Pair], findings: Findings) -> None:
    """Tables and Gateway API routes each find their own match today, also where one of them says ``*`` and the other
    names the host. Together the named host hides the wildcard.
    """
    hosts: dict[Order, dict[str, _Pair]] = {order: {} for order in Order}
    for pair in pairs:
        for host in hosts_of(pair.before):
            hosts[pair.before.order].setdefault(host, pair)
    for order, other in ((Order.LISTED, Order.PRECEDENCE), (Order.PRECEDENCE, Order.LISTED)):
        for pattern, wide in hosts[order].items():
            if not pattern.startswith(ANY):
                continue
            named = next((host for host in hosts[other] if host not in hosts[order] and covers(pattern, host)), None)
            if named is not None:
                narrow = hosts[other][named].found
                message = (
                    f"it holds for host `{named}` today, beside {narrow.title}; as tables the one that names the host "
                    "would hide it: name its hosts"
                )
                findings.error(wide.found, "spec", "not-the-same", message)


def _warn_of_age(one: _Pair, other: _Pair, findings: Findings) -> None:
    if one.before.through or other.before.through:
        return
    first, second = (other, one)
    message = (
        f"takes requests that {first.found.title} is asked for first, because it is older; apply the tables one after "
        "the other, or make them one"
    )
    findings.warning(second.found, "spec", "by-age", message)
