"""Which policies hold on a route, and which of two that want the same route wins.

Rules: Gloo (labels of route and table; one JWT policy a route, the oldest wins, then namespace/name; route policies and
destination policies both hold); Envoy Gateway (rule > route > listener > Gateway, the most specific replaces the others
as a whole, then the oldest). Policies of different dialects must all pass. Must not know: requests, keys, hosts.
Where the way a request took cannot be known at the receiver (a route attached to two Gateways), every policy that could
have held does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eastgate.compile.services import ServiceDirectory
from eastgate.model.policies import DestinationSelector, Policy, TargetReference
from eastgate.model.routes import Attachment, Destination, ObjectName, Route

LISTENER_SET_KINDS = frozenset({"ListenerSet", "XListenerSet"})

Age = tuple[bool, str, str, str]
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """``losers`` do not hold where ``winner`` does. Many routes share one tuple of losers."""

    winner: Policy
    losers: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """The policies that hold on a route, and those that do not because of another: ``conflicts`` with one that selects
    the route in the same way, ``overrides`` by one with a more specific target.
    """

    policies: tuple[Policy, ...]
    conflicts: tuple[Conflict, ...] = ()
    overrides: tuple[Conflict, ...] = ()

    @property
    def conflicting(self) -> tuple[tuple[Policy, Policy], ...]:
        """Loser and winner of every conflict."""
        return tuple((loser, one.winner) for one in self.conflicts for loser in one.losers)

    @property
    def overridden(self) -> tuple[tuple[Policy, Policy], ...]:
        """Loser and winner wherever a more specific target wins."""
        return tuple((loser, one.winner) for one in self.overrides for loser in one.losers)


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


class _Pack:
    """Policies that select in the same way, and so come and go together: ranked once, whatever they select.

    ``single`` are those that may be in another pack of the same subject as well, and have to be counted once.
    """

    __slots__ = ("_members", "_ranked", "broken", "single")

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._members: defaultdict[str, list[Policy]] = defaultdict(list)
        self._ranked: dict[str, tuple[Policy, tuple[Policy, ...], tuple[Policy, ...]]] | None = None
        self.broken: list[Policy] = []
        self.single: list[Policy] = []
        for policy in policies:
            self.add(policy)

    def add(self, policy: Policy) -> None:
        ways = len(policy.routes) + len(policy.destinations) + policy.everything
        if policy.invalid:
            self.broken.append(policy)
        elif ways > 1:
            self.single.append(policy)
        else:
            self._members[policy.dialect].append(policy)

    def __iter__(self) -> Iterator[Policy]:
        for members in self._members.values():
            yield from members
        yield from self.single
        yield from self.broken

    def ranked(self) -> dict[str, tuple[Policy, tuple[Policy, ...], tuple[Policy, ...]]]:
        """By dialect: the oldest, the others, and all of them."""
        if self._ranked is None:
            self._ranked = {}
            for dialect, members in self._members.items():
                every = tuple(sorted(members, key=age_of))
                self._ranked[dialect] = (every[0], every[1:], every)
        return self._ranked


class _Home:
    """What selects routes of one namespace by their labels. ``native`` packs are of policies that live there."""

    def __init__(self) -> None:
        self._packs: dict[tuple[Labels, bool], _Pack] = {}
        self._wide: list[_Pack] = []
        self._by_pair: defaultdict[tuple[str, str], list[tuple[Labels, _Pack]]] = defaultdict(list)

    def add(self, labels: Labels, policy: Policy, native: bool) -> None:
        pack = self._packs.get((labels, native))
        if pack is None:
            pack = self._packs[labels, native] = _Pack()
            if labels:
                # Any pair will do, as long as every route with these labels has it.
                self._by_pair[min(labels)].append((labels, pack))
            else:
                self._wide.append(pack)
        pack.add(policy)

    def find(self, labels: Labels) -> list[_Pack]:
        """The packs that select a route with these labels."""
        found = self._wide.copy()
        for pair in sorted(labels) if self._by_pair else ():
            found.extend(pack for wanted, pack in self._by_pair.get(pair, ()) if wanted <= labels)
        return found


class Selection:
    """Policies indexed by what they select, so that many policies on many routes stay cheap."""

    def __init__(self, policies: Iterable[Policy], services: ServiceDirectory) -> None:
        self._services = services
        self._by_label: defaultdict[str, _Home] = defaultdict(_Home)
        self._everywhere: defaultdict[str, _Pack] = defaultdict(_Pack)
        self._leading: list[tuple[DestinationSelector, Policy]] = []
        self._at_destination: list[tuple[DestinationSelector, Policy]] = []
        self._targeting: defaultdict[ObjectName, list[tuple[TargetReference, Policy]]] = defaultdict(list)
        self._led: dict[tuple[Destination, ...], _Pack] = {}
        self._reached: dict[Destination, tuple[tuple[Policy, ...], tuple[Conflict, ...]]] = {}
        self._attached: dict[tuple[object, ...], tuple[tuple[Policy, ...], tuple[Conflict, ...], tuple[Conflict, ...]]]
        self._attached = {}
        for policy in policies:
            self._index(policy)

    def _index(self, policy: Policy) -> None:
        home = policy.name.namespace
        for selector in policy.routes:
            namespace = selector.namespace or home
            native = selector.namespace is None
            self._by_label[namespace].add(frozenset(selector.labels), policy, native)
            if not selector.labels and native:
                self._everywhere[home].add(policy)
        for destination in policy.destinations:
            (self._leading if destination.of_routes else self._at_destination).append((destination, policy))
        for reference in policy.targets:
            self._targeting[reference.target].append((reference, policy))
        # A broken policy that selects nothing readable is refused wherever it could have applied.
        if policy.everything or (policy.invalid and not (policy.routes or policy.destinations or policy.targets)):
            self._by_label[home].add(frozenset(), policy, native=True)
            self._everywhere[home].add(policy)

    def select(self, subject: Subject) -> Selected:
        """The policies that hold on a subject."""
        chosen: dict[int, Policy] = {}
        conflicts: list[Conflict] = []
        overrides: tuple[Conflict, ...] = ()
        if subject.routed:
            self._settle(self._selected_by_label(subject), chosen, conflicts, apart=subject.namespace is None)
            if subject.route is not None:
                policies, lost, overrides = self._attach(subject.route)
                chosen.update((id(policy), policy) for policy in policies)
                conflicts += lost
                overrides = _without(overrides, chosen)
        for destination in subject.destinations:
            reached, lost = self._at(destination)
            chosen.update((id(policy), policy) for policy in reached)
            conflicts += lost
        return Selected(tuple(chosen.values()), tuple(conflicts), overrides)

    def _selected_by_label(self, subject: Subject) -> list[_Pack]:
        namespaces = [subject.namespace] if subject.namespace is not None else list(self._by_label)
        found = [
            pack for one in namespaces if one in self._by_label for pack in self._by_label[one].find(subject.labels)
        ]
        # A route of another namespace that leads here is no way around what holds for everything here.
        abroad = dict.fromkeys(one.namespace for one in subject.destinations if one.namespace not in namespaces)
        found.extend(self._everywhere[namespace] for namespace in abroad if namespace in self._everywhere)
        if self._leading and subject.destinations:
            found.append(self._leading_to(subject.destinations))
        return found

    def _leading_to(self, destinations: tuple[Destination, ...]) -> _Pack:
        pack = self._led.get(destinations)
        if pack is None:
            policies = {
                id(policy): policy
                for selector, policy in self._leading
                if any(self._leads_to(selector, one) for one in destinations)
            }
            pack = self._led[destinations] = _Pack(policies.values())
        return pack

    def _at(self, destination: Destination) -> tuple[tuple[Policy, ...], tuple[Conflict, ...]]:
        """What holds on every request to a destination."""
        settled = self._reached.get(destination)
        if settled is None:
            policies = {id(p): p for selector, p in self._at_destination if self._leads_to(selector, destination)}
            chosen: dict[int, Policy] = {}
            conflicts: list[Conflict] = []
            self._settle([_Pack(policies.values())], chosen, conflicts)
            settled = self._reached[destination] = (tuple(chosen.values()), tuple(conflicts))
        return settled

    @staticmethod
    def _settle(
        packs: Sequence[_Pack], chosen: dict[int, Policy], conflicts: list[Conflict], apart: bool = False
    ) -> None:
        """One policy a dialect; ``apart``: also one a namespace. Broken policies all stay: they refuse."""
        for pack in packs:
            chosen.update((id(policy), policy) for policy in pack.broken)
        if apart:
            groups: defaultdict[tuple[str, str], dict[int, Policy]] = defaultdict(dict)
            for policy in (policy for pack in packs for policy in pack if not policy.invalid):
                groups[policy.dialect, policy.name.namespace][id(policy)] = policy
            for group in groups.values():
                _keep_oldest(group.values(), chosen, conflicts)
            return
        single = {id(policy): policy for pack in packs for policy in pack.single}
        dialects = dict.fromkeys(
            [*(one for pack in packs for one in pack.ranked()), *(p.dialect for p in single.values())]
        )
        for dialect in dialects:
            ranked = [pack.ranked()[dialect] for pack in packs if dialect in pack.ranked()]
            alone = [policy for policy in single.values() if policy.dialect == dialect] if single else []
            winner = min((*(oldest for oldest, _, _ in ranked), *alone), key=age_of)
            chosen[id(winner)] = winner
            losing = [others if oldest is winner else every for oldest, others, every in ranked]
            losing.append(tuple(sorted((policy for policy in alone if policy is not winner), key=age_of)))
            conflicts.extend(Conflict(winner, losers) for losers in losing if losers)

    def _attach(self, route: Route) -> tuple[tuple[Policy, ...], tuple[Conflict, ...], tuple[Conflict, ...]]:
        """Envoy Gateway's levels. At the most specific each target keeps its oldest policy; the rest is replaced."""
        if not self._targeting:
            return (), (), ()
        own = [*self._at_route(route)]
        key = (*((level, reference, id(policy)) for level, reference, policy in own), route.attachments)
        settled = self._attached.get(key)
        if settled is None:
            ways = [[*own, *found] for found in self._at_attachments(route)] or [own]
            settled = self._attached[key] = _settle_levels(ways)
        return settled

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


