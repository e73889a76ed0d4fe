"""Gloo's RouteTable: matchers, actions, rewrites, senders, delegation."""

from __future__ import annotations

import time

import pytest

from eastgate.model.routes import Action, Comparison, Destination, FieldMatch, Match, Order, Route, StringMatch
from tests.unit.dialects.reading import errors, read, read_routes, table_text, the_error, warnings

TO_WEB = "forwardTo: {destinations: [{ref: {name: web}, port: {number: 80}}]}"
WEB = Destination("Service", "shop", "web", 80)


def exact(value: str, ignore_case: bool = False) -> StringMatch:
    return StringMatch(Comparison.EXACT, value, ignore_case)


def prefix(value: str, ignore_case: bool = False) -> StringMatch:
    return StringMatch(Comparison.PREFIX, value, ignore_case)


def regex(value: str) -> StringMatch:
    return StringMatch(Comparison.REGEX, value)


PRESENT = StringMatch(Comparison.PRESENT)


def entry(matchers: str = "", action: str = TO_WEB, more: str = "") -> str:
    lines = [f"- {action}"]
    lines += [f"  matchers: {matchers}"] if matchers else []
    lines += [f"  {more}"] if more else []
    return "\n".join(lines)


def read_route(matchers: str = "", action: str = TO_WEB, more: str = "") -> Route:
    (route,) = read_routes(table_text(entry(matchers, action, more)))
    return route


# --- one entry ------------------------------------------------------------------------------------------------------


def test_everything_of_an_entry() -> None:
    route = read_route("[{uri: {prefix: /a}}]", more="name: first\n  labels: {a: b}")
    assert (route.section, route.index, str(route)) == ("first", 0, "RouteTable shop/t first")
    assert route.labels == (("a", "b"), ("table", "t"))
    assert route.hosts == ("www.example.com",)
    assert route.matches == (Match(prefix("/a")),)
    assert route.destinations == (WEB,)
    assert (route.action, route.order, route.weight, route.invalid) == (Action.FORWARD, Order.LISTED, 0, ())
    assert (route.position.file, route.position.line) == ("a.yaml", 7)


@pytest.mark.parametrize(
    ("matchers", "matches"),
    [
        ("", ()),
        ("null", ()),
        ("[]", ()),
        ("[{}]", (Match(),)),
        ("[{uri: {}}]", (Match(),)),
        ("[{uri: {exact: /a}}, {uri: {prefix: ''}}]", (Match(exact("/a")), Match(prefix("")))),
        ("[{uri: {exact: /A, ignoreCase: true}}]", (Match(exact("/A", True)),)),
        ("[{uri: {regex: '/v[0-9]+/.*'}}]", (Match(regex("/v[0-9]+/.*")),)),
        ("[{method: POST}]", (Match(method="POST"),)),
        ("[{method: ''}]", (Match(),)),
        ("[{port: 8080}]", (Match(port=8080),)),
        ("[{headers: [{name: X-A}]}]", (Match(headers=(FieldMatch("x-a", PRESENT),)),)),
        ("[{headers: [{name: X-A, invertMatch: true}]}]", (Match(headers=(FieldMatch("x-a", PRESENT, True),)),)),
        ("[{headers: [{name: X-A, value: b}]}]", (Match(headers=(FieldMatch("x-a", exact("b")),)),)),
        ("[{headers: [{name: X-A, value: 'b.*', regex: true, invertMatch: true}]}]",
         (Match(headers=(FieldMatch("x-a", regex("b.*"), True),)),)),
        ("[{queryParameters: [{name: Q, value: v}, {name: r, value: 'v+', regex: true}, {name: s}]}]",
         (Match(query=(FieldMatch("Q", exact("v")), FieldMatch("r", regex("v+")), FieldMatch("s", PRESENT))),)),
    ],
)  # fmt: skip
def test_matchers(matchers: str, matches: tuple[Match, ...]) -> None:
    assert read_route(matchers).matches == matches


