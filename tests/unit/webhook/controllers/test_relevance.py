"""What matters to a namespace, before and after reading."""

from __future__ import annotations

import pytest

from eastgate.compile.selection import Selection, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.dialects.corpus import read_parsed
from webhook.controllers.excerpts import EVERYWHERE, Excerpt, take_excerpt
from webhook.controllers.relevance import Delegations, Gathered, gather, narrow

from .clusters import (
    GLOO_NETWORK,
    Data,
    delegating,
    entry,
    gateway,
    grant,
    http_route,
    labelled,
    policy,
    security_policy,
    table,
)


def gathered(namespace: str, *objects: Data, named: tuple[str, ...] = ()) -> Gathered:
    delegations = Delegations()
    policies: dict[Excerpt, None] = {}
    routes: dict[Excerpt, None] = {}
    for one in map(take_excerpt, objects):
        if one.reference.kind.endswith("Policy"):
            policies[one] = None
        else:
            routes[one] = None
        if one.reference.kind == "RouteTable":
            delegations.add(one)
    return gather(namespace, policies, routes, delegations, named)


def names(found: Gathered) -> set[str]:
    return {f"{one.namespace}/{one.reference.name}" for one in found.objects}


class TestMentions:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (policy("a", "p"), set()),
            (policy("a", "p", labelled("b")), {"b"}),
            (policy("a", "p", applyToDestinations=[{"selector": {"namespace": "c"}}]), {"c"}),
            (policy("a", "p", keys={"local": {"secretRef": {"name": "s", "namespace": "d", "key": "k"}}}), {"d"}),
            (table("a", "t", entry("web", "b"), delegating(name="x", namespace="c")), {"b", "c"}),
            (http_route("a", "r", "web", {"name": "gw", "namespace": "infra"}), {"infra"}),
            (
                security_policy("a", "p", targetSelectors=[{"kind": "Gateway", "namespaces": {"from": "All"}}]),
                {EVERYWHERE},
            ),
            (security_policy("a", "p", targetSelectors=[{"kind": "Gateway", "namespaces": {"from": "Same"}}]), set()),
            (grant("a", ("g", "K", "b"), ("", "Secret")), {"b"}),
            (gateway("a", "gw"), set()),
        ],
    )
    def test_references(self, found: Data, expected: set[str]) -> None:
        assert take_excerpt(found).mentions == expected

    def test_any_word_of_a_route(self) -> None:
        words = take_excerpt(table("a", "t", entry("web"), hosts=("web.shop.svc.cluster.local",))).words
        assert {"a", "shop", "web"} <= words


class TestDelegations:
    root = take_excerpt(table("a", "root", delegating(name="child"), delegating(labels={"team": "web"}, namespace="b")))
    named = take_excerpt(table("b", "child", entry("x"), hosts=()))
    chosen = take_excerpt(table("b", "other", delegating(name="leaf"), hosts=(), labels={"team": "web"}))
    leaf = take_excerpt(table("c", "leaf", entry("x"), hosts=()))
    rooted = take_excerpt(table("c", "child", entry("x")))
    foreign = take_excerpt(table("b", "child", entry("x"), hosts=(), api=GLOO_NETWORK))

    @pytest.fixture
    def delegations(self) -> Delegations:
        found = Delegations()
        for one in (self.root, self.named, self.chosen, self.leaf, self.rooted, self.foreign):
            found.add(one)
        return found

    def test_parents_and_children(self, delegations: Delegations) -> None:
        assert set(delegations.children(self.root)) == {self.named, self.chosen, self.rooted}
        assert set(delegations.parents(self.named)) == {self.root}
        assert set(delegations.parents(self.rooted)) == set()
        assert set(delegations.parents(self.foreign)) == set()

    def test_the_whole_of_it(self, delegations: Delegations) -> None:
        everything = {self.root, self.named, self.chosen, self.leaf, self.rooted}
        assert set(delegations.close([self.leaf])) == everything
        assert set(delegations.close([self.foreign])) == {self.foreign}

    def test_a_table_that_went(self, delegations: Delegations) -> None:
        delegations.remove(self.root)
        assert set(delegations.close([self.named])) == {self.named}

    def test_a_circle_ends(self) -> None:
        found = Delegations()
        one = take_excerpt(table("a", "one", delegating(name="two"), hosts=()))
        two = take_excerpt(table("a", "two", delegating(name="one"), hosts=()))
        found.add(one)
        found.add(two)
        assert set(found.close([one])) == {one, two}


class TestGather:
    def test_routes_that_name_the_namespace_and_policies_that_name_theirs(self) -> None:
        found = gathered(
            "shop",
            table("edge", "t", entry("web", "shop")), table("far", "t", entry("web")),
            policy("edge", "p"), policy("third", "p", labelled("edge")), policy("far", "p"),
        )  # fmt: skip
        assert names(found) == {"edge/t", "edge/p", "third/p"}

    def test_where_the_own_policies_look(self) -> None:
        found = gathered(
            "shop", policy("shop", "p", labelled("far")), table("far", "t", entry("web")), policy("far", "q")
        )
        assert names(found) == {"shop/p", "far/t", "far/q"}

    def test_policies_of_the_gateways(self) -> None:
        found = gathered(
            "shop",
            http_route("shop", "r", "web", {"name": "gw", "namespace": "infra"}),
            security_policy("infra", "p", {"kind": "Gateway", "name": "gw"}),
            security_policy("far", "p", targetSelectors=[{"kind": "Gateway", "namespaces": {"from": "All"}}]),
        )
        assert names(found) == {"shop/r", "infra/p", "far/p"}

    def test_policies_that_pods_name(self) -> None:
        objects = (policy("far", "p"), policy("far", "q"))
        assert names(gathered("shop", *objects, named=("far/p",))) == {"far/p"}
        assert names(gathered("shop", *objects, named=("far/*",))) == {"far/p", "far/q"}


def test_what_could_hold_here() -> None:
    objects = (
        table("edge", "t", entry("web", "shop", app="a"), entry("web", app="b")),
        table("shop", "t", entry("web")), table("far", "t", entry("web")),
        policy("edge", "a", labelled(app="a")), policy("edge", "b", labelled(app="b")), policy("edge", "c", labelled(app="a")),
        policy("shop", "p"), policy("far", "p"),
    )  # fmt: skip
    policy_set = read_parsed(take_excerpt(one).document for one in objects)
    selection = Selection(policy_set.policies, ServiceDirectory(()))
    selected = {id(route): selection.select(subject_of(route)) for route in policy_set.routes}
    leading, holding = narrow("shop", policy_set, selected)
    assert {one.partition(" ")[2] for one in leading} == {"edge/t", "shop/t"}
    assert {one.partition(" ")[2] for one in holding} == {"edge/a", "edge/c", "shop/p"}
