"""Which policies hold where."""

from __future__ import annotations

import pytest

from eastgate.compile.selection import Selected, Selection, Subject, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.model.policies import DestinationSelector, Policy
from eastgate.model.routes import Route
from eastgate.model.workloads import Service, ServicePort
from tests.unit.decide.scenes import attached, http_route, policy, selecting, service, table, targeting

OLD, NEW = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
APP = (("app", "web"), ("env", "prod"))


def select(route: Route, *policies: Policy, services: tuple[Service, ...] = ()) -> Selected:
    return Selection(policies, ServiceDirectory(services)).select(subject_of(route))


def names(route: Route, *policies: Policy, services: tuple[Service, ...] = ()) -> list[str]:
    return sorted(one.name.name for one in select(route, *policies, services=services).policies)


class TestLabels:
    route = table(labels=APP)

    @pytest.mark.parametrize(
        ("wanted", "chosen"),
        [
            ({"routes": selecting(app="web")}, True),
            ({"routes": selecting(app="web", env="prod")}, True),
            ({"routes": selecting(app="web", team="x")}, False),
            ({"routes": selecting(app="other")}, False),
            ({"routes": selecting(app="other") + selecting(env="prod")}, True),
            ({"routes": selecting()}, True),
            ({"everything": True}, True),
            ({"everything": True, "namespace": "other"}, False),
            ({"routes": selecting(app="web"), "namespace": "other"}, False),
            ({"routes": selecting("default", app="web"), "namespace": "other"}, True),
            ({"routes": selecting("third", app="web")}, False),
        ],
    )
    def test_routes(self, wanted: dict[str, object], chosen: bool) -> None:
        assert names(self.route, policy(**wanted)) == (["jwt"] if chosen else [])  # type: ignore[arg-type]

    def test_the_oldest_wins(self) -> None:
        old, new = policy(name="z", created=OLD), policy(name="a", created=NEW)
        selected = select(self.route, new, old)
        assert selected.policies == (old,)
        assert selected.conflicting == ((new, old),)

    def test_unknown_age_loses_and_names_break_ties(self) -> None:
        assert names(self.route, policy(name="a"), policy(name="z", created=NEW)) == ["z"]
        assert names(self.route, policy(name="b"), policy(name="a")) == ["a"]

    def test_a_loser_still_holds_elsewhere(self) -> None:
        old = policy(name="old", created=OLD, routes=selecting(env="prod"))
        new = policy(name="new", created=NEW, routes=selecting(app="web"))
        assert names(self.route, old, new) == ["old"]
        assert names(table(labels=(("app", "web"),)), old, new) == ["new"]

    def test_dialects_do_not_conflict(self) -> None:
        assert names(self.route, policy(name="a"), policy(name="b", dialect="eastgate")) == ["a", "b"]

    def test_a_broken_policy_stays_whatever_wins(self) -> None:
        broken = policy(name="broken", invalid=("x",), created=NEW)
        assert names(self.route, policy(name="old", created=OLD), broken) == ["broken", "old"]

    def test_a_broken_policy_that_selects_nothing_readable_holds_in_its_namespace(self) -> None:
        broken = policy(routes=(), invalid=("x",))
        assert names(self.route, broken) == ["jwt"]
        assert names(table(namespace="other"), broken) == []


class TestDestinations:
    route = table(destinations=(service("web", 80),))
    web = Service("default", "web", labels=APP, ports=(ServicePort(80, "http", 8080),))

    @pytest.mark.parametrize(
        ("selector", "chosen"),
        [
            (DestinationSelector(), True),
            (DestinationSelector(name="web"), True),
            (DestinationSelector(name="other"), False),
            (DestinationSelector(namespace="default", name="web", port=80), True),
            (DestinationSelector(port="http"), True),
            (DestinationSelector(port=81), False),
            (DestinationSelector(labels=(("app", "web"),)), True),
            (DestinationSelector(labels=(("app", "other"),)), False),
            (DestinationSelector(namespace="other"), False),
        ],
    )
    @pytest.mark.parametrize("of_routes", [True, False])
    def test_selecting(self, selector: DestinationSelector, chosen: bool, of_routes: bool) -> None:
        selector = DestinationSelector(selector.namespace, selector.name, selector.labels, selector.port, of_routes)
        found = names(self.route, policy(destinations=(selector,)), services=(self.web,))
        assert found == (["jwt"] if chosen else [])

    def test_route_and_destination_policies_both_hold(self) -> None:
        at_route = policy(name="route", created=OLD)
        at_destination = policy(name="destination", created=NEW, destinations=(DestinationSelector(),))
        assert names(self.route, at_route, at_destination) == ["destination", "route"]

    def test_one_a_destination(self) -> None:
        old = policy(name="old", created=OLD, destinations=(DestinationSelector(name="web"),))
        new = policy(name="new", created=NEW, destinations=(DestinationSelector(),))
        assert names(self.route, old, new) == ["old"]
        both = table(destinations=(service("web"), service("api")))
        assert names(both, old, new) == ["new", "old"]

    def test_they_hold_on_requests_that_no_route_expects(self) -> None:
        at_destination = policy(name="destination", destinations=(DestinationSelector(name="web"),))
        leading = policy(name="leading", destinations=(DestinationSelector(name="web", of_routes=True),))
        unrouted = Subject(frozenset(), "default", (service("web"),), routed=False)
        chosen = Selection([at_destination, leading, policy()], ServiceDirectory([])).select(unrouted)
        assert chosen.policies == (at_destination,)