@pytest.mark.parametrize(
    ("matchers", "field", "message"),
    [
        ("[{uri: {suffix: .js}}]", ".uri.suffix",
         "matching the end of a path is not supported; accepted: exact, prefix, regex"),
        ("[{uri: {exact: /a, prefix: /b}}]", ".uri.prefix",
         "only one of `exact`, `prefix`, `regex` may be set, found `exact` and `prefix`"),
        ("[{uri: {regex: '('}}]", ".uri.regex", "`(` is not a regular expression that RE2 accepts: missing ): ("),
        ("[{uri: {regex: '(?=x)'}}]", ".uri.regex",
         "`(?=x)` is not a regular expression that RE2 accepts: invalid perl operator: (?="),
        ("[{uri: {segments: /a}}]", ".uri.segments",
         "unknown field `segments`; accepted: exact, ignoreCase, prefix, regex, suffix"),
        ("[{headers: [{value: a}]}]", ".headers[0].name", "`name` is required and must not be empty"),
        ("[{headers: [{name: ':path', value: /a}]}]", ".headers[0].name",
         "`:path` cannot be matched as a header; accepted: a header's name, `hosts` for the host, `uri` for the path, "
         "`method` for the method"),
        ("[{headers: [{name: Host, value: a}]}]", ".headers[0].name",
         "`Host` cannot be matched as a header; accepted: a header's name, `hosts` for the host, `uri` for the path, "
         "`method` for the method"),
        ("[{queryParams: [{name: a}]}]", ".queryParams",
         "unknown field `queryParams` (did you mean `queryParameters`?); "
         "accepted: headers, method, name, port, queryParameters, uri"),
        ("[{method: 'G T'}]", ".method", "`G T` is not a method; accepted: a word like `GET`"),
        ("[{port: 70000}]", ".port", "expected an integer from 0 to 65535, found `70000`"),
    ],
)  # fmt: skip
def test_matcher_errors(matchers: str, field: str, message: str) -> None:
    found = read(table_text(entry(matchers)))
    error = the_error(found)
    assert (error.field, error.message) == (f"spec.http[0].matchers[0]{field}", message)
    assert found.routes[0].invalid == (f"{error.field}: {message}",)


@pytest.mark.parametrize(
    ("matchers", "part"),
    [
        ("[{uri: {prefix: api}}]", "`api` never matches: a path begins with `/`"),
        ("[{uri: {exact: '/a?b=c'}}]", "never matches: the query is not in the path"),
        ("[{uri: {regex: /a, ignoreCase: true}}]", "no effect on a regular expression"),
        ("[{name: x}]", "the name of a matcher is not matched"),
        ("[{method: get}]", "did you mean `GET`?"),
    ],
)
def test_matcher_warnings(matchers: str, part: str) -> None:
    found = read(table_text(entry(matchers)))
    assert errors(found) == []
    assert [one for one in warnings(found) if part in one]


def test_names_are_made_unique() -> None:
    http = "\n".join(entry(more=f"name: {name}") for name in ("insecure-a", "a", "a", "b"))
    found = read(table_text(http))
    assert [route.section for route in found.routes] == ["a", "duplicate-a-1", "duplicate-a-2", "b"]
    assert len(warnings(found)) == 2


def test_labels_of_entry_and_table_are_united_even_where_they_differ() -> None:
    route = read_route(more="labels: {table: other, x: z}")
    assert route.labels == (("table", "other"), ("table", "t"), ("x", "z"))


# --- actions --------------------------------------------------------------------------------------------------------


def test_destinations() -> None:
    route = read_route(
        action="forwardTo: {destinations: ["
        "{ref: {name: a, namespace: other, cluster: ''}, port: {name: http}, weight: 75}, "
        "{ref: {name: b}, kind: SERVICE, weight: 25}, {ref: {name: c}, kind: EXTERNAL_SERVICE}, "
        "{awsLambda: {function: f}}]}"
    )
    assert route.destinations == (
        Destination("Service", "other", "a", "http"),
        Destination("Service", "shop", "b"),
        Destination("ExternalService", "shop", "c"),
        Destination("CloudProvider", "shop", "awsLambda"),
    )


