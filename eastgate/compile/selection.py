"""Which policies hold on a route, and which of two that want the same route wins.

Rules: Gloo (labels of route and table; one JWT policy a route, the oldest wins, then namespace/name; route policies and
destination policies both hold); Envoy Gateway (rule > route > listener > Gateway, the most specific replaces the others
as a whole, then the oldest). Policies of different dialects must all pass. Must not know: requests, keys, hosts.
Where the way a request took cannot be known at the receiver (a route attached to two Gateways), every policy that could
have held does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eastgate.compile.services import ServiceDirectory
from eastgate.model.policies import DestinationSelector, Policy, TargetReference
from eastgate.model.routes import Attachment, Destination, ObjectName, Route

LISTENER_SET_KINDS = frozenset({"ListenerSet", "XListenerSet"})

Age = tuple[bool, str, str, str]
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Selected:
    """The policies that hold on a route, and the losers with the policy that each lost to: ``conflicting`` to one that
    selects the route in the same way, ``overridden`` to one with a more specific target.
    """

    policies: tuple[Policy, ...]
    conflicting: tuple[tuple[Policy, Policy], ...] = ()
    overridden: tuple[tuple[Policy, Policy], ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What selection looks at: a route, or the workload itself where no route is.

    ``namespaces`` None: it is in every namespace (the file set of ``serve`` without a Service, whose namespace nobody
    said). ``routed`` False: only destination policies can hold on it (requests that no route expects).
    """

    labels: Labels
    namespace: str | None
    destinations: tuple[Destination, ...]
    route: Route | None = None
    routed: bool = True


def subject_of(route: Route) -> Subject:
    """A route as selection sees it."""
    return Subject(frozenset(route.labels), route.namespace, route.destinations, route)


def age_of(policy: Policy) -> Age:
    """Sorts the winner of a conflict first: oldest, then namespace/name. Unknown age sorts last."""
    return (not policy.created, policy.created, policy.name.namespace, policy.name.name)


