"""HTTPRoute and GRPCRoute as RouteTables.

The Gateway API's rules compete by precedence, whatever object they stand in; the entries of a table are tried as they
are written, and tables by age. So an object becomes a table of its own where its rules meet no other's, or where it
makes no difference which is asked first; objects whose rules do compete become one table, in the order of precedence.
Rules: ``compile.routes.precedence``. Must not know: what the policies demand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eastgate.compile.routes import precedence
from eastgate.conversions.competition import hosts_of, may_meet
from eastgate.conversions.drafts import Draft, Entry, Findings, begin_document, list_titles
from eastgate.conversions.security_policies import POLICY_LABEL, label_of
from eastgate.dialects.catalogue import Object
from eastgate.dialects.kinds import GATEWAY_GROUP
from eastgate.model.policies import Policy
from eastgate.model.routes import Action, Comparison, FieldMatch, Match, Route

KINDS = ((GATEWAY_GROUP, "HTTPRoute"), (GATEWAY_GROUP, "GRPCRoute"))

_ONLY_FOR_SENDERS = ("timeouts", "retry", "sessionPersistence")


@dataclass(slots=True)
class _Source:
    """A route object with its rules. ``holds`` is the policy of each of them."""

    found: Object
    routes: list[Route]
    holds: Mapping[Route, Policy | None]
    hosts: frozenset[str] = field(default_factory=frozenset)

    def outcome(self, route: Route) -> object:
        """What comes of a request that the route takes, as far as others could decide otherwise."""
        policy = self.holds[route]
        return (policy.name if policy is not None else None, route.action)


def draft_tables(
    objects: list[Object], routes: list[Route], holds: Mapping[Route, Policy | None], findings: Findings
) -> list[Draft]:
    """The tables, in the order of the objects."""
    by_origin: defaultdict[object, list[Route]] = defaultdict(list)
    for route in routes:
        by_origin[route.origin].append(route)
    sources = []
    for found in objects:
        own = by_origin[found.title]
        hosts = frozenset[str]().union(*(hosts_of(route) for route in own))
        sources.append(_Source(found, own, holds, hosts))
        _say_what_is_left_out(found, findings)
    names: set[tuple[str, str]] = set()
    return [_draft_table(group, names, findings) for group in _join_competitors(sources, findings)]


def _join_competitors(sources: list[_Source], findings: Findings) -> list[list[_Source]]:
    """Groups of objects that have to be one table, each in the order of reading."""
    group_of = list(range(len(sources)))
    for index, one in enumerate(sources):
        for other_index, other in enumerate(sources[:index]):
            if group_of[index] == group_of[other_index] or one.hosts.isdisjoint(other.hosts):
                continue
            if not _compete(one, other):
                continue
            if one.found.namespace != other.found.namespace or one.routes[0].hosts != other.routes[0].hosts:
                message = (
                    f"its rules and those of {other.found.title} take the same requests, and the Gateway API asks the "
                    "more specific one first; tables of different hosts or namespaces are asked by age: give both the "
                    "same hosts, or let their rules exclude each other"
                )
                findings.error(one.found, "spec.rules", "not-sayable", message)
                continue
            old, new = group_of[index], group_of[other_index]
            group_of = [new if group == old else group for group in group_of]
    groups: defaultdict[int, list[_Source]] = defaultdict(list)
    for source, group in zip(sources, group_of, strict=True):
        groups[group].append(source)
    return list(groups.values())


def _compete(one: _Source, other: _Source) -> bool:
    return any(
        one.outcome(first) != other.outcome(second)
        and not hosts_of(first).isdisjoint(hosts_of(second))
        and may_meet(first.matches, second.matches)
        for first in one.routes
        for second in other.routes
    )


def _draft_table(group: list[_Source], names: set[tuple[str, str]], findings: Findings) -> Draft:
    first = group[0].found
    name = first.name
    if (first.namespace, name) in names:
        name = f"{name}-{first.kind.lower()}"
    names.add((first.namespace, name))
    document = begin_document("RouteTable", first, findings, name)
    routes = [route for source in group for route in source.routes]
    shared = set(first.labels)
    if len(group) > 1:
        shared = set.intersection(*(set(source.found.labels) for source in group))
        document["metadata"].pop("labels", None)
        if shared:
            document["metadata"]["labels"] = dict(sorted(shared))
        objects = list_titles(source.found for source in group)
        message = f"{objects} become one table, for their rules compete"
        findings.warning(first, "", "joined", message)
        for source in group[1:]:
            for key in ("annotations",):
                if source.found.document.get("metadata", key):
                    findings.warning(source.found, f"metadata.{key}", "left-out", "left out: the table has the first's")
    entries = _order_entries(group, routes)
    spec: dict[str, Any] = {}
    if routes[0].hosts:
        spec["hosts"] = list(routes[0].hosts)
    objects_of = {source.found.title: source.found for source in group}
    labelled = {route: dict(set(route.labels) - shared) for route in routes}
    for source in group:
        for route in source.routes:
            policy = source.holds[route]
            if policy is not None:
                labelled[route][POLICY_LABEL] = label_of(policy)
    named: dict[str, int] = {}
    spec["http"] = [
        _write_entry(entry, objects_of[entry.route.origin], labelled[entry.route], named, findings) for entry in entries
    ]
    document["spec"] = spec
    return Draft(tuple(source.found for source in group), document, tuple(entries))


def _order_entries(group: list[_Source], routes: list[Route]) -> list[Entry]:
    """As written where that is an order in which the more specific comes first wherever it matters."""
    if len(group) == 1 and not _is_order_wrong(group[0], routes):
        return [Entry(route, route.matches) for route in routes]
    ranked = sorted(
        (
            (precedence(route, match, index), route, match)
            for route in routes
            for index, match in enumerate(route.matches)
        ),
        key=lambda one: one[0],
    )
    entries: list[Entry] = []
    for _, route, match in ranked:
        if entries and entries[-1].route is route:
            entries[-1] = Entry(route, (*entries[-1].matches, match))
        else:
            entries.append(Entry(route, (match,)))
    return entries


def _is_order_wrong(source: _Source, routes: list[Route]) -> bool:
    candidates = [
        (route, match, precedence(route, match, index)) for route in routes for index, match in enumerate(route.matches)
    ]
    return any(
        later_key < key and source.outcome(route) != source.outcome(later) and may_meet((match,), (later_match,))
        for place, (route, match, key) in enumerate(candidates)
        for later, later_match, later_key in candidates[place + 1 :]
        if route is not later
    )


# --- one entry ------------------------------------------------------------------------------------------------------


def _write_entry(
    entry: Entry, found: Object, labels: dict[str, str], named: dict[str, int], findings: Findings
) -> dict[str, Any]:
    route = entry.route
    written: dict[str, Any] = {}
    if route.section:
        named[route.section] = named.get(route.section, 0) + 1
        count = named[route.section]
        written["name"] = route.section if count == 1 else f"{route.section}-{count}"
    if labels:
        written["labels"] = dict(sorted(labels.items()))
    written["matchers"] = [_write_match(match) for match in entry.matches]
    path = f"spec.rules[{route.index}]"
    if route.action is Action.ANSWER:
        # Who answers and how is the sender's affair: such a request is refused where it arrives all the same.
        rule = found.document.get("spec", "rules")
        kinds = [one.get("type") for one in (rule or [{}])[route.index].get("filters") or ()] if rule else []
        written |= {"redirect": {}} if "RequestRedirect" in kinds else {"directResponse": {"status": 500}}
        return written
    forward: dict[str, Any] = {"destinations": []}
    for one in route.destinations:
        if one.kind != "Service":
            message = f"a backend of kind {one.kind} is none that our own kind could name; accepted: Service"
            findings.error(found, f"{path}.backendRefs", "not-sayable", message)
            continue
        reference = {"name": one.name, **({"namespace": one.namespace} if one.namespace != found.namespace else {})}
        port = {"port": {"number": one.port}} if one.port is not None else {}
        forward["destinations"].append({"ref": reference, **port})
    if route.rewritten:
        forward |= _write_rewrite(entry)
    if route.rewritten_hosts:
        forward["hostRewrite"] = route.rewritten_hosts[-1]
    written["forwardTo"] = forward
    return written


def _write_rewrite(entry: Entry) -> dict[str, str]:
    """Whether it says the same as the filter did, the proof tells."""
    path = entry.route.rewritten[0].path
    return {"pathRewrite": path.value} if path is not None else {}


def _write_match(match: Match) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if match.path is not None:
        written["uri"] = {match.path.comparison.value: match.path.value}
    if match.method is not None:
        written["method"] = match.method
    if match.headers:
        written["headers"] = [_write_field(one) for one in match.headers]
    if match.query:
        written["queryParameters"] = [_write_field(one) for one in match.query]
    return written


def _write_field(match: FieldMatch) -> dict[str, Any]:
    regex = {"regex": True} if match.value.comparison is Comparison.REGEX else {}
    return {"name": match.name, "value": match.value.value, **regex}


def _say_what_is_left_out(found: Object, findings: Findings) -> None:
    """What concerns gateways and senders has no place in a table that only a receiver reads."""
    left = ["spec.parentRefs"] if found.document.get("spec", "parentRefs") else []
    for index, rule in enumerate(found.document.get("spec", "rules") or ()):
        left += [f"spec.rules[{index}].{name}" for name in _ONLY_FOR_SENDERS if rule.get(name) is not None]
        for place, one in enumerate(rule.get("filters") or ()):
            if one.get("type") not in ("URLRewrite", "RequestRedirect"):
                left.append(f"spec.rules[{index}].filters[{place}]")
        for place, one in enumerate(rule.get("backendRefs") or ()):
            left += [
                f"spec.rules[{index}].backendRefs[{place}].{name}" for name in ("weight", "filters") if one.get(name)
            ]
    if left:
        message = (
            f"left out, for a gateway reads it and a receiver does not: {', '.join(left)}; "
            f"keep the {found.kind} for the gateway"
        )
        findings.warning(found, left[0], "left-out", message)