def test_the_default_destination() -> None:
    spec = "hosts: [a.com]\ndefaultDestination: {ref: {name: web}, port: {number: 80}}"
    (route,) = read_routes(table_text("- forwardTo: {}", spec))
    assert route.destinations == (WEB,)


@pytest.mark.parametrize(
    ("action", "field", "message"),
    [
        ("name: a", "", "one of `forwardTo`, `delegate`, `redirect`, `directResponse`, `graphql` is required"),
        ("{redirect: {}, directResponse: {status: 200}}", ".directResponse",
         "only one of `forwardTo`, `delegate`, `redirect`, `directResponse`, `graphql` may be set, "
         "found `redirect` and `directResponse`"),
        ("forwardTo: {}", ".forwardTo.destinations",
         "at least one destination is required, here or as the table's `defaultDestination`"),
        ("forwardTo: {destinations: [{ref: {}}]}", ".forwardTo.destinations[0].ref.name",
         "`name` is required and must not be empty"),
        ("forwardTo: {destinations: [{ref: {name: a}, kind: SERVIC}]}", ".forwardTo.destinations[0].kind",
         "unknown value `SERVIC` (did you mean `SERVICE`?); accepted: SERVICE, EXTERNAL_SERVICE, VIRTUAL_DESTINATION"),
        ("forwardTo: {destinations: [{ref: {name: a}, kind: VIRTUAL_DESTINATION}]}", ".forwardTo.destinations[0].kind",
         "a VirtualDestination is not resolved, so nothing would be enforced in the pods behind it; "
         "accepted: SERVICE, with the name of a Service, or EXTERNAL_SERVICE"),
        ("forwardTo: {destinations: [{ref: {name: a}}], pathRewrite: /a, regexRewrite: {pattern: {regex: a}}}",
         ".forwardTo.regexRewrite",
         "only one of `pathRewrite`, `regexRewrite` may be set, found `pathRewrite` and `regexRewrite`"),
        ("forwardTo: {destinations: [{ref: {name: a}}], hostRewrite: a, autoHostRewrite: true}",
         ".forwardTo.autoHostRewrite",
         "only one of `hostRewrite`, `autoHostRewrite` may be set, found `hostRewrite` and `autoHostRewrite`"),
        ("directResponse: {body: x}", ".directResponse.status", "`status` is required"),
        ("redirect: {responseCode: MOVED}", ".redirect.responseCode",
         "unknown value `MOVED`; accepted: MOVED_PERMANENTLY, FOUND, SEE_OTHER, TEMPORARY_REDIRECT, PERMANENT_REDIRECT"),
    ],
)  # fmt: skip
def test_action_errors(action: str, field: str, message: str) -> None:
    found = read(table_text(f"- {action}"))
    error = the_error(found)
    assert (error.field, error.message) == (f"spec.http[0]{field}", message)
    assert found.routes[0].invalid


def test_what_is_answered_on_the_way_is_bound_where_the_table_leads() -> None:
    http = "\n".join(
        [
            "- {matchers: [{uri: {exact: /old}}], redirect: {hostRedirect: a, pathRedirect: /new, responseCode: FOUND}}",
            "- {matchers: [{uri: {exact: /down}}], directResponse: {status: 503, body: sorry}}",
            "- graphql: {schema: {name: x}}",
            f"- {TO_WEB}",
        ]
    )
    routes = read_routes(table_text(http))
    assert [route.action for route in routes] == [Action.ANSWER, Action.ANSWER, Action.ANSWER, Action.FORWARD]
    assert all(route.destinations == (WEB,) for route in routes)


# --- rewrites -------------------------------------------------------------------------------------------------------


