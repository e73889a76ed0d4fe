"""RouteTables, one by one: what is written in each, before delegation joins them.

Rules: Gloo ``networking.gloo.solo.io/v2`` RouteTable (2.14). At the receiver a table is a source of routes and their
labels; what it says about gateways and senders is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from eastgate.dialects.catalogue import Object
from eastgate.dialects.documents import Fields, Reporter, Value, show
from eastgate.dialects.gloo.dialect import Scope, open_spec
from eastgate.dialects.gloo.forwarding import Forwarding, read_answer, read_destination, read_forwarding
from eastgate.dialects.gloo.matchers import read_matches
from eastgate.dialects.identity import check_labels
from eastgate.dialects.references import note_cluster
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.routes import Destination, Match

KIND = "RouteTable"
MAX_ENTRIES = 10_000
"""Of ``http``, as the CRD has it."""

LONGEST_HOST = 255
"""Of a DNS name, as the CRD has it."""

ACTIONS = ("forwardTo", "delegate", "redirect", "directResponse", "graphql")

_HOST = re.compile(r"(?:\*|(?:\*[-a-z0-9]*)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class TableSelector:
    """Tables to delegate to. ``at`` is where it is written."""

    name: str | None
    namespace: str | None
    labels: tuple[tuple[str, str], ...]
    at: Value


@dataclass(frozen=True, slots=True)
class Delegation:
    """``by_specificity``: all delegated routes together are sorted, otherwise their tables by weight."""

    selectors: tuple[TableSelector, ...]
    by_specificity: bool


@dataclass(slots=True)
class Entry:
    """One entry of ``http``. ``fields`` is where delegation and rewriting report; its errors make the route invalid."""

    index: int
    name: str
    labels: frozenset[tuple[str, str]]
    matches: tuple[Match, ...]
    action: str | None
    forwarding: Forwarding
    delegation: Delegation | None
    fields: Fields

    @property
    def report(self) -> Reporter:
        """The entry's own reporter."""
        return self.fields.report

    def copy(self, sink: list[Diagnostic]) -> Entry:
        """The same entry with a reporter of its own."""
        fields, forwarding = self.fields.copy(sink), self.forwarding
        if forwarding.fields is not None:
            inner = forwarding.fields.copy(sink)
            inner.report = fields.report
            forwarding = Forwarding(forwarding.destinations, forwarding.rewrite, inner)
        return Entry(self.index, self.name, self.labels, self.matches, self.action, forwarding, self.delegation, fields)


@dataclass(slots=True)
class Table:
    """``rooted``: it has hosts, and so cannot be delegated to. ``for_nobody``: no sender may use it."""

    found: Object
    hosts: tuple[str, ...]
    rooted: bool
    weight: int
    for_nobody: bool
    fields: Fields
    errors: list[str]
    entries: list[Entry] = field(default_factory=list)

    def copy(self, sink: list[Diagnostic]) -> Table:
        """The same table for another reading: what is reported about the copy is not reported about this one."""
        fields = self.fields.copy(sink)
        entries = [entry.copy(sink) for entry in self.entries]
        return replace(self, fields=fields, errors=fields.report.errors, entries=entries)


def read_tables(scope: Scope) -> Iterator[Table]:
    """Every RouteTable of the dialect."""
    for found in scope.catalogue.of_kind(scope.dialect.route_group, KIND):
        kept = scope.catalogue.remember(found, scope.dialect.name, scope.sink, partial(_read_table_apart, found, scope))
        # Delegation reports into the table it works on: what is kept stays as it was read.
        yield kept.copy(scope.sink)


def _read_table_apart(found: Object, scope: Scope) -> Table:
    return _read_table(found, scope).copy([])


def _read_table(found: Object, scope: Scope) -> Table:
    report = scope.report_on(found)
    with open_spec(found, report) as spec:
        table = Table(
            found=found,
            hosts=_read_hosts(spec, own=scope.dialect.own),
            rooted=bool(spec.items("hosts")),
            weight=spec.integer("weight", least=-(2**31), most=2**31 - 1) or 0,
            for_nobody=_read_senders(spec),
            fields=spec,
            errors=report.errors,
        )
        default = spec.take("defaultDestination")
        destination = read_destination(default, found.namespace, spec, scope.catalogue) if default is not None else None
        _note_the_rest(spec)
        if not any(spec.has(name) for name in ("http", "tcp", "tls")):
            report.error(spec.at("http"), "missing-field", "one of `http`, `tcp`, `tls` is required")
        names: dict[str, int] = {}
        for index, item in enumerate(spec.items("http", most=MAX_ENTRIES)):
            own_report = Reporter(scope.sink, report.subject)
            with Fields(item, own_report) as fields:
                table.entries.append(_read_entry(fields, index, found.namespace, destination, names, scope))
        if spec.has("http") and spec.at("http").data == []:
            report.warning(spec.at("http"), "no-routes", "an empty `http` routes nothing")
        if spec.has("http") and not isinstance(spec.at("http").data, list):
            # What it routes is not known: one entry that matches everything, and refuses it.
            table.entries.append(_stand_in(spec.at("http"), report))
    return table


def _stand_in(at: Value, report: Reporter) -> Entry:
    return Entry(0, "", frozenset(), (), None, Forwarding(), None, Fields(Value({}, at.path, at.position), report))


