"""What is put into a namespace's bundle, and when it may have changed."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Iterable

import pytest

from eastgate.compile.plan import Plan, compile_plan
from eastgate.dialects.catalogue import Reference
from eastgate.dialects.corpus import read_objects
from eastgate.model.workloads import Workload
from webhook.controllers.conditions import Progress, judge
from webhook.controllers.excerpts import rank, refer, take_excerpt
from webhook.controllers.state import BuiltBundle, ClusterState

from .clusters import (
    GLOO_NETWORK,
    OWN,
    PEM,
    Data,
    RandomCluster,
    config_map,
    delegating,
    entry,
    gateway,
    grant,
    http_route,
    labelled,
    make,
    pod,
    policy,
    secret,
    security_policy,
    service,
    table,
)


def fill(*objects: Data) -> ClusterState:
    state = ClusterState()
    for one in objects:
        state.put(copy.deepcopy(one))
    return state


def names(documents: Iterable[Data]) -> list[str]:
    return [f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}" for one in documents]


def text(built: BuiltBundle) -> str:
    return json.dumps([built.documents, built.secrets, built.wanted, built.named])


def from_secret(name: str, key: str = "key", namespace: str | None = None) -> Data:
    return {"local": {"secretRef": {"name": name, "key": key} | ({"namespace": namespace} if namespace else {})}}


def from_config_map(name: str, key: str = "key") -> Data:
    return {"local": {"configMapRef": {"name": name, "key": key}}}


class TestDocuments:
    def test_policies_routes_and_services_of_the_namespace(self) -> None:
        built = fill(
            table("shop", "t", entry("web")), service("shop", "web"), policy("shop", "p"), policy("other", "p"),
            table("other", "t", entry("web")), service("other", "web"),
        ).build("shop")  # fmt: skip
        assert names(built.documents) == ["JWTPolicy shop/p", "RouteTable shop/t", "Service shop/web"]

    def test_only_what_is_read_is_kept(self) -> None:
        built = fill(
            service("shop", "web", labels={"app": "web"}), policy("shop", "p", metadata_labels={"a": "b"})
        ).build("shop")
        assert built.documents[1] == {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"labels": {"app": "web"}, "name": "web", "namespace": "shop"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "web"}},
        }
        assert built.documents[0]["metadata"] == {"name": "p", "namespace": "shop"}

    def test_age_is_kept_where_it_decides(self) -> None:
        stamp = "2026-01-01T00:00:00Z"
        built = fill(
            policy("shop", "p", metadata_creationTimestamp=stamp), service("shop", "web", creationTimestamp=stamp)
        ).build("shop")
        assert [one["metadata"].get("creationTimestamp") for one in built.documents] == [stamp, None]

    def test_a_table_elsewhere_that_leads_here_comes_with_its_policies(self) -> None:
        built = fill(
            table("edge", "t", entry("web", "shop", app="web")), service("shop", "web"),
            policy("edge", "holds", labelled(app="web")), policy("edge", "does-not", labelled(app="other")),
            policy("third", "selects-there", labelled("edge", app="web")), policy("third", "own"),
        ).build("shop")  # fmt: skip
        assert names(built.documents) == [
            "JWTPolicy edge/holds", "JWTPolicy third/selects-there", "RouteTable edge/t", "Service shop/web",
        ]  # fmt: skip

    def test_who_loses_a_conflict_comes_too(self) -> None:
        built = fill(
            table("edge", "t", entry("web", "shop")), policy("edge", "a"), policy("edge", "b"), service("shop", "web")
        ).build("shop")
        assert names(built.documents)[:2] == ["JWTPolicy edge/a", "JWTPolicy edge/b"]

    def test_a_policy_that_selects_here_from_elsewhere(self) -> None:
        built = fill(
            policy("central", "p", labelled("shop", app="web")),
            policy("central", "q", applyToDestinations=[{"selector": {"name": "web", "namespace": "shop"}}]),
            policy("central", "r"),
        ).build("shop")
        assert names(built.documents) == ["JWTPolicy central/p", "JWTPolicy central/q"]

    def test_delegation_comes_as_a_whole(self) -> None:
        built = fill(
            table("root", "root", delegating(name="middle", namespace="mid"), api=GLOO_NETWORK),
            table("mid", "middle", delegating(labels={"team": "web"}), hosts=(), api=GLOO_NETWORK),
            table("shop", "leaf", entry("web"), hosts=(), api=GLOO_NETWORK, labels={"team": "web"}),
            table("else", "sibling", entry("x"), hosts=(), api=GLOO_NETWORK, labels={"team": "web"}),
            table("else", "stranger", entry("x"), hosts=(), api=GLOO_NETWORK),
        ).build("shop")
        assert names(built.documents) == [
            "RouteTable else/sibling", "RouteTable mid/middle", "RouteTable root/root", "RouteTable shop/leaf",
        ]  # fmt: skip

    def test_gateways_and_grants_that_a_route_asks_for(self) -> None:
        built = fill(
            http_route("shop", "r", "web", {"name": "gw", "namespace": "infra"}), gateway("infra", "gw"), gateway("infra", "other"),
            security_policy("infra", "p", {"kind": "Gateway", "name": "gw"}), security_policy("infra", "q", {"kind": "Gateway", "name": "other"}),
            grant("infra", ("gateway.networking.k8s.io", "HTTPRoute", "shop"), ("", "Service")),
        ).build("shop")  # fmt: skip
        found = names(built.documents)
        assert {"Gateway infra/gw", "SecurityPolicy infra/p", "ReferenceGrant infra/grant"} <= set(found)
        assert "SecurityPolicy infra/q" not in found

    def test_a_broken_table_elsewhere_counts_where_it_is_named(self) -> None:
        broken = table("edge", "t", {"forwardTo": {"destinations": [{"reff": {"name": "web", "namespace": "shop"}}]}})
        state = fill(broken)
        assert names(state.build("shop").documents) == ["RouteTable edge/t"]
        assert names(state.build("third").documents) == []


class TestContents:
    def test_only_the_keys_that_are_asked_for(self) -> None:
        built = fill(
            policy("shop", "p", keys=from_secret("s")), policy("shop", "q", keys=from_config_map("c")),
            secret("shop", "s", key=PEM, other="x"), config_map("shop", "c", key=PEM, other="x"),
            secret("shop", "unasked", key="x"), config_map("shop", "unasked", key="x"),
        ).build("shop")  # fmt: skip
        assert names(built.documents) == ["ConfigMap shop/c", "JWTPolicy shop/p", "JWTPolicy shop/q"]
        assert list(built.documents[0]["data"]) == ["key"]
        assert names(built.secrets) == ["Secret shop/s"]
        assert list(built.secrets[0]["data"]) == ["key"]

    def test_no_secret_of_a_policy_without_a_part_here(self) -> None:
        built = fill(
            table("edge", "t", entry("web", "shop", app="web")),
            policy("edge", "p", labelled(app="other"), keys=from_secret("s")),
            policy("edge", "q", labelled(app="web"), keys=from_secret("r")),
            secret("edge", "s", key="secret"), secret("edge", "r", key="needed"),
        ).build("shop")  # fmt: skip
        assert names(built.secrets) == ["Secret edge/r"]

    def test_a_named_policy_comes_without_its_secret_unless_it_holds_here(self) -> None:
        """Whoever may annotate a pod must not be able to have another namespace's Secret copied."""
        state = fill(
            policy("edge", "p", keys=from_secret("s")),
            secret("edge", "s", key="secret"),
            pod("shop", "one", "edge/p,own"),
        )
        built = state.build("shop")
        assert (names(built.documents), built.secrets) == (["JWTPolicy edge/p"], ())
        assert built.named == ("edge/p",)
        state.put(policy("edge", "p", labelled("shop"), keys=from_secret("s")))
        assert names(state.build("shop").secrets) == ["Secret edge/s"]

    def test_no_secret_that_the_policy_may_not_read(self) -> None:
        stolen = policy("shop", "p", keys=from_secret("s", namespace="vault"))
        state = fill(stolen, secret("vault", "s", key="not public"))
        assert state.build("shop").secrets == ()
        leave = grant("vault", ("policy.eastgate.dev", "JWTPolicy", "shop"), ("", "Secret"))
        assert "shop" in state.put(leave)
        assert names(state.build("shop").secrets) == ["Secret vault/s"]
        assert "shop" in state.remove(leave)
        assert state.build("shop").secrets == ()

    def test_every_policy_of_a_named_namespace(self) -> None:
        built = fill(policy("edge", "p"), policy("edge", "q"), pod("shop", "one", "edge/*")).build("shop")
        assert names(built.documents) == ["JWTPolicy edge/p", "JWTPolicy edge/q"]

    def test_what_is_wanted_need_not_be_there(self) -> None:
        state = fill(policy("shop", "p", keys=from_secret("s")), policy("shop", "q", keys=from_config_map("c")))
        wanted = (Reference("", "ConfigMap", "shop", "c"), Reference("", "Secret", "shop", "s"))
        assert state.build("shop").wanted == wanted
        assert state.put(secret("shop", "s", key=PEM)) == {"shop"}
        assert names(state.build("shop").secrets) == ["Secret shop/s"]

    def test_the_first_key_of_a_config_map_without_a_well_known_one(self) -> None:
        keys = {"localJWKS": {"type": "ValueRef", "valueRef": {"kind": "ConfigMap", "name": "c"}}}
        built = fill(
            security_policy("shop", "p", {"kind": "HTTPRoute", "name": "r"}, keys=keys),
            http_route("shop", "r", "web"), config_map("shop", "c", b="two", a="one"),
        ).build("shop")  # fmt: skip
        assert next(one["data"] for one in built.documents if one["kind"] == "ConfigMap") == {"a": "one"}