def rewritten(matchers: str, rewrite: str) -> tuple[tuple[StringMatch | None, ...], list[str]]:
    action = f"forwardTo: {{destinations: [{{ref: {{name: web}}}}], {rewrite}}}"
    found = read(table_text(entry(matchers, action)))
    assert errors(found) == []
    return tuple(match.path for match in found.routes[0].rewritten), warnings(found)


@pytest.mark.parametrize(
    ("matchers", "rewrite", "paths"),
    [
        ("[{uri: {prefix: /foo}}]", "pathRewrite: /bar", (prefix("/bar"),)),
        ("[{uri: {exact: /foo}}]", "pathRewrite: /bar", (exact("/bar"),)),
        ("[{uri: {exact: /a}}, {uri: {exact: /b}}]", "pathRewrite: /c", (exact("/c"),)),
        ("", "pathRewrite: /bar/", (prefix("/bar/"),)),
        ("[{uri: {exact: /v1/x}}]", "regexRewrite: {pattern: {googleRe2: {}, regex: '^/v1/(.*)'}, substitution: '/\\1'}",
         (exact("/x"),)),
    ],
)  # fmt: skip
def test_rewrites_that_can_be_computed(matchers: str, rewrite: str, paths: tuple[StringMatch, ...]) -> None:
    assert rewritten(matchers, rewrite) == (paths, [])


@pytest.mark.parametrize(
    ("matchers", "rewrite"),
    [
        ("[{uri: {prefix: /v1}}]", "regexRewrite: {pattern: {regex: '/v1/'}, substitution: /}"),
        ("[{uri: {exact: /v1, ignoreCase: true}}]", "regexRewrite: {pattern: {regex: '/v1'}, substitution: /}"),
        ("", "regexRewrite: {pattern: {regex: '/v1/'}, substitution: /}"),
        ("[{uri: {exact: /a}}]", "pathRewrite: '/b?c=d'"),
    ],
)
def test_rewrites_that_cannot_be_computed_hold_for_every_path(matchers: str, rewrite: str) -> None:
    paths, said = rewritten(matchers, rewrite)
    assert paths == (None,)
    assert "the route's policies hold for every path" in said[0]


def test_a_rewrite_keeps_the_other_conditions() -> None:
    action = "forwardTo: {destinations: [{ref: {name: web}}], pathRewrite: /b}"
    route = read_route("[{uri: {prefix: /a}, method: GET, headers: [{name: x}]}]", action)
    assert route.rewritten == (Match(prefix("/b"), "GET", (FieldMatch("x", PRESENT),)),)


def test_a_path_rewrite_on_a_regular_expression_is_refused() -> None:
    action = "forwardTo: {destinations: [{ref: {name: web}}], pathRewrite: /b}"
    found = read(table_text(entry("[{uri: {regex: /a.*}}]", action)))
    assert the_error(found).field == "spec.http[0].forwardTo.pathRewrite"
    assert found.routes[0].invalid


def test_host_rewrites() -> None:
    action = "forwardTo: {destinations: [{ref: {name: web}}], hostRewrite: Internal.Example.com}"
    assert read_route(action=action).hosts == ("www.example.com",)
    assert read_route(action=action).rewritten_hosts == ("internal.example.com",)
    action = "forwardTo: {destinations: [{ref: {name: web}}], autoHostRewrite: true}"
    assert read_route(action=action).hosts == ("www.example.com",)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_hosts() -> None:
    spec = "hosts: [WWW.Example.com., '*.foo.com', '*-bar.foo.com', localhost, 10.0.0.1]"
    (route,) = read_routes(table_text(entry(), spec))
    assert route.hosts == ("www.example.com", "*.foo.com", "*-bar.foo.com", "localhost", "10.0.0.1")
    found = read(table_text(entry(), "hosts: ['*']"))
    assert found.routes[0].hosts == ("*",)
    assert ["`*` stands for every host" in one for one in warnings(found)] == [True]