def _read_hosts(spec: Fields, *, own: bool) -> tuple[str, ...]:
    """Hosts in lower case. One that cannot be read makes the table stand for every host, and invalid."""
    hosts = []
    before = len(spec.report.errors)
    for text in spec.texts("hosts"):
        host = text.lower().removesuffix(".")
        if len(host) > LONGEST_HOST or _HOST.fullmatch(host) is None:  # the expression is for short texts
            spec.report.error(
                spec.at("hosts"),
                "bad-host",
                f"{show(text)} is not a host; accepted: a DNS name without port, its first label may begin with `*`",
            )
        elif host == "*" and not own:
            spec.report.warning(spec.at("hosts"), "every-host", "`*` stands for every host; Gloo wants a name")
        hosts.append(host)
    return tuple(hosts) if len(spec.report.errors) == before else ()


def _read_senders(spec: Fields) -> bool:
    """``virtualGateways`` and ``workloadSelectors`` say who may send. True: nobody."""
    gateways = spec.items("virtualGateways")
    for item in gateways:
        with Fields(item, spec.report) as gateway:
            gateway.text("name", required=True)
            gateway.text("namespace")
            note_cluster(gateway)
    if gateways:
        spec.note("virtualGateways", "for ingress; at the receiver the routes hold for requests from everywhere")
    selectors = spec.items("workloadSelectors")
    narrow = False
    for item in selectors:
        with Fields(item, spec.report) as selector:
            if selector.choice("kind", ("KUBE", "VM"), "KUBE") == "VM":
                spec.report.error(selector.at("kind"), "unsupported-value", "only workloads of kind KUBE send")
            selector.ignore("port")  # used by other policies, says the CRD
            with selector.mapping("selector") as inner:
                narrow |= bool(inner.labels("labels"))
                for name in ("name", "namespace", "cluster", "workspace"):
                    if inner.text(name):
                        inner.refuse(name, f"senders are selected by labels only, `{name}` must be empty")
    if narrow:
        spec.note(
            "workloadSelectors", "chooses who is routed when sending; at the receiver the routes hold for every source"
        )
    nobody = spec.has("workloadSelectors") and not selectors and not gateways and bool(spec.items("hosts"))
    if nobody and isinstance(spec.at("workloadSelectors").data, list):
        spec.report.warning(
            spec.at("workloadSelectors"),
            "for-nobody",
            "`[]` without `virtualGateways` selects no sender: the table's routes match no request, and what no other "
            "table expects is refused (404); write `[{}]`, or nothing, for every sender",
        )
        return True
    return False


def _note_the_rest(spec: Fields) -> None:
    for name, what in (("tcp", "TCP"), ("tls", "TLS")):
        spec.note(name, f"{what} routes are not enforced: a policy on a token needs HTTP")
    spec.note("applyToDestinations", "no effect: for waypoints; the routes hold in the pods they lead to")
    spec.note("portalMetadata", "no effect: for Gloo's portal")
    spec.note("virtualServiceAnnotations", "no effect: no VirtualService is made")
    if spec.choice("failureMode", ("ROUTE_REPLACEMENT", "FREEZE_CONFIG"), "") and spec.has("failureMode"):
        spec.note("failureMode", "no effect: a route with an error answers 503, and a set with errors is not loaded")


def _read_entry(
    fields: Fields, index: int, namespace: str, default: Destination | None, names: dict[str, int], scope: Scope
) -> Entry:
    labels = fields.labels("labels")
    check_labels(fields, "labels", labels)
    action = fields.choose(*ACTIONS, required=True)
    forwarding, delegation = Forwarding(), None
    for name in ACTIONS:
        if not fields.has(name):
            continue
        if name == "forwardTo":
            with fields.mapping(name) as forward:
                forwarding = read_forwarding(forward, namespace, default, scope.catalogue)
        elif name == "delegate":
            with fields.mapping(name) as delegate:
                delegation = _read_delegation(delegate)
        else:
            read_answer(fields, name)
    return Entry(
        index=index,
        name=_read_name(fields, names),
        labels=frozenset(labels),
        matches=read_matches(fields, own=scope.dialect.own),
        action=action,
        forwarding=forwarding,
        delegation=delegation,
        fields=fields,
    )


def _read_name(fields: Fields, names: dict[str, int]) -> str:
    """Names are made unique as Gloo does; an ``insecure-`` before them is dropped."""
    name = (fields.text("name") or "").removeprefix("insecure-")
    if not name:
        return ""
    count = names.get(name, 0)
    names[name] = count + 1
    if not count:
        return name
    fields.report.warning(
        fields.at("name"), "name-twice", f"an earlier route is called {show(name)}; called `duplicate-{name}-{count}`"
    )
    return f"duplicate-{name}-{count}"


def _read_delegation(delegate: Fields) -> Delegation:
    selectors = []
    for item in delegate.items("routeTables", least=1):
        with Fields(item, delegate.report) as selector:
            note_cluster(selector, "cluster", "workspace")
            labels = selector.labels("labels")
            check_labels(selector, "labels", labels)
            name, namespace = selector.text("name") or None, selector.text("namespace") or None
            selectors.append(TableSelector(name, namespace, labels, item))
    if not delegate.has("routeTables"):
        delegate.report.error(delegate.at("routeTables"), "missing-field", "`routeTables` is required")
    delegate.note("allowedRoutes", "no effect: it filters routes to cloud functions")
    method = delegate.choice("sortMethod", ("TABLE_WEIGHT", "ROUTE_SPECIFICITY"), "TABLE_WEIGHT")
    return Delegation(tuple(selectors), method == "ROUTE_SPECIFICITY")