class TestTargets:
    route = http_route(name="r", section="rule", attachments=(attached("gw", "web"),))

    @staticmethod
    def at(name: str, kind: str, target: str, section: str | None = None, created: str = "") -> Policy:
        return policy(
            name=name, dialect="envoy_gateway", created=created, targets=(targeting(kind, target, section=section),)
        )

    def test_the_most_specific_replaces_the_others(self) -> None:
        levels = [
            self.at("rule", "HTTPRoute", "r", "rule"),
            self.at("route", "HTTPRoute", "r"),
            self.at("listener", "Gateway", "gw", "web"),
            self.at("gateway", "Gateway", "gw"),
        ]
        for index in range(len(levels)):
            selected = select(self.route, *reversed(levels[index:]))
            assert selected.policies == (levels[index],)
            assert {loser.name.name for loser, _ in selected.overridden} == {p.name.name for p in levels[index + 1 :]}

    def test_what_targets_something_else(self) -> None:
        for other in (
            self.at("a", "HTTPRoute", "other"),
            self.at("b", "GRPCRoute", "r"),
            self.at("c", "HTTPRoute", "r", "another-rule"),
            self.at("d", "Gateway", "gw", "other-listener"),
            self.at("e", "Gateway", "other"),
        ):
            assert names(self.route, other) == []

    def test_the_oldest_of_one_target_wins(self) -> None:
        old, new = self.at("z", "HTTPRoute", "r", created=OLD), self.at("a", "HTTPRoute", "r", created=NEW)
        selected = select(self.route, new, old)
        assert (selected.policies, selected.conflicting) == ((old,), ((new, old),))

    def test_two_gateways_both_hold(self) -> None:
        route = http_route(attachments=(attached("one"), attached("two", "web")))
        assert names(route, self.at("a", "Gateway", "one"), self.at("b", "Gateway", "two")) == ["a", "b"]

    def test_every_listener_where_none_is_named(self) -> None:
        route = http_route(attachments=(attached("gw"),))
        assert names(route, self.at("a", "Gateway", "gw", "web"), self.at("b", "Gateway", "gw", "tls")) == ["a", "b"]

    def test_targets_do_not_reach_the_workload_itself(self) -> None:
        whole = Subject(frozenset(), "default", ())
        chosen = Selection([self.at("a", "HTTPRoute", "r"), policy()], ServiceDirectory([])).select(whole)
        assert [one.name.name for one in chosen.policies] == ["jwt"]


def test_a_subject_in_every_namespace() -> None:
    one, two = policy(namespace="one"), policy(namespace="two")
    third = policy(namespace="two", name="loses")
    chosen = Selection([one, two, third], ServiceDirectory([])).select(Subject(frozenset(), None, ()))
    assert set(chosen.policies) == {one, two}


class TestMany:
    """What many routes have in common is worked out once."""

    policies = tuple(policy(name=f"p{index:03}") for index in range(200))

    def test_routes_that_are_selected_alike_share_their_losers(self) -> None:
        selection = Selection(self.policies, ServiceDirectory([]))
        (one,), (other,) = (selection.select(subject_of(table(name=name))).conflicts for name in ("a", "b"))
        assert (one.winner, len(one.losers)) == (self.policies[0], 199)
        assert one.losers is other.losers

    def test_so_do_those_that_one_of_their_own_wins(self) -> None:
        old = [policy(name=f"old{index}", created=OLD, routes=selecting(own=str(index))) for index in range(2)]
        selection = Selection((*self.policies, *old), ServiceDirectory([]))
        found = [selection.select(subject_of(table(labels=(("own", str(index)),)))).conflicts for index in range(2)]
        assert [(one.winner, len(one.losers)) for (one,) in found] == [(old[0], 200), (old[1], 200)]
        assert found[0][0].losers is found[1][0].losers

    def test_a_policy_that_selects_in_two_ways_does_not_lose_to_itself(self) -> None:
        twice = policy(name="twice", created=OLD, routes=selecting(app="web") + selecting(env="prod"))
        other = policy(name="other", created=NEW, routes=selecting(app="web") + selecting())
        selected = select(table(labels=APP), other, twice)
        assert (selected.policies, selected.conflicting) == ((twice,), ((other, twice),))