@pytest.mark.parametrize("host", ["www.example.com:80", "bar.*.com", "bar*.foo.com", "foo..com", "a b", "-a.com", "''"])
def test_a_host_that_cannot_be_read_stands_for_every_host(host: str) -> None:
    found = read(table_text(entry(), f"hosts: [a.com, {host}]"))
    assert the_error(found).code == "bad-host"
    assert found.routes[0].hosts == ()
    assert found.routes[0].invalid


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("virtualGateways: [{name: gw, namespace: istio-gateways, cluster: c}]", "for ingress"),
        ("workloadSelectors: [{selector: {labels: {a: b}}}]", "hold for every source"),
        ("failureMode: FREEZE_CONFIG", "no effect"),
        ("portalMetadata: {apiProductId: x}", "for Gloo's portal"),
        ("virtualServiceAnnotations: {a: b}", "no VirtualService is made"),
        ("applyToDestinations: [{}]", "for waypoints"),
        ("tcp: [{}]", "TCP routes are not enforced"),
        ("tls: [{}]", "TLS routes are not enforced"),
    ],
)
def test_what_is_said_about_senders_and_gateways_is_noted(spec: str, part: str) -> None:
    found = read(table_text(entry(), "hosts: [a.com]\n" + spec))
    assert errors(found) == []
    assert [one for one in warnings(found) if part in one]
    assert len(found.routes) == 1


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ("", 1),
        ("workloadSelectors: null", 1),
        ("workloadSelectors: [{}]", 1),
        ("workloadSelectors: [{kind: KUBE, selector: {}}]", 1),
        ("workloadSelectors: []", 0),
        ("workloadSelectors: []\nvirtualGateways: [{name: gw}]", 1),
    ],
)
def test_three_meanings_of_workload_selectors(spec: str, count: int) -> None:
    found = read(table_text(entry(), "hosts: [a.com]\n" + spec))
    assert errors(found) == []
    assert len([route for route in found.routes if route.action is not Action.NOBODY]) == count
    assert len(found.routes) == 1, "a table for nobody still binds, so that nothing is taken for unrouted"
    assert ("selects no sender" in " ".join(warnings(found))) == (count == 0)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("workloadSelectors: [{kind: VM}]", "spec.workloadSelectors[0].kind"),
        ("workloadSelectors: [{selector: {name: a}}]", "spec.workloadSelectors[0].selector.name"),
        ("workloadSelectors: {}", "spec.workloadSelectors"),
        ("failureMode: FREEZE", "spec.failureMode"),
        ("virtualGateways: [gw]", "spec.virtualGateways[0]"),
        ("weight: high", "spec.weight"),
    ],
)
def test_table_errors_make_its_routes_invalid(spec: str, field: str) -> None:
    found = read(table_text(entry(), "hosts: [a.com]\n" + spec))
    assert field in {one.field for one in found.diagnostics}
    assert [bool(route.invalid) for route in found.routes] == [True]


def test_a_table_without_routes() -> None:
    text = table_text("[]").replace("  http:\n  []", "")
    assert the_error(read(text)).message == "one of `http`, `tcp`, `tls` is required"


def test_tables_are_tried_by_age() -> None:
    def aged(name: str, stamp: str) -> str:
        return table_text(entry(more=f"name: {name}")).replace("name: t,", f"name: {name}, creationTimestamp: {stamp},")

    young, old = aged("young", "2026-02-01T00:00:00Z"), aged("old", "2026-01-01T00:00:00Z")
    assert [route.section for route in read_routes(young, old)] == ["old", "young"]


# --- delegation -----------------------------------------------------------------------------------------------------


def table(name: str, http: str, metadata: str = "", **spec: str) -> str:
    lines = [f"{key}: {value}" for key, value in spec.items()]
    text = table_text(http, "\n".join(lines))
    return text.replace("name: t, namespace: shop, labels: {table: t}", f"name: {name}, namespace: shop{metadata}")