class TestAffected:
    def test_only_the_namespaces_concerned(self) -> None:
        state = fill(policy("shop", "p"), table("edge", "t", entry("web", "shop")), policy("else", "p"))
        for namespace in ("shop", "edge", "else"):
            state.build(namespace)
        assert state.put(policy("else", "q")) == {"else"}
        assert state.put(policy("edge", "q")) == {"edge", "shop"}
        assert state.put(table("else", "t", entry("web", "shop"))) == {"else", "shop"}
        assert state.remove(table("else", "t")) == {"else", "shop"}

    def test_nothing_where_nothing_changes_that_is_read(self) -> None:
        state = fill(policy("shop", "p"), service("shop", "web"))
        again = policy("shop", "p") | {"status": {"conditions": []}}
        again["metadata"]["resourceVersion"] = "8"
        assert state.put(again) == frozenset()
        assert state.put(service("shop", "web", annotations={"a": "b"})) == frozenset()

    def test_generations_are_told_all_the_same(self) -> None:
        state = fill(policy("shop", "p"))
        state.put(policy("shop", "p", metadata_generation=4))
        assert [one.generation for one in state.build("shop").own] == [4]

    def test_contents_that_nobody_asked_for(self) -> None:
        state = fill(policy("shop", "p"))
        state.build("shop")
        assert state.put(config_map("shop", "c")) == frozenset()
        assert state.remove(config_map("shop", "c")) == frozenset()

    def test_pods_only_when_another_namespace_is_named_for_the_first_or_last_time(self) -> None:
        state = ClusterState()
        assert state.put(pod("shop", "one", "own")) == frozenset()
        assert state.put(pod("shop", "two", "edge/p")) == {"shop"}
        assert state.put(pod("shop", "three", "edge/p, own")) == frozenset()
        assert state.remove(pod("shop", "two", "")) == frozenset()
        assert state.put(pod("shop", "three", "shop/own")) == {"shop"}
        assert state.build("shop").named == ()

    def test_a_named_policy_matters(self) -> None:
        state = fill(pod("shop", "one", "edge/p"))
        state.build("shop")
        assert "shop" in state.put(policy("edge", "p"))

    def test_what_is_not_there_is_not_removed(self) -> None:
        assert ClusterState().remove(policy("shop", "p")) == frozenset()


