"""From RouteTables to routes: delegation resolved, labels and hosts inherited, rewrites applied.

Tables with hosts are roots; a table without hosts is used where another delegates to it. A delegated route holds where
its own matcher *and* its parent's do, and carries the labels of both. The order of the routes returned is the order in
which they are tried: tables by age, entries as written, delegated tables by weight or their routes by specificity.
A label key may appear twice with different values, when entry and table both set it: a selector may name either.
Rules: Gloo RouteTable, DelegateAction (2.14).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from eastgate.dialects.gateway.references import CORE_GROUP, has_grants, is_granted, say_not_granted
from eastgate.dialects.gloo.dialect import Scope
from eastgate.dialects.gloo.forwarding import rewrite_matches
from eastgate.dialects.gloo.matchers import UnjoinableError, join_matches, specificity
from eastgate.dialects.gloo.tables import KIND, MAX_ENTRIES, Entry, Table, TableSelector, read_tables
from eastgate.model.routes import Action, Match, Order, Route

MAX_ROUTES = MAX_ENTRIES
"""Entries under one root table with all that it delegates to: as many as Gloo lets one table list."""


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What a table has from above. ``chain`` are the tables on the way, for cycles; ``asked`` are the namespaces of
    those above it that asked for it, or for one on the way to it, by its namespace.
    """

    hosts: tuple[str, ...]
    created: str
    chain: tuple[Table, ...]
    asked: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    matches: tuple[Match, ...] = ()
    invalid: tuple[str, ...] = ()


def read_routes(scope: Scope) -> list[Route]:
    """The routes of every table of the dialect."""
    tables = sorted(read_tables(scope), key=lambda table: table.found.created)
    return _Expansion(tables, scope).expand()


