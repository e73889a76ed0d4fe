"""Whose word a route is: what other namespaces write about a workload neither opens nor closes it."""

from __future__ import annotations

import pytest

from eastgate.compile.plan import Plan, compile_plan
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import has_errors
from eastgate.model.routes import ANYBODY, Action, Destination, Route
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Service, ServicePort, Workload
from tests.unit.compile.test_routes import found
from tests.unit.decide.scenes import (
    compiled,
    exact,
    http_route,
    policy,
    prefix,
    regex,
    request,
    segments,
    selecting,
    service,
    table,
)

WEB = service("web", 80, namespace="shop")
POD = Workload(namespace="shop", labels=(("app", "web"),), services=(("shop", "web", None),))
GRANTED = (("shop", "web"),)
GUARDED = policy(name="guarded", namespace="shop", routes=selecting(guarded="yes"))
UNREADABLE = ("spec.http[0]: unknown field `forwrdTo`",)


def own(*matches: object, **fields: object) -> Route:
    return table(*matches, **{"name": "own", "namespace": "shop", "destinations": (WEB,), **fields})  # type: ignore[arg-type]


def foreign(*matches: object, **fields: object) -> Route:
    return table(*matches, **{"name": "foreign", "namespace": "mallory", "destinations": (WEB,), **fields})  # type: ignore[arg-type]


def refused(plan: Plan, path: str, **fields: object) -> str | None:
    asked = request(path, **fields)  # type: ignore[arg-type]
    refusal = plan.find(asked, asked.target, None).refusal
    return None if refusal is None else str(refusal.reason)


class TestForeign:
    def test_no_request_is_taken_away(self) -> None:
        plan = compiled(foreign(prefix("/")), own(prefix("/a"), labels=(("guarded", "yes"),)), GUARDED, workload=POD)
        assert found(plan, request("/a")) == "own"
        assert plan.find(request("/a"), b"/a", None).names == ("shop/guarded",)

    def test_a_name_is_lent_and_nothing_else(self) -> None:
        plan = compiled(
            foreign(prefix("/"), hosts=("hole.example",)),
            own(prefix("/a"), hosts=("a.example",), labels=(("guarded", "yes"),)),
            own(prefix("/a/b"), name="other", hosts=("b.example",)),
            GUARDED,
            workload=POD,
        )
        assert found(plan, request("/a/b", host=b"b.example")) == "other"
        assert found(plan, request("/a", host=b"hole.example")) == "own + foreign"
        # Whichever host it had had: the client chose the one that it has.
        assert found(plan, request("/a/b", host=b"hole.example")) == "own + other + foreign"
        assert plan.find(request("/a/b", host=b"hole.example"), b"/a/b", None).names == ("shop/guarded",)
        assert refused(plan, "/c", host=b"hole.example") == "route_not_found"
        assert refused(plan, "/a", host=b"c.example") == "route_not_found"

    def test_path_parameters_open_nothing(self) -> None:
        plan = compiled(foreign(prefix("/")), own(exact("/a"), labels=(("guarded", "yes"),)), GUARDED, workload=POD)
        assert plan.find(request("/a;x=1"), b"/a;x=1", None).names == ("shop/guarded",)

    def test_without_own_routes_the_pod_is_what_counts(self) -> None:
        by_label = policy(name="pods", namespace="shop", routes=selecting(app="web"))
        plan = compiled(foreign(prefix("/a")), by_label, workload=POD)
        assert plan.find(request("/a"), b"/a", None).route == "implicit + RouteTable mallory/foreign [0]"
        for path in ("/a", "/b"):
            assert plan.find(request(path), path.encode(), None).names == ("shop/pods",)
            assert refused(plan, path) is None

    @pytest.mark.parametrize(
        "wall",
        [
            foreign(action=Action.ANSWER),
            foreign(action=Action.NOBODY),
            foreign(labels=(("gateway.gloo.solo.io/require_auth", "true"),)),
            foreign(regex("(")),
            foreign(invalid=UNREADABLE),
            foreign(invalid=UNREADABLE, destinations=(), mentions=("shop",)),
            foreign(invalid=UNREADABLE, destinations=(), mentions=(ANYBODY,)),
        ],
    )
    def test_nothing_is_denied(self, wall: Route) -> None:
        assert refused(compiled(wall, workload=POD), "/a") is None
        assert refused(compiled(wall, own(prefix("/a")), workload=POD), "/a") is None
        assert refused(compiled(wall, own(prefix("/a")), workload=POD), "/b") == "route_not_found"

    @pytest.mark.parametrize(
        "broken",
        [
            foreign(action=Action.ANSWER),
            foreign(invalid=UNREADABLE),
            foreign(invalid=UNREADABLE, destinations=(), mentions=("shop",)),
        ],
    )
    def test_what_policies_were_asked_for_is_missed_when_it_breaks(self, broken: Route) -> None:
        edge = policy(name="edge", namespace="mallory", routes=selecting(edge="yes"))
        assert refused(compiled(broken, edge, workload=POD), "/a") is not None
        assert refused(compiled(broken, edge, own(prefix("/a")), workload=POD), "/a") is None
        narrow = Workload(namespace="shop", services=POD.services, policies=())
        assert refused(compiled(broken, edge, workload=narrow), "/a") is None

    def test_foreign_namespaces_do_not_compete_with_each_other(self) -> None:
        edge = policy(name="edge", namespace="edge", routes=selecting(edge="yes"))
        gate = foreign(prefix("/a"), name="gate", namespace="edge", labels=(("edge", "yes"),))
        plan = compiled(foreign(prefix("/")), gate, edge, workload=POD)
        assert plan.find(request("/a"), b"/a", None).names == ("edge/edge",)

    def test_ports_bind_as_for_own_routes(self) -> None:
        web = Service("shop", "web", ports=(ServicePort(80, "http", 8080), ServicePort(81, "admin", 9090)))
        plan = compiled(
            own(prefix("/a")), foreign(destinations=(service("web", 81, namespace="shop"),)), web, workload=POD
        )
        assert found(plan, request("/a", port=8080)) == "own"
        assert found(plan, request("/b", port=8080)) == "-"
        assert "foreign" in plan.find(request("/b", port=9090), b"/b", None).route
        assert found(plan, request("/b", port=7)) == "implicit"

    def test_without_services_every_route_is_the_workloads(self) -> None:
        assert found(compiled(foreign(prefix("/")), own(prefix("/"))), request("/")) == "foreign"