def delegate(selector: str, matchers: str = "", more: str = "", sort: str = "TABLE_WEIGHT") -> str:
    return entry(matchers, f"delegate: {{routeTables: [{selector}], sortMethod: {sort}}}", more)


def test_a_child_has_its_parents_hosts_labels_and_matchers() -> None:
    parent = table("root", delegate("{name: child}", "[{uri: {prefix: /api}, method: GET}]", "labels: {entry: parent}"),
                   ", labels: {of: root}", hosts="[a.com]")  # fmt: skip
    child = table(
        "child", entry("[{uri: {prefix: /api/v1}}, {uri: {exact: /api}}]", more="name: c"), ", labels: {of: child}"
    )
    (route,) = read_routes(parent, child)
    assert str(route) == "RouteTable shop/child c"
    assert route.hosts == ("a.com",)
    assert route.labels == (("entry", "parent"), ("of", "child"), ("of", "root"))
    assert route.matches == (Match(prefix("/api/v1"), "GET"), Match(exact("/api"), "GET"))
    assert route.position.file == "b.yaml"


def test_children_stand_where_their_parent_entry_stands() -> None:
    root = table(
        "root", "\n".join([entry(more="name: first"), delegate("{name: child}"), entry(more="name: last")]),
        hosts="[a.com]",
    )  # fmt: skip
    child = table("child", "\n".join([entry(more="name: c1"), entry(more="name: c2")]))
    assert [route.section for route in read_routes(child, root)] == ["first", "c1", "c2", "last"]


def test_tables_by_weight_then_as_listed_then_by_age() -> None:
    root = table("root", delegate("{name: a}, {labels: {x: z}}, {name: heavy}"), hosts="[a.com]")
    children = [
        table("a", entry(more="name: a")),
        table("young", entry(more="name: young"), ", labels: {x: z}, creationTimestamp: 2026-02-01T00:00:00Z"),
        table("old", entry(more="name: old"), ", labels: {x: z}, creationTimestamp: 2026-01-01T00:00:00Z"),
        table("heavy", entry(more="name: heavy"), weight="10"),
    ]
    assert [route.section for route in read_routes(root, *children)] == ["heavy", "a", "old", "young"]


def test_route_specificity_sorts_as_in_glos_own_example() -> None:
    root = table("root", delegate("{name: a}, {name: b}", sort="ROUTE_SPECIFICITY"), hosts="[a.com]")
    paths_a = ["prefix: /foo", "prefix: /foo/more/specific", "prefix: /foo/even/more/specific", "exact: /foo/exact",
               "exact: /foo/another/exact", "regex: /foo/*", "regex: /fooo/*"]  # fmt: skip
    paths_b = ["prefix: /bar", "prefix: /bar/more/specific", "prefix: /bar/even/more/specific", "exact: /bar/exact",
               "regex: /bar/*"]  # fmt: skip
    a, b = ("\n".join(entry(f"[{{uri: {{{path}}}}}]") for path in paths) for paths in (paths_a, paths_b))
    routes = read_routes(root, table("a", a, weight="1"), table("b", b, weight="2"))
    assert [f"{route.matches[0].path.comparison}: {route.matches[0].path.value}" for route in routes] == [  # type: ignore[union-attr]
        "exact: /foo/another/exact",
        "exact: /bar/exact",
        "exact: /foo/exact",
        "regex: /bar/*",
        "regex: /foo/*",
        "regex: /fooo/*",
        "prefix: /bar/even/more/specific",
        "prefix: /foo/even/more/specific",
        "prefix: /bar/more/specific",
        "prefix: /foo/more/specific",
        "prefix: /bar",
        "prefix: /foo",
    ]


