"""HTTPRoute and GRPCRoute to routes: one for every rule.

Knows rules, their backends and what makes a rule answer by itself. A rule that could not be read whole is kept with
what could be read and says so (``Route.invalid``). Must not know: policies, precedence between routes, workloads.
Rules: Gateway API v1 ``HTTPRouteRule``, ``GRPCRouteRule``: a rule without a usable backend answers 500 at the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.filters import read_filters
from eastgate.dialects.gateway.listeners import Attached, read_parents
from eastgate.dialects.gateway.matches import EVERY_REQUEST, MOST_MATCHES, read_grpc_match, read_http_match
from eastgate.dialects.gateway.references import (
    CORE_GROUP,
    ENVOY_GROUP,
    GATEWAY_GROUP,
    LONGEST_NAME,
    check_service,
    is_granted,
    open_spec,
    say_not_granted,
)
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.routes import Action, Destination, Match, Order, Route

_OTHER_BACKENDS = (
    (ENVOY_GROUP, "Backend"),
    ("multicluster.x-k8s.io", "ServiceImport"),
    ("inference.networking.k8s.io", "InferencePool"),
    ("inference.networking.x-k8s.io", "InferencePool"),
)
"""Backends that lead out of the cluster's Services; who is behind them is not known here."""

MOST_RULES = 16
MOST_BACKENDS = 16
"""Both from the CRDs."""

VERSIONS = {"HTTPRoute": ("v1", "v1beta1"), "GRPCRoute": ("v1", "v1alpha2")}


def read_routes(catalogue: Catalogue, sink: list[Diagnostic]) -> list[Route]:
    """Every rule of every HTTPRoute and GRPCRoute, in the order they were read."""
    return [
        route
        for found in catalogue.objects
        if found.group == GATEWAY_GROUP and found.kind in VERSIONS
        for route in catalogue.remember(found, "routes", sink, partial(_read_route, found, catalogue, sink))
    ]


@dataclass(frozen=True, slots=True)
class _Rule:
    position: Value
    section: str
    matches: tuple[Match, ...]
    rewritten: tuple[Match, ...]
    hosts: tuple[str, ...]
    destinations: tuple[Destination, ...]
    action: Action
    errors: tuple[str, ...]


def _read_route(found: Object, catalogue: Catalogue, sink: list[Diagnostic]) -> list[Route]:
    report = Reporter(sink, str(found.title))
    with open_spec(found, report, VERSIONS[found.kind]) as spec:
        attached = read_parents(spec, found, catalogue, report)
        # Whether a controller of the name takes the route up is not decided by the receiver.
        spec.ignore("useDefaultGateways")
        items = spec.items("rules", most=MOST_RULES)
        rules = [_read_rule(item, found, catalogue, report) for item in items]
        _check_section_names(rules, report)
    # What leads nowhere is bound where the route's other rules lead: such a request should never have arrived, and must
    # not be taken for another rule's.
    everywhere = tuple(dict.fromkeys(one for rule in rules for one in rule.destinations if one.kind == "Service"))
    rules = [rule if rule.destinations or rule.errors else replace(rule, destinations=everywhere) for rule in rules]
    rule_errors = {error for rule in rules for error in rule.errors}
    shared = tuple(error for error in report.errors if error not in rule_errors)
    if not items:
        # The CRD's default: one rule that matches everything and leads nowhere.
        report.warning(spec.at("rules"), "no-backend", "leads nowhere: without `rules` a gateway answers 500")
        rules = [_Rule(found.spec(), "", (EVERY_REQUEST,), (), (), (), Action.ANSWER, ())]
    return [_build_route(found, index, rule, attached, shared) for index, rule in enumerate(rules)]


