"""Binding, ordering and finding routes, seen through the plan."""

from __future__ import annotations

import pytest

from eastgate.compile.plan import Plan
from eastgate.model.requests import Request
from eastgate.model.routes import Action, Comparison, FieldMatch, Match, Route, StringMatch
from eastgate.model.workloads import Service, ServicePort, Workload
from tests.unit.decide.scenes import (
    compiled,
    exact,
    http_route,
    policy,
    prefix,
    regex,
    request,
    segments,
    service,
    table,
)


def found(plan: Plan, asked: Request) -> str:
    """The route's name, `-` where none matches."""
    path, _, query = asked.target.partition(b"?")
    route = plan.find(asked, path, query or None).route
    return " + ".join(one.split("/")[1].split(" ")[0] for one in route.split(" + ")) if "/" in route else route or "-"


def header(name: str, value: str) -> FieldMatch:
    return FieldMatch(name, StringMatch(Comparison.EXACT, value))


class TestListed:
    def test_the_first_in_reading_order_wins(self) -> None:
        plan = compiled(table(prefix("/"), name="one"), table(prefix("/a"), name="two"))
        assert found(plan, request("/a")) == "one"

    def test_any_of_its_matches(self) -> None:
        plan = compiled(table(exact("/a"), exact("/b", method="POST"), name="one"), table(name="rest"))
        assert found(plan, request("/a")) == "one"
        assert found(plan, request("/b")) == "rest"
        assert found(plan, request("/b", method=b"POST")) == "one"

    def test_the_rewritten_form_matches_too(self) -> None:
        plan = compiled(table(prefix("/api/"), rewritten=(prefix("/v1/"),), name="one"))
        assert [found(plan, request(path)) for path in ("/api/x", "/v1/x", "/x")] == ["one", "one", "-"]

    def test_all_conditions_of_a_match(self) -> None:
        match = Match(StringMatch(Comparison.PREFIX, "/a"), "GET", (header("x-b", "1"),), (header("q", "2"),))
        plan = compiled(table(match, name="one"))
        assert found(plan, request("/a?q=2", (b"x-b", b"1"))) == "one"
        assert found(plan, request("/a?q=3", (b"x-b", b"1"))) == "-"
        assert found(plan, request("/a?q=2")) == "-"
        assert found(plan, request("/a?q=2", (b"x-b", b"1"), method=b"PUT")) == "-"
        assert found(plan, request("/b?q=2", (b"x-b", b"1"))) == "-"


class TestManyRoutes:
    def test_large_groups_find_the_same(self) -> None:
        routes = [table(prefix(f"/{n}/", method="GET"), exact(f"/{n}"), name=f"t{n}") for n in range(100)]
        plan = compiled(*routes, table(prefix("/"), name="rest"))
        for _ in range(2):
            assert found(plan, request("/7/x")) == "t7"
            assert found(plan, request("/7/x", method=b"PUT")) == "rest"
            assert found(plan, request("/77")) == "t77"
            assert found(plan, request("/" + "x" * 600)) == "rest"


class TestPrecedence:
    """The most specific, however they are read."""

    ROUTES = (
        ("prefix", http_route(segments("/a"), name="prefix")),
        ("longer", http_route(segments("/a/b"), name="longer")),
        ("regex", http_route(regex("/a/r.*"), name="regex")),
        ("exact", http_route(exact("/a/b"), name="exact")),
        ("method", http_route(segments("/a", method="PUT"), name="method")),
        ("header", http_route(segments("/a", headers=(header("x", "1"),)), name="header")),
        ("query", http_route(segments("/a", query=(header("q", "1"),)), name="query")),
        ("rest", http_route(name="rest")),
    )

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            (request("/a/b"), "exact"),
            (request("/a/b/c"), "longer"),
            (request("/a/rx"), "regex"),
            (request("/a/x"), "prefix"),
            (request("/a/x", method=b"PUT"), "method"),
            (request("/a/x?q=1", (b"x", b"1"), method=b"PUT"), "method"),
            (request("/a/x?q=1", (b"x", b"1")), "header"),
            (request("/a/x?q=1"), "query"),
            (request("/b"), "rest"),
        ],
    )
    def test_specific_first(self, asked: Request, expected: str, order: int) -> None:
        plan = compiled(*[route for _, route in self.ROUTES][::order])
        assert found(plan, asked) == expected

    def test_age_then_name_then_position(self) -> None:
        def at(created: str, name: str, index: int = 0, namespace: str = "default") -> Route:
            return http_route(segments("/a"), name=name, created=created, index=index, namespace=namespace)

        assert found(compiled(at("", "a"), at("2025-01-02T00:00:00Z", "z")), request("/a")) == "z"
        assert found(compiled(at("2025-01-02T00:00:00Z", "a"), at("2025-01-01T00:00:00Z", "z")), request("/a")) == "z"
        assert found(compiled(at("", "b"), at("", "a")), request("/a")) == "a"
        plan = compiled(at("", "z", namespace="a"), at("", "a", namespace="b"))
        assert plan.find(request("/a"), b"/a", None).route == "HTTPRoute a/z [0]"
        plan = compiled(at("", "a", index=1), at("", "a", index=0))
        assert plan.find(request("/a"), b"/a", None).route == "HTTPRoute default/a [0]"