Way = Sequence[tuple[int, TargetReference, Policy]]


def _settle_levels(ways: Iterable[Way]) -> tuple[tuple[Policy, ...], tuple[Conflict, ...], tuple[Conflict, ...]]:
    """What holds, who lost to another of the same target, and who was replaced by a more specific one."""
    chosen: dict[int, Policy] = {}
    conflicts: list[Conflict] = []
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
            _keep_oldest(group.values(), chosen, conflicts)
        winner = min((policy for group in levels[best].values() for policy in group.values()), key=age_of)
        for level, groups in levels.items():
            for group in groups.values() if level != best else ():
                replaced |= {identity: (policy, winner) for identity, policy in group.items()}
    overrides: dict[int, list[Policy]] = {}
    winners: dict[int, Policy] = {}
    for identity, (policy, winner) in replaced.items():
        if identity not in chosen:
            overrides.setdefault(id(winner), []).append(policy)
            winners[id(winner)] = winner
    return (
        tuple(chosen.values()),
        tuple(conflicts),
        tuple(Conflict(winners[identity], tuple(losers)) for identity, losers in overrides.items()),
    )


def _keep_oldest(group: Iterable[Policy], chosen: dict[int, Policy], conflicts: list[Conflict]) -> None:
    winner, *losers = sorted(group, key=age_of)
    chosen[id(winner)] = winner
    if losers:
        conflicts.append(Conflict(winner, tuple(losers)))


def _without(overrides: tuple[Conflict, ...], chosen: dict[int, Policy]) -> tuple[Conflict, ...]:
    """Who holds all the same, in another way, was not replaced."""
    if not any(id(loser) in chosen for one in overrides for loser in one.losers):
        return overrides
    kept = (Conflict(one.winner, tuple(p for p in one.losers if id(p) not in chosen)) for one in overrides)
    return tuple(one for one in kept if one.losers)