def test_delegation_over_two_levels_and_namespaces() -> None:
    root = table("root", delegate("{labels: {x: z}, namespace: other}"), hosts="[a.com]")
    middle = table("middle", delegate("{name: leaf, namespace: shop}", "[{uri: {prefix: /m}}]"), ", labels: {x: z}")
    leaf = table("leaf", entry("[{uri: {prefix: /m/l}}]"))
    (route,) = read_routes(root, middle.replace("namespace: shop,", "namespace: other,", 1), leaf)
    assert route.matches == (Match(prefix("/m/l")),)
    assert route.labels == (("x", "z"),)


@pytest.mark.parametrize(
    ("parent", "child", "joined"),
    [
        ("prefix: /", "regex: /a.*", regex("/a.*")),
        ("prefix: /a", "prefix: /a/b", prefix("/a/b")),
        ("prefix: /a/b", "prefix: /a", prefix("/a/b")),
        ("prefix: /a", "exact: /a/b", exact("/a/b")),
        ("exact: /a/b", "prefix: /a", exact("/a/b")),
        ("exact: /a/b", "regex: '/a/.*'", exact("/a/b")),
        ("prefix: /api", "regex: '/api/v[0-9]+'", regex("/api/v[0-9]+")),
        ("{prefix: /A, ignoreCase: true}", "exact: /a/b", exact("/a/b")),
        ("{prefix: /A, ignoreCase: true}", "prefix: /a/b", prefix("/a/b")),
        ("prefix: /a", "prefix: /b", None),
        ("exact: /a", "exact: /b", None),
        ("exact: /a", "regex: '/b.*'", None),
        ("prefix: /a", "regex: '/b.*'", None),
        ("{prefix: /A, ignoreCase: true}", "prefix: /b", None),
        ("prefix: /a", "regex: '.*'", ...),
        ("prefix: /a", "regex: '/a.*|/b.*'", ...),
        ("regex: '/a.*'", "regex: '.*b'", ...),
        ("prefix: /a", "{prefix: /A/b, ignoreCase: true}", ...),
    ],
)  # fmt: skip
def test_joining_matchers(parent: str, child: str, joined: StringMatch | None) -> None:
    def uri(text: str) -> str:
        return f"[{{uri: {text if text.startswith('{') else '{' + text + '}'}}}]"

    found = read(
        table("root", delegate("{name: child}", uri(parent)), hosts="[a.com]"), table("child", entry(uri(child)))
    )
    (route,) = found.routes
    if isinstance(joined, StringMatch):
        assert errors(found) == []
        assert route.matches == (Match(joined),)
        return
    error = the_error(found)
    assert error.code == ("never-matches" if joined is None else "unsupported-value")
    assert error.position.file == "b.yaml"
    assert route.invalid
    assert [match.path.value for match in route.matches if match.path] == [parent.split(": ")[1].split(",")[0].strip("'")]  # fmt: skip


def test_methods_and_ports_that_exclude_each_other() -> None:
    for one, other in (("method: GET", "method: PUT"), ("port: 80", "port: 81")):
        root = table("root", delegate("{name: child}", f"[{{{one}}}]"), hosts="[a.com]")
        assert the_error(read(root, table("child", entry(f"[{{{other}}}]")))).code == "never-matches"


def test_a_circle_is_refused() -> None:
    root = table("root", delegate("{name: a}"), hosts="[a.com]")
    found = read(root, table("a", delegate("{name: b}")), table("b", delegate("{name: a}")))
    assert "delegation goes round in a circle: shop/root -> shop/a -> shop/b -> shop/a" in the_error(found).message
    assert found.routes[0].invalid


def test_a_fan_out_is_bounded() -> None:
    root = table("root", delegate("{name: t0}"), hosts="[a.com]")
    tables = [table(f"t{n}", "\n".join([delegate(f"{{name: t{n + 1}}}")] * 10) if n < 5 else entry()) for n in range(6)]
    found = read(root, *tables)
    assert len(found.routes) <= 10_001
    assert the_error(found).code == "too-many"