class Selection:
    """Policies indexed by what they select, so that many policies on many routes stay cheap."""

    def __init__(self, policies: Iterable[Policy], services: ServiceDirectory) -> None:
        self._services = services
        self._by_label: defaultdict[str, list[tuple[Labels, Policy]]] = defaultdict(list)
        self._everywhere: defaultdict[str, list[Policy]] = defaultdict(list)
        self._leading: list[tuple[DestinationSelector, Policy]] = []
        self._at_destination: list[tuple[DestinationSelector, Policy]] = []
        self._targeting: defaultdict[ObjectName, list[tuple[TargetReference, Policy]]] = defaultdict(list)
        for policy in policies:
            self._index(policy)

    def _index(self, policy: Policy) -> None:
        home = policy.name.namespace
        for selector in policy.routes:
            self._by_label[selector.namespace or home].append((frozenset(selector.labels), policy))
            if not selector.labels and selector.namespace is None:
                self._everywhere[home].append(policy)
        for destination in policy.destinations:
            (self._leading if destination.of_routes else self._at_destination).append((destination, policy))
        for reference in policy.targets:
            self._targeting[reference.target].append((reference, policy))
        # A broken policy that selects nothing readable is refused wherever it could have applied.
        if policy.everything or (policy.invalid and not (policy.routes or policy.destinations or policy.targets)):
            self._by_label[home].append((frozenset(), policy))
            self._everywhere[home].append(policy)

    def select(self, subject: Subject) -> Selected:
        """The policies that hold on a subject."""
        chosen: dict[int, Policy] = {}
        conflicting: list[tuple[Policy, Policy]] = []
        overridden: list[tuple[Policy, Policy]] = []
        if subject.routed:
            self._settle(self._selected_by_label(subject), chosen, conflicting, apart=subject.namespace is None)
            if subject.route is not None:
                self._attach(subject.route, chosen, conflicting, overridden)
        for destination in subject.destinations:
            at_destination = [p for s, p in self._at_destination if self._leads_to(s, destination)]
            self._settle(at_destination, chosen, conflicting)
        return Selected(tuple(chosen.values()), tuple(conflicting), tuple(overridden))

    def _selected_by_label(self, subject: Subject) -> list[Policy]:
        namespaces = [subject.namespace] if subject.namespace is not None else list(self._by_label)
        found = [
            policy
            for namespace in namespaces
            for labels, policy in self._by_label.get(namespace, ())
            if labels <= subject.labels
        ]
        # A route of another namespace that leads here is no way around what holds for everything here.
        for namespace in {one.namespace for one in subject.destinations} - set(namespaces):
            found.extend(self._everywhere.get(namespace, ()))
        found.extend(
            policy
            for selector, policy in self._leading
            if any(self._leads_to(selector, d) for d in subject.destinations)
        )
        return found

    def _settle(
        self,
        candidates: Sequence[Policy],
        chosen: dict[int, Policy],
        conflicting: list[tuple[Policy, Policy]],
        apart: bool = False,
    ) -> None:
        """One policy a dialect; ``apart``: also one a namespace. Broken policies all stay: they refuse."""
        groups: defaultdict[tuple[str, str], dict[int, Policy]] = defaultdict(dict)
        for policy in candidates:
            if policy.invalid:
                chosen[id(policy)] = policy
            else:
                groups[policy.dialect, policy.name.namespace if apart else ""][id(policy)] = policy
        for group in groups.values():
            self._keep_oldest(group.values(), chosen, conflicting)

    @staticmethod
    def _keep_oldest(
        group: Iterable[Policy], chosen: dict[int, Policy], conflicting: list[tuple[Policy, Policy]]
    ) -> None:
        winner, *losers = sorted(group, key=age_of)
        chosen[id(winner)] = winner
        conflicting.extend((loser, winner) for loser in losers)

    def _attach(
        self,
        route: Route,
        chosen: dict[int, Policy],
        conflicting: list[tuple[Policy, Policy]],
        overridden: list[tuple[Policy, Policy]],
    ) -> None:
        """Envoy Gateway's levels. At the most specific each target keeps its oldest policy; the rest is replaced."""
        ways = [[*self._at_route(route), *found] for found in self._at_attachments(route)] or [[*self._at_route(route)]]
        replaced: dict[int, tuple[Policy, Policy]] = {}
        for way in ways:
            levels: defaultdict[int, defaultdict[TargetReference, dict[int, Policy]]]
            levels = defaultdict(lambda: defaultdict(dict))
            for level, reference, policy in way:
                levels[level][reference][id(policy)] = policy
            if not levels:
                continue
            best = max(levels)
            for group in levels[best].values():
                self._keep_oldest(group.values(), chosen, conflicting)
            winner = min((policy for group in levels[best].values() for policy in group.values()), key=age_of)
            for level, groups in levels.items():
                for group in groups.values() if level != best else ():
                    replaced |= {identity: (policy, winner) for identity, policy in group.items()}
        overridden.extend(pair for identity, pair in replaced.items() if identity not in chosen)

    def _at_route(self, route: Route) -> Iterable[tuple[int, TargetReference, Policy]]:
        for reference, policy in self._targeting.get(route.origin, ()):
            if reference.section is None:
                yield 5, reference, policy
            elif reference.section == route.section:
                yield 6, reference, policy

    def _at_attachments(self, route: Route) -> Iterable[list[tuple[int, TargetReference, Policy]]]:
        """One list for every way in: a request came through one listener or another, and what each demands holds. The
        Gateway behind a ListenerSet (an attachment with an empty section) is part of that ListenerSet's way.
        """
        behind = [
            entry
            for attachment in route.attachments
            if attachment.section == ""
            for entry in self._at_attachment(attachment)
        ]
        for attachment in route.attachments:
            own = list(self._at_attachment(attachment))
            if attachment.parent.kind in LISTENER_SET_KINDS:
                yield [*own, *behind]
            elif attachment.section != "":
                yield own

    def _at_attachment(self, attachment: Attachment) -> Iterable[tuple[int, TargetReference, Policy]]:
        base = 3 if attachment.parent.kind in LISTENER_SET_KINDS else 1
        for reference, policy in self._targeting.get(attachment.parent, ()):
            if reference.section is None:
                yield base, reference, policy
            elif attachment.section is None or attachment.section == reference.section:
                yield base + 1, reference, policy

    def _leads_to(self, selector: DestinationSelector, destination: Destination) -> bool:
        """True when a destination is one of those a selector means. Unknown ports are taken for the same."""
        if destination.kind != "Service":
            return False
        if selector.namespace is not None and selector.namespace != destination.namespace:
            return False
        if selector.name is not None and selector.name != destination.name:
            return False
        if selector.labels:
            labels = self._services.labels(destination.namespace, destination.name)
            # A Service that was not read could carry any label.
            if labels is not None and not frozenset(selector.labels) <= labels:
                return False
        return self._services.may_be_same_port(destination.namespace, destination.name, selector.port, destination.port)