def _build_route(found: Object, index: int, rule: _Rule, attached: Attached, shared: tuple[str, ...]) -> Route:
    return Route(
        origin=found.title,
        index=index,
        position=rule.position.position,
        section=rule.section,
        labels=found.labels,
        hosts=attached.hosts,
        matches=rule.matches,
        rewritten=rule.rewritten,
        rewritten_hosts=rule.hosts,
        destinations=rule.destinations,
        attachments=attached.attachments,
        action=rule.action,
        order=Order.PRECEDENCE,
        created=found.created,
        grpc=found.kind == "GRPCRoute",
        # Without a ReferenceGrant it would not be among the destinations.
        granted=tuple(
            (one.namespace, one.name)
            for one in rule.destinations
            if one.kind == "Service" and one.namespace != found.namespace
        ),
        invalid=shared + rule.errors,
    )


def _check_section_names(rules: list[_Rule], report: Reporter) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.section and rule.section in seen:
            report.error(
                rule.position, "duplicate-name", f"Rule name must be unique within the route: `{rule.section}`"
            )
        seen.add(rule.section)


def _read_rule(item: Value, found: Object, catalogue: Catalogue, report: Reporter) -> _Rule:
    before = len(report.errors)
    read_match = read_grpc_match if found.kind == "GRPCRoute" else read_http_match
    with Fields(item, report) as rule:
        section = rule.text("name", longest=LONGEST_NAME) or ""
        matches = tuple(read_match(one, report) for one in rule.items("matches", most=MOST_MATCHES))
        if not matches:
            matches = (EVERY_REQUEST,)
        filtered = read_filters(rule, matches, found, catalogue, report)
        # How long the sender waits, how often it tries and which pod it sticks to change nothing at the receiver.
        rule.ignore("timeouts", "retry", "sessionPersistence")
        destinations = []
        for backend in rule.items("backendRefs", most=MOST_BACKENDS):
            destination = _read_backend(backend, found, matches, catalogue, report)
            if destination is not None:
                destinations.append(destination)
    if not destinations and not filtered.answers and len(report.errors) == before:
        message = "leads nowhere: without `backendRefs` a gateway answers 500; a request that matches is refused here"
        report.warning(rule.at("backendRefs"), "no-backend", message)
    answers = filtered.answers or not destinations
    return _Rule(
        position=item,
        section=section,
        matches=matches,
        rewritten=() if answers else filtered.rewrite(matches),
        hosts=() if answers else tuple(filtered.hosts),
        destinations=tuple(destinations),
        action=Action.ANSWER if answers else Action.FORWARD,
        errors=tuple(report.errors[before:]),
    )


def _read_backend(
    item: Value, route: Object, matches: tuple[Match, ...], catalogue: Catalogue, report: Reporter
) -> Destination | None:
    with Fields(item, report) as backend:
        group = backend.text("group") or CORE_GROUP
        kind = backend.text("kind") or "Service"
        name = backend.text("name", required=True, longest=LONGEST_NAME)
        namespace = backend.text("namespace") or route.namespace
        port = backend.integer("port", least=1, most=65535)
        backend.integer("weight", least=0, most=1_000_000)
        filtered = read_filters(backend, matches, route, catalogue, report)
        if filtered.answers or filtered.rewrites:
            report.warning(
                backend.at("filters"),
                "unknown-form",
                "filters of one backend are not computed here: the route matches requests as they were sent",
            )
        is_service = (group, kind) == (CORE_GROUP, "Service")
        if is_service and port is None and not backend.has("port"):
            report.error(item, "missing-field", "Must have port for Service reference")
    if name is None:
        return None
    source = (GATEWAY_GROUP, route.kind, route.namespace)
    if not is_granted(catalogue, source, group, kind, namespace, name):
        # Not a destination at all: a route must not reach into a namespace that did not agree to it.
        say_not_granted(item, report, source, group, kind, namespace, name)
        return None
    if is_service:
        check_service(item, namespace, name, port, catalogue, report)
    elif (group, kind) not in _OTHER_BACKENDS:
        said = show(f"{group}/{kind}" if group else kind)
        near = report.suggest(kind, ("Service", *(known for _, known in _OTHER_BACKENDS)))
        message = f"{said} is no backend that is known here{near}: the rule holds for no pod behind it"
        report.warning(item, "unknown-backend", message)
    return Destination(
        "Service" if is_service else f"{kind}.{group}" if kind == "Service" else kind, namespace, name, port
    )