class _Expansion:
    def __init__(self, tables: list[Table], scope: Scope) -> None:
        self.tables = tables
        self.scope = scope
        self.room = MAX_ROUTES
        self.full = False
        self.expanded: set[int] = set()

    def expand(self) -> list[Route]:
        used = {id(child) for table in self.tables for entry in table.entries for child in self._children(table, entry)}
        routes: list[Route] = []
        for table in self.tables:
            if not table.rooted and id(table) in used:
                continue
            if not table.rooted and not self.scope.dialect.own:
                table.fields.report.warning(
                    table.fields.at("hosts"),
                    "no-hosts",
                    "without `hosts` a table is only used where another delegates to it, and none does: "
                    "its routes hold for every host",
                )
            routes += self._expand_root(table)
        for table in self.tables:
            # Left over: tables that only lead to each other. Gone missing they would open what they route.
            if id(table) not in self.expanded and not self.full:
                table.fields.report.error(
                    table.fields.at("hosts"),
                    "cycle",
                    "is delegated to only by tables that lead back to it, and none of them has `hosts`: no request "
                    "reaches it; set `hosts` in the first of them",
                )
                routes += self._expand_root(table)
        return routes

    def _expand_root(self, table: Table) -> list[Route]:
        self.room, self.full = MAX_ROUTES, False
        found = self._expand_table(table, _Inherited(table.hosts, table.found.created, (table,)))
        found = _with_destinations(found)
        return [replace(route, action=Action.NOBODY) for route in found] if table.for_nobody else found

    def _expand_table(self, table: Table, inherited: _Inherited) -> list[Route]:
        self.expanded.add(id(table))
        routes: list[Route] = []
        for entry in table.entries:
            self.room -= 1
            if self.room < 0:
                if not self.full:
                    self.full = True
                    routes.append(self._cut_off(table, entry, inherited))
                break
            routes += self._expand_entry(table, entry, inherited)
        return routes

    def _cut_off(self, table: Table, entry: Entry, inherited: _Inherited) -> Route:
        """Stands for all that is left out, and so matches everything."""
        message = f"more than {MAX_ROUTES} routes under one table; the rest is left out"
        entry.report.error(entry.fields.value, "too-many", message)
        return self._make_route(table, entry, inherited, (), inherited.labels)

    def _expand_entry(self, table: Table, entry: Entry, inherited: _Inherited) -> list[Route]:
        matches = self._join(entry, inherited)
        labels = inherited.labels | entry.labels | frozenset(table.found.labels)
        if entry.delegation is not None:
            invalid = (*inherited.invalid, *table.errors)
            below = replace(inherited, labels=labels, matches=matches, invalid=invalid)
            routes = self._delegate(entry, below)
            if not _errors_of(table, entry, inherited):
                return routes
            return [self._make_route(table, entry, below, matches, labels), *routes]
        return [self._make_route(table, entry, inherited, matches, labels)]

    def _make_route(
        self,
        table: Table,
        entry: Entry,
        inherited: _Inherited,
        matches: tuple[Match, ...],
        labels: frozenset[tuple[str, str]],
    ) -> Route:
        rewrite = entry.forwarding.rewrite
        rewritten = rewrite_matches(matches, rewrite, entry.forwarding.fields or entry.fields)
        return Route(
            origin=table.found.title,
            index=entry.index,
            position=entry.fields.value.position,
            section=entry.name,
            labels=tuple(sorted(labels)),
            hosts=inherited.hosts,
            matches=matches,
            rewritten=rewritten,
            rewritten_hosts=(rewrite.host,) if rewrite.host is not None else (),
            destinations=entry.forwarding.destinations,
            action=Action.FORWARD if entry.action in ("forwardTo", "delegate", None) else Action.ANSWER,
            order=Order.LISTED,
            weight=table.weight,
            created=inherited.created,
            through=tuple(above.found.namespace for above in inherited.chain[:-1]),
            asked=tuple(sorted(inherited.asked - {table.found.namespace})),
            granted=self._granted(table, entry),
            invalid=_errors_of(table, entry, inherited),
        )

    def _granted(self, table: Table, entry: Entry) -> tuple[tuple[str, str], ...]:
        """The Services of other namespaces that agreed. Gloo asks no leave; the receiver likes to know."""
        names = dict.fromkeys(
            (one.namespace, one.name)
            for one in entry.forwarding.destinations
            if one.kind == "Service" and one.namespace != table.found.namespace
        )
        return tuple(name for name in names if self._may(table, CORE_GROUP, "Service", *name))

    def _may(self, table: Table, group: str, kind: str, namespace: str, name: str) -> bool:
        source = (self.scope.dialect.route_group, KIND, table.found.namespace)
        return is_granted(self.scope.catalogue, source, group, kind, namespace, name)

    def _join(self, entry: Entry, inherited: _Inherited) -> tuple[Match, ...]:
        """What cannot be joined holds for all that its parent holds for, and is invalid."""
        try:
            joined = join_matches(inherited.matches, entry.matches)
        except UnjoinableError as error:
            message = f"cannot be joined with the matchers of the table that delegates here; {error}"
            entry.report.error(entry.fields.at("matchers"), "unsupported-value", message)
            return inherited.matches
        # A thousand alternatives are as much work as ten routes.
        self.room -= len(joined or ()) // 100
        if joined is None:
            message = "excludes the matchers of the table that delegates here: no request can match both"
            entry.report.error(entry.fields.at("matchers"), "never-matches", message)
            return inherited.matches
        return joined

    # --- delegation ---------------------------------------------------------------------------------------------

    def _delegate(self, entry: Entry, inherited: _Inherited) -> list[Route]:
        routes: list[Route] = []
        delegation = entry.delegation
        if delegation is None:
            return routes
        above = inherited.chain[-1]
        namespace = above.found.namespace
        self._report_unselected(above, entry, delegation.selectors)
        for child in sorted(self._children(above, entry), key=lambda table: -table.weight):
            if any(child is above for above in inherited.chain):
                names = [f"{table.found.namespace}/{table.found.name}" for table in (*inherited.chain, child)]
                message = f"delegation goes round in a circle: {' -> '.join(names)}"
                entry.report.error(entry.fields.at("delegate"), "cycle", message)
                continue
            asked = inherited.asked | {namespace}
            if child.found.namespace != namespace and not _asks_for(delegation.selectors, child):
                asked = frozenset()
            routes += self._expand_table(child, replace(inherited, chain=(*inherited.chain, child), asked=asked))
        if delegation.by_specificity:
            routes.sort(key=lambda route: (specificity(route.matches), -route.weight))
        return routes

    def _children(self, above: Table, entry: Entry) -> list[Table]:
        """The tables an entry delegates to: as listed, each once; selected by labels, oldest first."""
        chosen: dict[int, Table] = {}
        for selector in entry.delegation.selectors if entry.delegation is not None else ():
            for table in self.tables:
                if not table.rooted and _selects(selector, table) and self._may_delegate(above, table):
                    chosen.setdefault(id(table), table)
        return list(chosen.values())

    def _may_delegate(self, above: Table, below: Table) -> bool:
        """Whoever delegates to a table gives it hosts and narrows it. To one of our own kind in another namespace only
        with a ReferenceGrant there; Gloo asks no leave, but a namespace that grants it to some does not to others.
        """
        group, (namespace, name) = self.scope.dialect.route_group, (below.found.namespace, below.found.name)
        if namespace == above.found.namespace:
            return True
        if not self.scope.dialect.own and not has_grants(self.scope.catalogue, group, KIND, namespace):
            return True
        return self._may(above, group, KIND, namespace, name)

    def _report_unselected(self, above: Table, entry: Entry, selectors: Iterable[TableSelector]) -> None:
        for selector in selectors:
            selected = [table for table in self.tables if _selects(selector, table)]
            unrooted = [table for table in selected if not table.rooted]
            if any(self._may_delegate(above, table) for table in unrooted):
                continue
            if unrooted and (selector.name is not None or selector.namespace is not None):
                group, found = self.scope.dialect.route_group, unrooted[0].found
                source = (group, KIND, above.found.namespace)
                say_not_granted(selector.at, entry.report, source, group, KIND, found.namespace, found.name)
            elif selected and not unrooted:
                name = f"{KIND} `{selected[0].found.namespace}/{selected[0].found.name}`"
                message = f"{name} sets `hosts` and so cannot be delegated to; remove them there"
                entry.report.error(selector.at, "bad-reference", message)
            elif selector.name is not None:
                known = [table.found.name for table in self.tables if not table.rooted]
                near = entry.report.suggest(selector.name, known)
                message = f"refers to what is not there: {KIND} `{selector.name}`{near}"
                entry.report.error(selector.at, "not-there", message)
            else:
                entry.report.warning(selector.at, "selects-nothing", "no RouteTable is selected")


def _errors_of(table: Table, entry: Entry, inherited: _Inherited) -> tuple[str, ...]:
    """Those of an entry, its table, and the tables above: an entry that delegates twice says the same twice."""
    return tuple(dict.fromkeys((*inherited.invalid, *table.errors, *entry.report.errors)))


def _selects(selector: TableSelector, table: Table) -> bool:
    found = table.found
    return (
        selector.name in (None, found.name)
        and selector.namespace in (None, found.namespace)
        and set(selector.labels) <= set(found.labels)
    )


def _asks_for(selectors: Iterable[TableSelector], table: Table) -> bool:
    """Whether one of them names the table's namespace. Labels alone could be anybody's."""
    return any(selector.namespace is not None and _selects(selector, table) for selector in selectors)


def _with_destinations(routes: list[Route]) -> list[Route]:
    """What leads nowhere (an answer on the way, a broken entry) is bound to where its table's other routes lead, so
    that a request which should never have arrived is refused there instead of being taken for another route's.
    """
    everywhere = tuple(dict.fromkeys(one for route in routes for one in route.destinations if one.kind == "Service"))
    return [route if route.destinations else replace(route, destinations=everywhere) for route in routes]