class TestBroken:
    def test_it_concerns_its_own_namespace(self) -> None:
        broken = own(invalid=UNREADABLE, destinations=())
        assert refused(compiled(broken, workload=POD), "/a") == "policy_unavailable"
        far = Workload(namespace="far", services=(("far", "web", None),))
        assert refused(compiled(broken, workload=far), "/a") is None

    def test_the_words_of_its_text(self) -> None:
        text = """
apiVersion: networking.gloo.solo.io/v2
kind: RouteTable
metadata: {name: t, namespace: mallory}
spec:
  hosts: [web.fruit.svc.cluster.local]
  http: [{forwardTo: {destinations: [{ref: {nmae: web, namspace: shop}, port: {number: 80}}]}}]
"""
        (route,) = read_policy_set([("t.yaml", text)]).routes
        assert not route.destinations
        assert {"web", "fruit", "shop", "mallory"} <= set(route.mentions)
        assert "vegetables" not in route.mentions

    def test_too_many_words_mean_anybody(self) -> None:
        listed = ", ".join(f"x{n}" for n in range(600))
        text = f"""
apiVersion: networking.gloo.solo.io/v2
kind: RouteTable
metadata: {{name: t, namespace: mallory}}
spec: {{http: [{{forwardTo: {{destinations: [{{rfe: [{listed}]}}]}}}}]}}
"""
        (route,) = read_policy_set([("t.yaml", text)]).routes
        assert route.mentions == (ANYBODY,)


class TestGuests:
    def test_both_hold_where_a_guest_comes_first(self) -> None:
        guest = http_route(exact("/a/b"), name="guest", namespace="edge", destinations=(WEB,), granted=GRANTED)
        mine = http_route(segments("/a"), name="own", namespace="shop", destinations=(WEB,))
        plan = compiled(guest, mine, workload=POD)
        assert found(plan, request("/a/b")) == "own + guest"
        assert found(plan, request("/a/c")) == "own"
        assert found(plan, request("/b")) == "-"

    def test_a_more_specific_own_route_is_alone(self) -> None:
        guest = http_route(segments("/"), name="guest", namespace="edge", destinations=(WEB,), granted=GRANTED)
        mine = http_route(segments("/a"), name="own", namespace="shop", destinations=(WEB,))
        plan = compiled(guest, mine, workload=POD)
        assert found(plan, request("/a")) == "own"
        assert found(plan, request("/b")) == "guest"

    def test_guests_compete_with_each_other(self) -> None:
        one, two = (
            http_route(segments(path), name=name, namespace="edge", destinations=(WEB,), granted=GRANTED)
            for path, name in (("/a", "one"), ("/", "two"))
        )
        mine = http_route(segments("/"), name="own", namespace="shop", index=9, destinations=(WEB,))
        assert found(compiled(one, two, workload=POD), request("/a")) == "one"
        assert found(compiled(one, two, mine, workload=POD), request("/a")) == "own + one"

    @pytest.mark.parametrize("host", ["www.example.com", "*.example.com"])
    @pytest.mark.parametrize("mine", [(), ("*.com",), ("*.example.com",)])
    def test_a_more_specific_host_takes_nothing_away(self, host: str, mine: tuple[str, ...]) -> None:
        guest = http_route(
            segments("/"), name="guest", namespace="edge", destinations=(WEB,), granted=GRANTED, hosts=(host,)
        )
        plan = compiled(
            guest, http_route(exact("/a"), name="own", namespace="shop", destinations=(WEB,), hosts=mine), workload=POD
        )
        assert "own" in found(plan, request("/a", host=b"www.example.com"))
        assert found(plan, request("/b", host=b"www.example.com")) == "guest"

    def test_tables_by_a_grant(self) -> None:
        plan = compiled(foreign(prefix("/"), granted=GRANTED), own(prefix("/a")), workload=POD)
        assert found(plan, request("/a")) == "own + foreign"
        assert found(plan, request("/b")) == "foreign"

    def test_a_grant_for_another_service_is_none(self) -> None:
        plan = compiled(foreign(prefix("/"), granted=(("shop", "api"),)), own(prefix("/a")), workload=POD)
        assert refused(plan, "/b") == "route_not_found"