@pytest.mark.parametrize(
    ("selector", "code", "part"),
    [
        ("{name: chid}", "not-there", "refers to what is not there: RouteTable `chid` (did you mean `child`?)"),
        ("{labels: {no: body}}", "selects-nothing", "no RouteTable is selected"),
        ("{name: rooted}", "bad-reference", "RouteTable `shop/rooted` sets `hosts` and so cannot be delegated to"),
    ],
)
def test_delegation_that_leads_nowhere(selector: str, code: str, part: str) -> None:
    rooted = table("rooted", entry(), hosts="[b.com]")
    found = read(table("root", delegate(selector), hosts="[a.com]"), table("child", entry()), rooted)
    assert [one.message for one in found.diagnostics if one.code == code and part in one.message]


def test_a_child_that_nobody_delegates_to_holds_for_every_host() -> None:
    found = read(table("child", entry()))
    assert found.routes[0].hosts == ()
    assert ["without `hosts` a table is only used" in one for one in warnings(found)] == [True]


def test_a_child_may_say_that_it_has_no_senders_of_its_own() -> None:
    root = table("root", delegate("{name: child}"), hosts="[a.com]", virtualGateways="[{name: gw}]")
    assert len(read_routes(root, table("child", entry(), workloadSelectors="[]"))) == 1


def test_an_error_of_the_parent_makes_its_children_invalid() -> None:
    root = table("root", delegate("{name: child}"), hosts="[a.com]", weight="x")
    found = read(root, table("child", entry()))
    assert all(route.invalid for route in found.routes)
    assert len(found.routes) == 2


# --- what would leave routes out, or never end ---------------------------------------------------------------------


def test_tables_that_only_lead_to_each_other_are_refused_and_not_forgotten() -> None:
    there = table_text("- {delegate: {routeTables: [{name: u}]}}", "weight: 0")
    back = table_text(f"- {{delegate: {{routeTables: [{{name: t}}]}}}}\n- {{{TO_WEB}}}", "weight: 0")
    found = read(there, back.replace("name: t, namespace", "name: u, namespace"))
    assert "is delegated to only by tables that lead back to it" in errors(found)[0]
    assert found.routes
    assert all(route.invalid for route in found.routes)


def test_a_table_that_delegates_to_itself_is_refused() -> None:
    found = read(table_text("- {delegate: {routeTables: [{labels: {table: t}}]}}", "weight: 0"))
    assert any("goes round in a circle" in one for one in errors(found))
    assert found.routes[0].invalid


def test_alternatives_do_not_multiply_without_end() -> None:
    """Ten matchers on five levels are a hundred thousand alternatives."""
    levels = []
    for level in range(6):
        matchers = ", ".join(f"{{headers: [{{name: x-{level}-{number}}}]}}" for number in range(12))
        action = f"delegate: {{routeTables: [{{name: t{level + 1}}}]}}" if level < 5 else TO_WEB
        text = table_text(f"- {{matchers: [{matchers}], {action}}}", "hosts: [a.b]" if level == 0 else "weight: 0")
        levels.append(text.replace("{name: t,", f"{{name: t{level},"))
    found = read("\n---\n".join(levels))
    assert "they would give more than 1000 alternatives" in errors(found)[0]
    assert sum(len(route.matches) for route in found.routes) < 5000
    assert any(route.invalid for route in found.routes)


def test_http_that_is_no_list_leaves_a_route_that_refuses() -> None:
    text = table_text("- x").replace("  http:\n  - x", "  http: {name: x}")
    found = read(text)
    assert "expected a list, found a mapping" in errors(found)[0]
    (route,) = found.routes
    assert route.invalid
    assert route.matches == ()


def test_a_host_of_any_length_is_judged_quickly() -> None:
    begin = time.perf_counter()
    found = read(table_text(f"- {TO_WEB}", f"hosts: ['*{'a' * 100_000}!']"))
    assert time.perf_counter() - begin < 10
    assert the_error(found).code == "bad-host"