class TestHosts:
    def test_no_less_specific_group_is_asked(self) -> None:
        plan = compiled(
            table(prefix("/a"), name="exact", hosts=("www.example.com",)),
            table(prefix("/"), name="wild", hosts=("*.example.com",)),
            table(prefix("/"), name="any"),
        )
        assert found(plan, request("/a")) == "exact"
        assert found(plan, request("/b")) == "-"
        assert found(plan, request("/b", host=b"api.example.com:80")) == "wild"
        assert found(plan, request("/b", host=b"example.com")) == "any"

    @pytest.mark.parametrize("host", ["web", "web.default", "WEB.default.svc", "web.default.svc.cluster.local:8000"])
    def test_names_of_the_service(self, host: str) -> None:
        plan = compiled(table(prefix("/"), name="one", hosts=("www.example.com",), destinations=(service("web", 80),)))
        assert found(plan, request("/", host=host.encode())) == "one"
        assert found(plan, request("/", host=b"web.other")) == "-"

    def test_families_choose_their_group_by_themselves(self) -> None:
        plan = compiled(
            table(prefix("/"), name="any"), http_route(segments("/a"), name="exact", hosts=("www.example.com",))
        )
        assert found(plan, request("/a")) == "any + exact"
        assert found(plan, request("/b")) == "any"
        assert found(plan, request("/a", host=b"other")) == "any"


class TestBinding:
    SERVICE = Service("default", "web", ports=(ServicePort(80, "http", 8080), ServicePort(81, "admin", 9090)))
    POD = Workload(services=(("default", "web", None),))

    def test_only_routes_that_lead_to_the_workload(self) -> None:
        plan = compiled(
            table(prefix("/a"), name="mine", destinations=(service("web", 80), service("other", 80))),
            table(prefix("/b"), name="other", destinations=(service("other", 80),)),
            table(prefix("/c"), name="foreign", destinations=(service("web", 80, namespace="far"),)),
            table(prefix("/d"), name="answer", action=Action.ANSWER),
            self.SERVICE,
            workload=self.POD,
        )
        assert [found(plan, request(path, port=8080)) for path in ("/a", "/b", "/c", "/d")] == ["mine", "-", "-", "-"]

    def test_routes_bind_by_port(self) -> None:
        plan = compiled(
            policy(),
            table(prefix("/"), name="http", destinations=(service("web", "http"),)),
            self.SERVICE,
            workload=self.POD,
        )
        assert found(plan, request("/", port=8080)) == "http"
        assert found(plan, request("/", port=0)) == "http"
        # No route is bound there: the implicit one holds, with its policies.
        assert found(plan, request("/", port=9090)) == "implicit"
        assert plan.find(request("/", port=9090), b"/", None).names == ("default/jwt",)
        assert found(plan, request("/", port=7)) == "implicit"

    def test_an_unknown_port_is_every_port(self) -> None:
        plan = compiled(table(prefix("/a"), name="one", destinations=(service("web", 80),)), workload=self.POD)
        assert [found(plan, request("/a", port=port)) for port in (0, 80, 8080)] == ["one"] * 3

    def test_a_port_of_the_workloads_service(self) -> None:
        pod = Workload(services=(("default", "web", 81),))
        routes = (
            table(prefix("/a"), name="http", destinations=(service("web", 80),)),
            table(prefix("/a"), name="admin", destinations=(service("web", "admin"),)),
        )
        assert found(compiled(*routes, self.SERVICE, workload=pod), request("/a", port=9090)) == "admin"
        every = compiled(table(prefix("/a"), name="all", destinations=(service("web"),)), self.SERVICE, workload=pod)
        assert found(every, request("/a", port=9090)) == "all"
        assert found(every, request("/a", port=8080)) == "implicit"

    def test_a_match_on_the_port(self) -> None:
        plan = compiled(
            table(Match(port=80), name="http", destinations=(service("web"),)), self.SERVICE, workload=self.POD
        )
        # The client of Service port 80 dials container port 8080.
        assert [found(plan, request("/", port=port)) for port in (8080, 9090, 0)] == ["http", "-", "http"]

    def test_a_broken_route_that_leads_nowhere_readable_binds(self) -> None:
        broken = table(prefix("/a"), invalid=("spec.http[0].forwardTo: unknown field",))
        plan = compiled(broken, self.SERVICE, workload=self.POD)
        guard = plan.find(request("/a", port=8080), b"/a", None)
        assert guard.refusal is not None
        assert guard.refusal.reason == "policy_unavailable"


class TestBroken:
    def test_unreadable_matches_match_everything_first(self) -> None:
        broken = http_route(exact("/x"), name="broken", invalid=("spec.rules[0].matches[1]: unknown field `pth`",))
        plan = compiled(http_route(exact("/a"), name="good"), broken)
        assert found(plan, request("/a")) == "broken"

    def test_a_bad_destination_leaves_the_matches_readable(self) -> None:
        message = "spec.rules[0].backendRefs[0].name: Service default/x is not there"
        broken = http_route(exact("/x"), name="broken", invalid=(message,))
        plan = compiled(http_route(exact("/a"), name="good"), broken)
        assert found(plan, request("/a")) == "good"
        assert found(plan, request("/x")) == "broken"
        assert found(plan, request("/y")) == "-"

    def test_a_regex_that_cannot_be_compiled_refuses(self) -> None:
        plan = compiled(table(regex("("), name="bad"), table(name="rest"))
        refusal = plan.find(request("/a"), b"/a", None).refusal
        assert refusal is not None
        assert refusal.reason == "policy_unavailable"