DIALECTS = {"eastgate": "policy.eastgate.dev/v1alpha1", "gloo": "networking.gloo.solo.io/v2"}
CHILD = """
apiVersion: {api}
kind: RouteTable
metadata: {{name: child, namespace: shop, labels: {{team: shop}}}}
spec:
  http: [{{matchers: [{{uri: {{prefix: /a}}}}], forwardTo: {{destinations: [{{ref: {{name: web}}}}]}}}}]
"""
ROOT = """
apiVersion: {api}
kind: RouteTable
metadata: {{name: root, namespace: {namespace}}}
spec:
  hosts: [{host}]
  http: [{{labels: {{{labels}}}, matchers: [{{uri: {{prefix: {path}}}}}], delegate: {{routeTables: [{selector}]}}}}]
"""
LEAVE = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: leave, namespace: shop}}
spec:
  from: [{{group: {group}, kind: RouteTable, namespace: {namespace}}}]
  to: [{{group: {group}, kind: RouteTable}}]
"""
BY_NAME = "{name: child, namespace: shop}"


def read(dialect: str, *texts: str, **values: str) -> PolicySet:
    api = DIALECTS[dialect]
    filled = {"namespace": "edge", "host": "www.example.com", "labels": "", "path": "/", "selector": BY_NAME} | values
    return read_policy_set(
        (f"{index}.yaml", text.format(api=api, group=api.partition("/")[0], **filled))
        for index, text in enumerate(texts)
    )


class TestDelegation:
    def test_our_own_kind_asks_leave(self) -> None:
        refusing = read("eastgate", ROOT, CHILD, path="/never")
        assert any(one.code == "not-granted" for one in refusing.diagnostics)
        plan = compile_plan(refusing, POD)
        assert found(plan, request("/a", host=b"any")) == "child", "nobody narrowed it"
        granted = read("eastgate", ROOT, CHILD, LEAVE)
        assert not has_errors(granted.diagnostics)
        plan = compile_plan(granted, POD)
        assert [found(plan, request("/a", host=host)) for host in (b"www.example.com", b"any")] == ["child", "-"]

    def test_labels_are_no_leave_and_no_mistake(self) -> None:
        found_set = read("eastgate", ROOT, CHILD, selector="{labels: {team: shop}}")
        assert not has_errors(found_set.diagnostics)
        assert found(compile_plan(found_set, POD), request("/a", host=b"any")) == "child"

    def test_gloo_asks_no_leave_until_it_is_granted_to_somebody(self) -> None:
        plan = compile_plan(read("gloo", ROOT, CHILD), POD)
        assert [found(plan, request("/a", host=host)) for host in (b"www.example.com", b"any")] == ["child", "-"]
        assert not has_errors(read("gloo", ROOT, CHILD, LEAVE).diagnostics)
        refusing = read("gloo", ROOT, CHILD, LEAVE.replace("{namespace}", "other"))
        assert any(one.code == "not-granted" for one in refusing.diagnostics)

    def test_no_root_takes_a_request_from_another(self) -> None:
        first = ROOT.replace("name: root", "name: first").replace("{namespace}", "mallory")
        second = ROOT.replace("{{{labels}}}", "{{guarded: 'yes'}}")
        plan = compile_plan(PolicySet((GUARDED,), read("gloo", first, second, CHILD).routes), POD)
        assert plan.find(request("/a", host=b"www.example.com"), b"/a", None).names == ("shop/guarded",)

    def test_what_the_workloads_table_asks_for_by_name_is_its_own(self) -> None:
        leaf = CHILD.replace("namespace: shop", "namespace: team").replace(
            "{{name: web}}", "{{name: web, namespace: shop}}"
        )
        asked = read("gloo", ROOT, leaf, namespace="shop", selector="{name: child, namespace: team}")
        plan = compile_plan(asked, POD)
        assert [found(plan, request(path, host=b"www.example.com")) for path in ("/a", "/b")] == ["child", "-"]
        # By labels anybody could have answered.
        volunteered = read("gloo", ROOT, leaf, namespace="shop", selector="{labels: {team: shop}}")
        assert volunteered.routes[0].asked == ()
        plan = compile_plan(volunteered, POD)
        assert "implicit" in plan.find(request("/a", host=b"www.example.com"), b"/a", None).route


def test_destinations_elsewhere_do_not_bind() -> None:
    route = foreign(prefix("/"), destinations=(Destination("Service", "mallory", "web", 80),))
    assert found(compiled(route, workload=POD), request("/")) == "implicit"
