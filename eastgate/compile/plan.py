"""The plan: one policy set compiled for one workload. The request path sees nothing else.

Knows: which routes bind to which port, what holds where none is bound and where none matches, which policies the
workload asked for. Must not know: tokens, time, how a decision is rendered. There is no "no plan" at request time: a
policy that does not exist is a refusal for the whole workload.
Rules: DESIGN's policy semantics, after Gloo, the Gateway API and Envoy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from eastgate.compile.digest import digest_of
from eastgate.compile.guards import Guard, Refusal, build_guard, guard_broken_match, guard_route, join_guards
from eastgate.compile.paths import drop_parameters
from eastgate.compile.policies import PolicyCompiler, PolicyPlan, ProviderPlan, find_problems, policy_name
from eastgate.compile.routes import Bound, RouteIndex, Standing, bind, header_names_of
from eastgate.compile.selection import Selection, Subject, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.model.decisions import Edits, Reason
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import Policy
from eastgate.model.requests import Request
from eastgate.model.routes import Action, Destination
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Unmatched, Workload

IMPLICIT_ROUTE = "implicit"
"""The text form of the route that matches everything where no route is bound to the port."""

MAX_JOINED = 4096
"""Pairs of guards remembered; there are rarely more than a few."""


NOT_EXPECTED = Refusal(
    Reason.ROUTE_NOT_FOUND, "only a route of another namespace matches: the workload's own expect no such request"
)


class Abroad(NamedTuple):
    """What tables of other namespaces say, for requests that no route of the workload's own matches. They lend it
    further names, and take nothing away: whom their ``routes`` match meets the ``own`` ones for the same request under
    any host as well, and where there are none such ``otherwise``.
    """

    routes: RouteIndex[Guard]
    own: RouteIndex[Guard]
    otherwise: Guard


class Entrance(NamedTuple):
    """One destination port: its routes, and what holds where there are none or none matches."""

    routes: RouteIndex[Guard]
    implicit: Guard
    unmatched: Guard
    abroad: Abroad | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """``sources`` are the remote key sets to fetch beforehand. ``asserted`` are the headers that no client may send;
    ``routing_on_asserted`` says that some route matches on one of them.
    ``refusal`` refuses everything: a policy that the workload asked for does not exist.
    """

    workload: Workload
    digest: str
    sources: tuple[RemoteKeys, ...]
    diagnostics: tuple[Diagnostic, ...]
    policies: tuple[PolicyPlan, ...]
    providers: tuple[ProviderPlan, ...]
    guards: tuple[Guard, ...]
    asserted: frozenset[bytes]
    routing_on_asserted: bool
    refusal: Refusal | None
    entrances: dict[int, Entrance]
    elsewhere: Entrance
    _joined: dict[tuple[int, ...], Guard]

    def find(self, request: Request, path: bytes, query: bytes | None) -> Guard:
        """The guard that a request meets. ``path`` is canonical."""
        entrance = self.entrances.get(request.port, self.elsewhere)
        routes, abroad = entrance.routes, entrance.abroad
        if not routes.bound and abroad is None:
            return entrance.implicit
        if self.routing_on_asserted:
            # A route that matches on a claim's header means the policy's word for it, not the client's.
            request = request._replace(headers=tuple(Edits(b"", self.asserted).apply(request.headers)))
        matched = routes.find(request, path, query)
        if b";" in path and (matched or entrance.unmatched.refusal is None):
            # Some applications drop path parameters before they route (CVE-2026-73553): what holds there holds, too.
            # It opens nothing: a path that no route expects as it was sent stays unmatched.
            matched += routes.find(request, drop_parameters(path), query)
        if len(matched) == 1:
            return matched[0]
        if not matched and abroad is not None:
            matched = self._look_abroad(abroad, request, path, query)
        return self._join(matched) if matched else entrance.unmatched if routes.bound else entrance.implicit

    @staticmethod
    def _look_abroad(abroad: Abroad, request: Request, path: bytes, query: bytes | None) -> list[Guard]:
        """Nothing where no table of another namespace matches either."""
        paths = [path, drop_parameters(path)] if b";" in path else [path]
        matched = [guard for one in paths for guard in abroad.routes.find(request, one, query)]
        if not matched:
            return []
        own = [guard for one in paths for guard in abroad.own.find(request, one, query)]
        return [*(own or [abroad.otherwise]), *matched]

    def _join(self, matched: list[Guard]) -> Guard:
        distinct = {id(guard): guard for guard in matched}
        if len(distinct) == 1:
            return matched[0]
        key = tuple(distinct)
        joined = self._joined.get(key)
        if joined is None:
            if len(self._joined) >= MAX_JOINED:
                self._joined.clear()
            joined = self._joined[key] = join_guards(tuple(distinct.values()))
        return joined

    def summary(self) -> dict[str, object]:
        """What is loaded, for ``/config``: names and places, no key and no secret."""
        return {
            "digest": self.digest,
            "namespace": self.workload.namespace,
            "mode": str(self.workload.mode),
            "unmatched": str(self.workload.unmatched),
            "services": None
            if self.workload.services is None
            else [
                f"{ns}/{name}" + (f":{port}" if port is not None else "") for ns, name, port in self.workload.services
            ],
            "refusing": self.refusal.detail if self.refusal is not None else None,
            "ports": sorted(port for port in self.entrances if port),
            "policies": [_summarise_policy(plan) for plan in self.policies],
            "routes": [
                {
                    "route": guard.route,
                    "policies": list(guard.names),
                    "refusing": guard.refusal.detail if guard.refusal is not None else None,
                }
                for guard in self.guards
            ],
            "jwks": [source.label for source in self.sources],
            "diagnostics": [str(diagnostic) for diagnostic in self.diagnostics],
        }


def _summarise_policy(plan: PolicyPlan) -> dict[str, object]:
    return {
        "name": plan.name,
        "kind": plan.policy.name.kind,
        "dialect": plan.policy.dialect,
        "invalid": list(plan.invalid),
        "providers": [
            {
                "name": one.provider.name,
                "issuer": one.provider.issuer,
                "audiences": list(one.provider.audiences),
                "keys": one.source.label
                if one.source is not None
                else one.provider.keys.origin
                if isinstance(one.provider.keys, LocalKeys)
                else "",
            }
            for one in plan.providers
        ],
        "authorization": plan.authorization is not None,
    }


def compile_plan(policy_set: PolicySet, workload: Workload) -> Plan:
    """Compile. Never raises for what a person wrote: what is unusable refuses."""
    return _Compilation(policy_set, workload).run()


def narrow_policies(policies: Iterable[Policy], workload: Workload) -> tuple[list[Policy], list[str]]:
    """The policies that the workload asks for, and the names among them that there are none of.

    Without Services (``serve`` on a file set) the workload's namespace was never said, so ``*`` is every policy and a
    bare name is that name in any namespace.
    """
    policies = list(policies)
    if workload.policies is None:
        return policies, []
    anywhere = workload.services is None
    wanted = dict[int, Policy]()
    missing = []
    for entry in workload.policies:
        namespace, slash, name = entry.rpartition("/")
        if not slash:
            namespace = "" if anywhere else workload.namespace
        found = [
            policy
            for policy in policies
            if name in ("*", policy.name.name) and (not namespace or policy.name.namespace == namespace)
        ]
        if not found:
            missing.append(entry)
        wanted.update((id(policy), policy) for policy in found)
    return [policy for policy in policies if id(policy) in wanted], missing


class _Compilation:
    """The work of ``compile_plan``, kept together while it lasts."""

    def __init__(self, policy_set: PolicySet, workload: Workload) -> None:
        self.set = policy_set
        self.workload = workload
        self.services = ServiceDirectory(policy_set.services)
        policies, self.missing = narrow_policies(policy_set.policies, workload)
        # What cannot be compiled is a broken policy from here on: it refuses, and selects as one.
        policies = [
            policy if policy.invalid else replace(policy, invalid=tuple(str(one) for one in find_problems(policy)))
            for policy in policies
        ]
        self.narrowed = policies
        self.selection = Selection(policies, self.services)
        self.heard = _namespaces_of_routes(policies)
        self.compiler = PolicyCompiler()
        self.plans: dict[int, PolicyPlan] = {}

    def run(self) -> Plan:
        bound = [one for one in (bind(route, self.workload, self.services) for route in self.set.routes) if one]
        routes = [self._guard(one) for one in bound if self._counts(one)]
        ports = {port for one in bound for port in one.ports or ()}
        for namespace, name, port in () if self.workload.one_port else self.workload.services or ():
            ports |= self.services.targets(namespace, name, port) or set()
        entrances = {
            port: self._entrance([route for route in routes if route[0].ports is None or port in route[0].ports], port)
            for port in ports
        }
        entrances[0] = self._entrance(routes, 0)
        elsewhere = entrances[0]
        if not self.workload.one_port:
            elsewhere = self._entrance([route for route in routes if route[0].ports is None], -1)
        guards = [guard for _, guard, _ in routes]
        guards += [
            guard for entrance in (*entrances.values(), elsewhere) for guard in (entrance.implicit, entrance.unmatched)
        ]
        asserted = frozenset[bytes]().union(*(plan.asserted for plan in self.compiler.policies))
        return Plan(
            workload=self.workload,
            digest=digest_of(self.set, self.workload),
            sources=tuple(dict.fromkeys(p.source for p in self.compiler.providers if p.source is not None)),
            diagnostics=(*self.set.diagnostics, *self._complaints()),
            policies=tuple(self.compiler.policies),
            providers=tuple(self.compiler.providers),
            guards=tuple(
                {id(guard): guard for guard in guards if guard.names or guard.refusal or guard.route}.values()
            ),
            asserted=asserted,
            routing_on_asserted=any(not asserted.isdisjoint(header_names_of(one.route)) for one in bound),
            refusal=self._missing_policy(),
            entrances=entrances,
            elsewhere=elsewhere,
            _joined={},
        )

    def _guard(self, bound: Bound) -> tuple[Bound, Guard, Guard]:
        """What a route leads to where it matches, and where that cannot be said."""
        policies = self._select(replace_destinations(bound))
        if bound.standing is Standing.FOREIGN and bound.route.namespace not in self.heard:
            guard = build_guard(str(bound.route), policies)
            return bound, guard, guard
        return bound, guard_route(bound.route, policies), guard_broken_match(bound.route)

    def _counts(self, bound: Bound) -> bool:
        """A foreign route that refuses by itself (it is broken, or answers on the way) counts where policies hold on
        routes of its namespace: they would be missed. Otherwise it protects nothing here, and must not deny anything.
        """
        route = bound.route
        if bound.standing is not Standing.FOREIGN or route.namespace in self.heard:
            return True
        return route.action is Action.FORWARD and not route.invalid

    def _missing_policy(self) -> Refusal | None:
        if not self.missing:
            return None
        names = ", ".join(f"`{name}`" for name in self.missing)
        return Refusal(Reason.POLICY_UNAVAILABLE, f"the workload asks for {names}, and there is no such policy")

    def _complaints(self) -> Iterable[Diagnostic]:
        for policy in self.narrowed:
            if policy.invalid and not self._was_invalid(policy):
                for problem in find_problems(replace(policy, invalid=())):
                    where = policy.place_of(problem.field)
                    yield Diagnostic(
                        where, Severity.ERROR, problem.code, problem.message, str(policy.name), problem.field
                    )

    def _was_invalid(self, policy: Policy) -> bool:
        return any(
            one.invalid for one in self.set.policies if one.name == policy.name and one.dialect == policy.dialect
        )

    def _select(self, subject: Subject) -> list[PolicyPlan]:
        return [self._compile(policy) for policy in self.selection.select(subject).policies]

    def _compile(self, policy: Policy) -> PolicyPlan:
        plan = self.plans.get(id(policy))
        if plan is None:
            plan = self.plans[id(policy)] = self.compiler.compile(policy)
        return plan

    def _entrance(self, routes: list[tuple[Bound, Guard, Guard]], port: int) -> Entrance:
        workload = self.workload
        whole = Subject(
            labels=frozenset(workload.labels),
            namespace=None if workload.services is None else workload.namespace,
            destinations=self._own_destinations(port),
        )
        if workload.unmatched is Unmatched.ALLOW:
            unrouted = self._select(replace(whole, routed=False))
            unmatched = build_guard("", unrouted, passing=Reason.UNMATCHED_ALLOWED)
        else:
            unmatched = build_guard("", (), Refusal(Reason.ROUTE_NOT_FOUND, "routes are bound here and none matches"))
        implicit = build_guard(IMPLICIT_ROUTE, self._select(whole))
        own = RouteIndex((one for one in routes if one[0].standing is not Standing.FOREIGN), self.services)
        foreign = RouteIndex((one for one in routes if one[0].standing is Standing.FOREIGN), self.services)
        if not foreign.bound:
            return Entrance(own, implicit, unmatched)
        otherwise = implicit
        if own.bound:
            otherwise = unmatched if unmatched.refusal is None else build_guard("", (), NOT_EXPECTED)
        return Entrance(own, implicit, unmatched, Abroad(foreign, own.under_any_host(), otherwise))

    def _own_destinations(self, port: int) -> tuple[Destination, ...]:
        """The Services that the workload is, with the ports that lead to this one (0: to any)."""
        if self.workload.services is None:
            return self._every_destination()
        found: list[Destination] = []
        for namespace, name, service_port in self.workload.services:
            numbers = self.services.ports_to(namespace, name, service_port, port)
            found.extend(Destination("Service", namespace, name, number) for number in numbers)
        return tuple(found)

    def _every_destination(self) -> tuple[Destination, ...]:
        """Every Service that the file set speaks of: the one upstream stands for all of them."""
        known = {(one.namespace, one.name): None for one in self.set.services}
        for route in self.set.routes:
            known |= {(one.namespace, one.name): None for one in route.destinations if one.kind == "Service"}
        for policy in self.narrowed:
            for selector in policy.destinations:
                namespace = selector.namespace or policy.name.namespace
                known[namespace, selector.name or "*"] = None
        return tuple(Destination("Service", namespace, name) for namespace, name in known)


def _namespaces_of_routes(policies: Iterable[Policy]) -> frozenset[str]:
    """The namespaces on whose routes these policies can hold because of what the routes are, not of where they lead."""
    found = set[str]()
    for policy in policies:
        found.add(policy.name.namespace)
        found.update(selector.namespace for selector in policy.routes if selector.namespace)
        found.update(reference.target.namespace for reference in policy.targets)
    return frozenset(found)


def replace_destinations(bound: Bound) -> Subject:
    """A bound route as selection sees it: only its destinations that are the workload count."""
    return replace(subject_of(bound.route), destinations=bound.local)


__all__ = ["Entrance", "Plan", "compile_plan", "narrow_policies", "policy_name"]
