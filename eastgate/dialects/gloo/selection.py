"""What a JWTPolicy applies to: ``applyToRoutes`` and ``applyToDestinations``.

Omitted together they select every route; a policy acts in its own namespace unless a selector names another (Gloo acts
in a workspace, of which there are none here). A selector that cannot be read selects everything: a policy must not
shrink by a mistake in it.
Rules: Gloo ``common/v2`` RouteSelector, DestinationSelector; JWTPolicy since Gloo 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.dialects.documents import Fields, Value
from eastgate.dialects.identity import check_labels
from eastgate.dialects.references import note_cluster
from eastgate.model.policies import DestinationSelector, RouteSelector

DESTINATION_KINDS = ("SERVICE", "VIRTUAL_DESTINATION", "EXTERNAL_SERVICE")


@dataclass(frozen=True, slots=True)
class Selection:
    """The three selecting fields of ``Policy``."""

    everything: bool = False
    routes: tuple[RouteSelector, ...] = ()
    destinations: tuple[DestinationSelector, ...] = ()


def read_selection(spec: Fields, namespace: str, *, own: bool) -> Selection:
    """Both selectors of a policy of ``namespace``. Gloo changed its mind about none: before 2.4 it meant no route."""
    before = len(spec.report.errors)
    everything = False
    routes: list[RouteSelector] = []
    destinations: list[DestinationSelector] = []
    selectors = spec.items("applyToRoutes")
    for item in selectors:
        with Fields(item, spec.report) as selector:
            chosen = selector.choose("route", "withDestinations")
            if chosen == "route":
                routes.append(_read_route_selector(selector))
            elif chosen == "withDestinations":
                with selector.mapping("withDestinations") as inner:
                    destinations.append(read_destination_selector(inner, namespace, of_routes=True))
            else:
                everything = True
    targets = spec.items("applyToDestinations")
    for item in targets:
        with Fields(item, spec.report) as selector:
            destinations.append(read_destination_selector(selector, namespace, of_routes=False))
    if len(spec.report.errors) > before:
        everything = True
    elif not selectors and not targets:
        everything = True
        if own:
            return Selection(everything)
        spec.report.warning(
            spec.at("applyToRoutes"),
            "selects-everything",
            f"without `applyToRoutes` and `applyToDestinations` the policy applies to every route of namespace "
            f"`{namespace}`; write `applyToRoutes: [{{}}]` if that is meant",
        )
    return Selection(everything, tuple(routes), tuple(destinations))


def _read_route_selector(selector: Fields) -> RouteSelector:
    with selector.mapping("route") as route:
        labels = route.labels("labels")
        check_labels(route, "labels", labels)
        note_cluster(route, "cluster", "workspace")
        return RouteSelector(labels, route.text("namespace") or None)


def read_destination_selector(selector: Fields, namespace: str, *, of_routes: bool) -> DestinationSelector:
    """One DestinationSelector; ``{}`` is every Service of the namespace, no port every port."""
    kind = selector.choice("kind", DESTINATION_KINDS, "SERVICE")
    if kind != "SERVICE":
        selector.report.error(
            selector.at("kind"),
            "unsupported-value",
            f"kind `{kind}` cannot be selected: a policy is enforced in the pods behind a Service; accepted: SERVICE",
        )
    with selector.mapping("selector") as inner:
        labels = inner.labels("labels")
        check_labels(inner, "labels", labels)
        note_cluster(inner, "cluster", "workspace")
        name = inner.text("name") or None
        chosen = inner.text("namespace") or namespace
    return DestinationSelector(chosen, name, labels, read_port(selector), of_routes)


def read_port(fields: Fields, name: str = "port") -> int | str | None:
    """A PortSelector: ``number`` or ``name``; None when it names neither."""
    found = fields.take(name)
    if found is None:
        return None
    with Fields(found, fields.report) as port:
        return _read_port_choice(port, found)


def _read_port_choice(port: Fields, found: Value) -> int | str | None:
    number = port.integer("number", least=1, most=65535)
    name = port.text("name")
    if port.choose("number", "name") is None and isinstance(found.data, dict):
        return None
    return number if number is not None else name or None