def test_the_order_of_arrival_does_not_matter() -> None:
    objects = [
        table("edge", "t", entry("web", "shop")), policy("edge", "p", keys=from_secret("s")), secret("edge", "s", key=PEM),
        policy("shop", "p"), service("shop", "web"), table("shop", "t", entry("web"), delegating(name="c"), api=OWN),
        table("shop", "c", entry("web"), hosts=()),
    ]  # fmt: skip
    found = {
        text(fill(*order).build("shop")) for order in itertools.islice(itertools.permutations(objects), 0, 5040, 173)
    }
    assert len(found) == 1


def test_an_object_with_wrong_types_everywhere_is_survived() -> None:
    wrong: list[Data] = [
        make(OWN, "RouteTable", "shop", "a", {"http": "x", "hosts": 1}),
        make(
            OWN, "RouteTable", "shop", "b", {"http": [1, {"delegate": {"routeTables": [1, {"labels": 2, "name": 3}]}}]}
        ),
        make(OWN, "JWTPolicy", "shop", "c", {"config": None, "namespace": {"from": "All"}, "namespaces": 4}),
        make(OWN, "JWTPolicy", "shop", "d"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"}, "spec": {"ports": [7]}},
    ]
    built = fill(*wrong).build("shop")
    assert len(built.documents) == len(wrong)
    assert all(one.invalid for one in built.policy_set.policies)


# --- never too little -------------------------------------------------------------------------------------------------


def guards(plan: Plan) -> tuple[object, ...]:
    found = {(one.route, one.names, one.refusal.reason if one.refusal is not None else None) for one in plan.guards}
    ports = {
        (port, one.routes.bound, one.abroad is not None, one.implicit.names, one.implicit.refusal is not None)
        for port, one in (*plan.entrances.items(), (-1, plan.elsewhere))
    }
    return found, ports, plan.refusal is not None


@pytest.mark.parametrize("seed", range(4))
def test_random_clusters(seed: int) -> None:
    """Whoever's bundle or conditions change was named; history leaves no trace; and what a pod makes of its bundle is
    what it would make of the whole cluster.
    """
    cluster, state = RandomCluster(seed), ClusterState()
    objects: dict[Reference, Data] = {}
    before: dict[str, tuple[str, object]] = {}
    for step in range(40):
        if objects and cluster.random.random() < 0.25:
            affected = state.remove(objects.pop(cluster.random.choice(sorted(objects))))
        else:
            drawn = cluster.draw()
            objects[refer(drawn)] = drawn
            affected = state.put(copy.deepcopy(drawn))
        if step < 12:
            continue
        now = {}
        for namespace in cluster.namespaces:
            built = state.build(namespace)
            now[namespace] = text(built), judge(built, {namespace: Progress("digest")})
            assert namespace in affected or not before or now[namespace] == before[namespace]
        before = now
    order = list(objects.values())
    random.Random(seed).shuffle(order)
    fresh = fill(*order)
    for namespace in cluster.namespaces:
        built = fresh.build(namespace)
        assert text(built) == before[namespace][0]
        assert_same_plans([one for one in order if one["kind"] != "Pod"], built)


def assert_same_plans(everything: Iterable[Data], built: BuiltBundle) -> None:
    def read(objects: Iterable[Data]) -> object:
        excerpts = sorted(map(take_excerpt, objects), key=rank)
        return read_objects((one.file, one.data) for one in excerpts)

    whole, part = read(everything), read((*built.documents, *built.secrets))
    services = tuple((one.namespace, one.name, None) for one in part.services if one.namespace == built.namespace)  # type: ignore[attr-defined]
    for asked in (("*",), ("one",), *((one,) for one in built.named)):
        workload = Workload(built.namespace, (("app", "one"),), services, asked)
        assert guards(compile_plan(part, workload)) == guards(compile_plan(whole, workload))  # type: ignore[arg-type]
