"""What matters to the pods of one namespace, of all that is in the cluster.

Two answers. *Before* reading: everything that could matter, by names alone, cheap and never too little (``gather``).
*After* reading: which routes lead to the namespace's Services and which policies could hold there, by the same
``Selection`` that the sidecar's compiler uses (``narrow``). The second decides what is put into a bundle, because what
a policy refers to is put there with it, and a namespace that has no part in a policy must not get its Secrets.
Must not know: how anything is stored, watched or written. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from eastgate.compile.selection import Selected
from eastgate.model.policies import Policy
from eastgate.model.routes import ANYBODY, Route
from eastgate.model.sets import PolicySet
from webhook.controllers.excerpts import EVERYWHERE, TABLE_KINDS, Delegate, Excerpt


class Delegations:
    """Which RouteTables delegate to which, kept while tables come and go."""

    def __init__(self) -> None:
        self._named: defaultdict[str, dict[Excerpt, None]] = defaultdict(dict)
        """Tables by their name."""
        self._naming: defaultdict[str | None, dict[Excerpt, None]] = defaultdict(dict)
        """Tables that delegate to a name; under None those that do to labels."""

    def add(self, table: Excerpt) -> None:
        """A table that is there now."""
        self._named[table.reference.name][table] = None
        for delegate in table.delegates:
            self._naming[delegate.name][table] = None

    def remove(self, table: Excerpt) -> None:
        """A table that is no more."""
        self._named[table.reference.name].pop(table, None)
        for delegate in table.delegates:
            self._naming[delegate.name].pop(table, None)

    def parents(self, table: Excerpt) -> Iterator[Excerpt]:
        """Those that delegate to it."""
        return iter(()) if table.rooted else self.naming(table)

    def naming(self, table: Excerpt) -> Iterator[Excerpt]:
        """Those that mean to: to a table with hosts they cannot."""
        for parent in (*self._naming.get(table.reference.name, ()), *self._naming.get(None, ())):
            if any(_delegates_to(delegate, parent, table) for delegate in parent.delegates):
                yield parent

    def children(self, table: Excerpt) -> Iterator[Excerpt]:
        """Those that it delegates to. With hosts of its own a table cannot be; it is named all the same, for the
        reader to say so.
        """
        for delegate in table.delegates:
            if delegate.name is not None:
                candidates: Iterable[Excerpt] = self._named.get(delegate.name, ())
            else:
                candidates = (one for named in self._named.values() for one in named)
            yield from (one for one in candidates if _delegates_to(delegate, table, one))

    def close(self, tables: Iterable[Excerpt]) -> dict[Excerpt, None]:
        """These tables, all that lead to them, and all that any of those leads to."""
        found: dict[Excerpt, None] = {}
        for step in (self.parents, self.children):
            waiting = list(found or tables)
            found |= dict.fromkeys(waiting)
            while waiting:
                for one in step(waiting.pop()):
                    if one not in found:
                        found[one] = None
                        waiting.append(one)
        return found


def _delegates_to(delegate: Delegate, parent: Excerpt, table: Excerpt) -> bool:
    return (
        parent.kind == table.kind
        and delegate.name in (None, table.reference.name)
        and delegate.namespace in (None, table.namespace)
        and delegate.labels <= table.labels
    )


@dataclass(frozen=True, slots=True)
class Gathered:
    """Policies and routes to read, and when there may be others: a route, when it has to do with one of the
    ``concerned`` namespaces; a policy, with one of the ``homes``; what they refer to, with one of those ``around``. In
    all of them ``EVERYWHERE`` stands for any.
    """

    objects: dict[Excerpt, None]
    concerned: frozenset[str]
    homes: frozenset[str]
    around: frozenset[str]


def gather(
    namespace: str,
    policies: Mapping[Excerpt, None],
    routes: Mapping[Excerpt, None],
    delegations: Delegations,
    named: Iterable[str],
) -> Gathered:
    """The namespace's own policies; the routes that may lead to it, or that its policies may hold on; all policies that
    may hold on one of these; and those that pods name (``namespace/name``).
    """
    own = [one for one in policies if one.namespace == namespace]
    concerned = frozenset({namespace}).union(*(one.mentions for one in own))
    if EVERYWHERE in concerned:
        leading = dict(routes)
    else:
        leading = {one: None for one in routes if not concerned.isdisjoint(one.words)}
    found = leading | delegations.close(one for one in leading if one.kind in TABLE_KINDS)
    homes = concerned.union(*({one.namespace, *one.mentions} for one in found))
    wanted = {*named}
    for one in policies:
        if (
            one.namespace in homes
            or not homes.isdisjoint(one.mentions)
            or EVERYWHERE in one.mentions
            or not wanted.isdisjoint(entries_for(one))
        ):
            found[one] = None
    return Gathered(
        objects=found,
        concerned=concerned,
        homes=homes.union(entry.partition("/")[0] for entry in wanted),
        around=homes.union(*({one.namespace, *one.mentions} for one in found)),
    )


def entries_for(policy: Excerpt) -> tuple[str, str]:
    """How a pod of another namespace names a policy."""
    return f"{policy.namespace}/{policy.reference.name}", f"{policy.namespace}/*"


def leads_to(route: Route, namespace: str) -> bool:
    """Whether a route may bind to pods of a namespace (``eastgate.compile.routes.bind``)."""
    if any(one.kind == "Service" and one.namespace == namespace for one in route.destinations):
        return True
    if not route.invalid or route.destinations:
        return False
    return route.namespace == namespace or namespace in route.mentions or ANYBODY in route.mentions


def narrow(namespace: str, policy_set: PolicySet, selected: Mapping[int, Selected]) -> tuple[set[str], set[str]]:
    """The files (``Position.file``) of the routes that lead to a namespace, and of the policies that could hold there.

    A policy that loses to another is one of them: a pod that does not ask for the other has it.
    """
    leading = [route for route in policy_set.routes if leads_to(route, namespace)]
    holding = {one.position.file for one in policy_set.policies if selects_in(one, namespace)}
    seen = set[int]()
    for route in leading:
        one = selected[id(route)]
        holding.update(policy.position.file for policy in one.policies)
        for conflict in (*one.conflicts, *one.overrides):
            # Many routes share one tuple of losers.
            if id(conflict.losers) not in seen:
                seen.add(id(conflict.losers))
                holding.update(policy.position.file for policy in conflict.losers)
    return {route.position.file for route in leading}, holding


def selects_in(policy: Policy, namespace: str) -> bool:
    """Whether a policy's selectors speak of a namespace: of its routes, of its pods that have none, of its Services."""
    home = policy.name.namespace
    return (
        home == namespace
        or any((one.namespace or home) == namespace for one in policy.routes)
        or any(one.namespace in (None, namespace) for one in policy.destinations)
    )
