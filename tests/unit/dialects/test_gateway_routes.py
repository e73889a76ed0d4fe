"""HTTPRoute and GRPCRoute: hosts, parents, matches, filters and destinations."""

from __future__ import annotations

import pytest

from eastgate.dialects.gateway.listeners import intersect_hosts
from eastgate.model.routes import (
    Action,
    Attachment,
    Comparison,
    Destination,
    FieldMatch,
    Match,
    ObjectName,
    Order,
    Route,
    StringMatch,
)
from tests.unit.dialects.gateway_reading import Reading, indented, reading

TO_BACKEND = "backendRefs: [{name: backend, port: 3000}]"
BACKEND = Destination("Service", "default", "backend", 3000)
ROOT = StringMatch(Comparison.SEGMENTS, "/")


def http(spec: str, kind: str = "HTTPRoute", version: str = "v1") -> str:
    head = f"apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r, labels: {{app: a}}}}\nspec:\n"
    return head + indented(spec, 2)


def route(spec: str, *more: str, kind: str = "HTTPRoute") -> Route:
    found = reading(http(spec, kind), *more)
    assert found.errors == []
    return found.route


def rule(fields: str, kind: str = "HTTPRoute") -> Route:
    return route(f"rules: [{{{fields}, {TO_BACKEND}}}]", kind=kind)


def broken(fields: str, message: str, kind: str = "HTTPRoute") -> Route:
    found = reading(http(f"rules: [{{{fields}, {TO_BACKEND}}}]", kind))
    found.error(message)
    assert any(message in one for one in found.route.invalid)
    return found.route


# --- rules ---------------------------------------------------------------------------------------------------------


def test_a_rule_is_a_route() -> None:
    found = reading(http(f"hostnames: [a.example]\nrules: [{{name: one, {TO_BACKEND}}}, {{{TO_BACKEND}}}]"))
    assert found.diagnostics == []
    one, two = found.routes
    assert (one.origin, one.index, one.section) == (ObjectName("HTTPRoute", "default", "r"), 0, "one")
    assert (two.index, two.section) == (1, "")
    assert one.order is Order.PRECEDENCE
    assert one.labels == (("app", "a"),)
    assert one.hosts == ("a.example",)
    assert one.destinations == (BACKEND,)
    assert one.action is Action.FORWARD
    assert one.matches == (Match(path=ROOT),)
    assert str(one.position) == "0.yaml:6"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_versions_of_http_route(version: str) -> None:
    assert reading(http(f"rules: [{{{TO_BACKEND}}}]", version=version)).errors == []


def test_old_versions_are_refused_and_the_route_kept() -> None:
    found = reading(http(f"rules: [{{{TO_BACKEND}}}]", version="v1alpha2"))
    found.error("accepted: gateway.networking.k8s.io/v1, gateway.networking.k8s.io/v1beta1")
    assert found.route.invalid
    assert reading(http(f"rules: [{{{TO_BACKEND}}}]", "GRPCRoute", "v1alpha2")).errors == []


def test_rule_without_backend_answers_at_the_gateway() -> None:
    assert route("rules: [{}]").action is Action.ANSWER
    assert route("hostnames: [a.example]").action is Action.ANSWER
    assert route("rules: [{backendRefs: [{name: backend, port: 3000, weight: 0}]}]").action is Action.FORWARD


def test_what_only_the_sender_does_is_silent() -> None:
    found = reading(
        http(f"rules: [{{timeouts: {{request: 1s}}, retry: {{}}, sessionPersistence: {{}}, {TO_BACKEND}}}]")
    )
    assert found.diagnostics == []


def test_rule_names_are_unique() -> None:
    found = reading(http(f"rules: [{{name: a, {TO_BACKEND}}}, {{name: a, {TO_BACKEND}}}]"))
    found.error("Rule name must be unique within the route")
    assert all(one.invalid for one in found.routes)


def test_only_the_broken_rule_is_invalid() -> None:
    found = reading(http(f"rules: [{{{TO_BACKEND}}}, {{matches: [{{path: {{value: a}}}}], {TO_BACKEND}}}]"))
    good, bad = found.routes
    assert good.invalid == ()
    assert bad.invalid
    assert bad.matches[0].path is None
    assert bad.destinations == (BACKEND,)


def test_unknown_fields_are_named() -> None:
    broken("match: []", "unknown field `match` (did you mean `matches`?)")
    found = reading(http(f"hostname: a\nrules: [{{{TO_BACKEND}}}]"))
    found.error("unknown field `hostname` (did you mean `hostnames`?)")
    assert found.route.invalid


# --- matches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("{value: /foo}", StringMatch(Comparison.SEGMENTS, "/foo")),
        ("{type: PathPrefix, value: /foo/}", StringMatch(Comparison.SEGMENTS, "/foo")),
        ("{type: PathPrefix}", ROOT),
        ("{type: Exact, value: /foo/}", StringMatch(Comparison.EXACT, "/foo/")),
        ("{type: RegularExpression, value: '/f.*'}", StringMatch(Comparison.REGEX, "/f.*")),
    ],
)
def test_paths(path: str, match: StringMatch) -> None:
    assert rule(f"matches: [{{path: {path}}}]").matches == (Match(path=match),)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{value: foo}", "value must be an absolute path and start with '/'"),
        ("{value: /a//b}", "must not contain '//'"),
        ("{value: /a/../b}", "must not contain '/../'"),
        ("{value: /a%2fb}", "must not contain '%2f'"),
        ("{value: '/a#b'}", "must not contain '#'"),
        ("{value: /a/..}", "must not end with '/..'"),
        ("{value: '/a?b'}", "must only contain valid characters"),
        ("{type: Prefix, value: /a}", "unknown value `Prefix` (did you mean `PathPrefix`?)"),
        ("{type: RegularExpression, value: '('}", "is not a regular expression that RE2 accepts"),
        ("{value: 5}", "expected a string"),
    ],
)
def test_bad_paths_match_every_path(path: str, message: str) -> None:
    assert broken(f"matches: [{{path: {path}}}]", message).matches[0].path is None


def test_headers_query_and_method() -> None:
    (match,) = rule(
        "matches: [{headers: [{name: X-A, value: '1'}, {type: RegularExpression, name: b, value: '.+'}], "
        "queryParams: [{name: Q, value: '2'}], method: POST}]"
    ).matches
    assert match == Match(
        path=ROOT,
        method="POST",
        headers=(
            FieldMatch("x-a", StringMatch(Comparison.EXACT, "1")),
            FieldMatch("b", StringMatch(Comparison.REGEX, ".+")),
        ),
        query=(FieldMatch("Q", StringMatch(Comparison.EXACT, "2")),),
    )


def test_bad_fields() -> None:
    broken("matches: [{headers: [{name: 'a b', value: x}]}]", "`a b` is not a header name")
    broken("matches: [{headers: [{name: a}]}]", "`value` is required")
    broken("matches: [{method: get}]", "unknown value `get` (did you mean `GET`?)")
    broken("matches: [{queryParams: [{name: a, type: Present, value: x}]}]", "unknown value `Present`")


def test_only_the_first_of_equal_header_names_counts() -> None:
    found = reading(
        http(f"rules: [{{matches: [{{headers: [{{name: A, value: x}}, {{name: a, value: z}}]}}], {TO_BACKEND}}}]")
    )
    assert found.errors == []
    found.warning("`a` is already matched by an entry before it")
    assert len(found.route.matches[0].headers) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("{service: yages.Echo, method: Ping}", StringMatch(Comparison.EXACT, "/yages.Echo/Ping")),
        ("{service: yages.Echo}", StringMatch(Comparison.SEGMENTS, "/yages.Echo")),
        ("{method: Ping}", StringMatch(Comparison.REGEX, "/[^/]+/Ping")),
        ("{type: RegularExpression, service: 'y|z', method: P.*}", StringMatch(Comparison.REGEX, "/(?:y|z)/(?:P.*)")),
        ("{type: RegularExpression, method: P.*}", StringMatch(Comparison.REGEX, "/(?:[^/]+)/(?:P.*)")),
    ],
)
def test_grpc_methods(method: str, path: StringMatch) -> None:
    found = rule(f"matches: [{{method: {method}}}]", "GRPCRoute")
    assert found.grpc
    assert found.matches == (Match(path=path),)


def test_grpc_defaults_and_errors() -> None:
    assert rule("name: a", "GRPCRoute").matches == (Match(path=ROOT),)
    assert rule("matches: [{headers: [{name: a, value: b}]}]", "GRPCRoute").matches[0].path == ROOT
    broken("matches: [{method: {}}]", "One or both of 'service' or 'method' must be specified", "GRPCRoute")
    broken("matches: [{method: {service: a/b}}]", "`a/b` is not a gRPC service", "GRPCRoute")
    broken("matches: [{path: {value: /a}}]", "unknown field `path`", "GRPCRoute")


# --- filters -------------------------------------------------------------------------------------------------------


def filtered(filter_: str, matches: str = "[{path: {value: /foo}}]") -> Route:
    return rule(f"matches: {matches}, filters: [{filter_}]")


def test_rewritten_host() -> None:
    found = route(
        "hostnames: [a.example]\nrules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: In.Side}}], "
        f"{TO_BACKEND}}}]"
    )
    assert found.hosts == ("a.example",)
    assert found.rewritten_hosts == ("in.side",)
    assert filtered("{type: URLRewrite, urlRewrite: {hostname: in.side}}").hosts == ()


@pytest.mark.parametrize(
    ("path", "rewritten"),
    [
        ("{type: ReplaceFullPath, replaceFullPath: /new}", StringMatch(Comparison.EXACT, "/new")),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: /new}", StringMatch(Comparison.SEGMENTS, "/new")),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: /new/}", StringMatch(Comparison.SEGMENTS, "/new")),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: /}", ROOT),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: ''}", ROOT),
    ],
)
def test_rewritten_path(path: str, rewritten: StringMatch) -> None:
    found = filtered(f"{{type: URLRewrite, urlRewrite: {{path: {path}}}}}", "[{path: {value: /foo}, method: GET}]")
    assert found.matches == (Match(path=StringMatch(Comparison.SEGMENTS, "/foo"), method="GET"),)
    assert found.rewritten == (Match(path=rewritten, method="GET"),)


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ("{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefix}}}", "unknown value `ReplacePrefix`"),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}",
            "replaceFullPath must be specified when type",
        ),
        (
            "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /a}}}",
            "type must be 'ReplacePrefixMatch' when",
        ),
        ("{type: URLRewrite, urlRewrite: {path: {}}}", "`type` is required"),
        ("{type: URLRewrite}", "filter.urlRewrite must be specified for URLRewrite filter.type"),
        ("{type: UrlRewrite, urlRewrite: {}}", "unknown value `UrlRewrite` (did you mean `URLRewrite`?)"),
        ("{type: CORS, cors: {}, urlRewrite: {}}", "unknown field `urlRewrite`"),
        ("{type: ExternalAuth, externalAuth: {protocol: HTTP}}", "external authorization is not enforced here"),
        ("{urlRewrite: {}}", "`type` is required"),
    ],
)
def test_bad_filters(filter_: str, message: str) -> None:
    broken(f"filters: [{filter_}]", message)


def test_prefix_rewrite_needs_a_prefix() -> None:
    rewrite = "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}]"
    broken(
        f"matches: [{{path: {{type: Exact, value: /foo}}}}], {rewrite}",
        "exactly one PathPrefix match must be specified",
    )


def test_redirect_answers() -> None:
    assert filtered("{type: RequestRedirect, requestRedirect: {statusCode: 301}}").action is Action.ANSWER


def test_changed_headers_that_are_matched_on_are_said() -> None:
    modifier = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [x-b]}}"
    found = reading(
        http(f"rules: [{{matches: [{{headers: [{{name: x-a, value: a}}]}}], filters: [{modifier}], {TO_BACKEND}}}]")
    )
    assert found.errors == []
    found.warning("a filter changes `x-a`, which the rule matches on")
    assert reading(http(f"rules: [{{filters: [{modifier}], {TO_BACKEND}}}]")).diagnostics == []


def test_filters_without_effect_here() -> None:
    assert (
        reading(
            http(
                f"rules: [{{filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{}}}}], {TO_BACKEND}}}]"
            )
        ).diagnostics
        == []
    )
    for kind, field in (("RequestMirror", "requestMirror"), ("CORS", "cors")):
        found = reading(http(f"rules: [{{filters: [{{type: {kind}, {field}: {{a: 1}}}}], {TO_BACKEND}}}]"))
        assert found.errors == []
        assert len(found.warnings) == 1


def test_filters_of_one_backend_are_said() -> None:
    rewrite = "filters: [{type: URLRewrite, urlRewrite: {hostname: in.side}}]"
    found = reading(http(f"rules: [{{backendRefs: [{{name: backend, port: 3000, {rewrite}}}]}}]"))
    assert found.errors == []
    found.warning("filters of one backend are not computed here")


EXTENSION = "{type: ExtensionRef, extensionRef: {group: gateway.envoyproxy.io, kind: HTTPRouteFilter, name: f}}"


def extension(spec: str) -> Reading:
    filter_ = (
        f"apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {{name: f}}\nspec: {spec}\n"
    )
    return reading(http(f"rules: [{{filters: [{EXTENSION}], {TO_BACKEND}}}]"), filter_)


def test_envoy_gateways_own_filter() -> None:
    assert extension("{directResponse: {statusCode: 200}}").route.action is Action.ANSWER
    assert extension("{urlRewrite: {hostname: {type: Backend}}}").diagnostics == []
    extension("{urlRewrite: {hostname: {type: Header, header: x}}}").warning("changes the Host")
    extension("{urlRewrite: {path: {type: ReplaceRegexMatch}}}").warning("changes the path")
    extension("{matches: [{cookies: [{name: a, value: b}]}]}").warning("narrows the rule by cookies")
    extension("{credentialInjection: {credential: {}}}").warning("sets `Authorization`")
    found = reading(http(f"rules: [{{filters: [{EXTENSION}], {TO_BACKEND}}}]"))
    found.warning("what HTTPRouteFilter `default/f` does is not known here")


# --- destinations --------------------------------------------------------------------------------------------------


def destinations(reference: str, *more: str) -> tuple[Destination, ...]:
    return route(f"rules: [{{backendRefs: [{reference}]}}]", *more).destinations


def test_destinations() -> None:
    assert destinations("{name: a, port: 80}, {group: '', kind: Service, name: b, port: 81, weight: 3}") == (
        Destination("Service", "default", "a", 80),
        Destination("Service", "default", "b", 81),
    )
    assert destinations("{group: gateway.envoyproxy.io, kind: Backend, name: a}") == (
        Destination("Backend", "default", "a"),
    )
    reading(http("rules: [{backendRefs: [{name: a}]}]")).error("Must have port for Service reference")


def test_destinations_in_other_namespaces_need_a_grant() -> None:
    reference = "{name: a, namespace: other, port: 80}"
    found = reading(http(f"rules: [{{backendRefs: [{reference}]}}]"))
    found.error("Service `other/a` is in another namespace and no ReferenceGrant there permits it")
    assert (found.route.destinations, found.route.action) == ((), Action.ANSWER)
    grant = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec:\n"
        "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]\n  to: [{group: '', kind: Service}]\n"
    )
    assert destinations(reference, grant) == (Destination("Service", "other", "a", 80),)


def test_doubtful_destinations_are_said() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: backend}\nspec: {ports: [{port: 80}]}\n"
    found = reading(http(f"rules: [{{{TO_BACKEND}}}]"), service)
    found.warning("Service default/backend has no port `3000`; its ports: `80`")
    reading(http("rules: [{backendRefs: [{name: backnd, port: 80}]}]"), service).warning("(did you mean `backend`?)")
    assert reading(http(f"rules: [{{{TO_BACKEND}}}]")).diagnostics == []


# --- parents and hosts ---------------------------------------------------------------------------------------------

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  listeners:
  - {name: a, protocol: HTTP, port: 80, hostname: '*.a.example'}
  - {name: b, protocol: HTTPS, port: 443, hostname: b.example}
  - {name: tcp, protocol: TCP, port: 9}
"""
EG = ObjectName("Gateway", "default", "eg")


def attached(parents: str, hosts: str = "", *more: str) -> Route:
    return route(f"parentRefs: {parents}\nhostnames: [{hosts}]\nrules: [{{{TO_BACKEND}}}]", *more)


@pytest.mark.parametrize(
    ("parents", "hosts", "sections", "left"),
    [
        ("[{name: eg}]", "", ["a", "b"], ("*.a.example", "b.example")),
        ("[{name: eg}]", "x.a.example, other.example", ["a"], ("x.a.example",)),
        ("[{name: eg}]", "'*.example'", ["a", "b"], ("*.a.example", "b.example")),
        ("[{name: eg, sectionName: b}]", "'*.example'", ["b"], ("b.example",)),
        ("[{name: eg, port: 80}]", "", ["a"], ("*.a.example",)),
    ],
)
def test_listeners_limit_hosts(parents: str, hosts: str, sections: list[str], left: tuple[str, ...]) -> None:
    found = attached(parents, hosts, GATEWAY)
    assert found.attachments == tuple(Attachment(EG, section) for section in sections)
    assert found.hosts == left


def test_listener_that_is_not_there() -> None:
    found = reading(http(f"parentRefs: [{{name: eg, sectionName: bb}}]\nrules: [{{{TO_BACKEND}}}]"), GATEWAY)
    found.error("Gateway default/eg has no such listener (did you mean `b`?)")
    assert found.route.invalid


def test_hosts_that_nobody_listens_for_are_said_and_kept() -> None:
    found = reading(http(f"parentRefs: [{{name: eg}}]\nhostnames: [c.example]\nrules: [{{{TO_BACKEND}}}]"), GATEWAY)
    assert found.errors == []
    found.warning("none of the route's hostnames is one that Gateway default/eg listens for")
    assert found.route.hosts == ("c.example",)


def test_gateway_that_was_not_read() -> None:
    found = reading(http(f"parentRefs: [{{name: gg}}]\nhostnames: [c.example]\nrules: [{{{TO_BACKEND}}}]"), GATEWAY)
    found.warning("Gateway `default/gg` was not read")
    assert found.route.hosts == ("c.example",)
    assert found.route.attachments == (Attachment(ObjectName("Gateway", "default", "gg")),)


def test_mesh_parents_bring_the_services_names() -> None:
    parents = "[{group: '', kind: Service, name: httpbin, port: 8000}]"
    found = attached(parents, "ignored.example")
    assert found.hosts == ("httpbin", "httpbin.default", "httpbin.default.svc", "httpbin.default.svc.cluster.local")
    assert found.attachments == (Attachment(ObjectName("Service", "default", "httpbin")),)


def test_hostnames_that_a_mesh_ignores_are_said() -> None:
    text = f"parentRefs: [{{group: '', kind: Service, name: a}}]\nhostnames: [a.example]\nrules: [{{{TO_BACKEND}}}]"
    reading(http(text)).warning("no effect for the parent Service default/a")


def test_listener_sets_belong_to_their_gateway() -> None:
    listener_set = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: ls}\nspec:\n"
        "  parentRef: {name: eg}\n  listeners: [{name: own, protocol: HTTP, port: 80, hostname: ls.example}]\n"
    )
    found = attached("[{kind: ListenerSet, name: ls}]", "", listener_set, GATEWAY)
    assert found.hosts == ("ls.example",)
    assert found.attachments == (Attachment(EG, ""), Attachment(ObjectName("ListenerSet", "default", "ls"), "own"))


@pytest.mark.parametrize("host", ["a.example:80", "A.example", "10.0.0.1", "*", "a.*.example", "-a.example", "''", "5"])
def test_bad_hostnames_could_have_been_any(host: str) -> None:
    found = reading(
        http(f"hostnames: [good.example, {host if host != '*' else repr(host)}]\nrules: [{{{TO_BACKEND}}}]")
    )
    found.error("is not a host name")
    assert found.route.invalid
    assert found.route.hosts == ("good.example", "*")


@pytest.mark.parametrize(
    ("own", "listener", "shared"),
    [
        ((), "", ()),
        ((), "a", ("a",)),
        (("a", "b"), "", ("a", "b")),
        (("a",), "b", None),
        (("*.x",), "a.x", ("a.x",)),
        (("a.x",), "*.x", ("a.x",)),
        (("*.b.x",), "*.x", ("*.b.x",)),
        (("*.x",), "*.x", ("*.x",)),
        (("x",), "*.x", None),
        (("ax",), "*.x", None),
    ],
)
def test_intersection_of_hosts(own: tuple[str, ...], listener: str, shared: tuple[str, ...] | None) -> None:
    assert intersect_hosts(own, listener) == shared


# --- what leads nowhere --------------------------------------------------------------------------------------------


def test_a_rule_that_answers_is_bound_where_the_other_rules_lead() -> None:
    """Else a request for it, sent to the pod itself, would be taken for another rule's."""
    found = reading(
        """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
  - matches: [{path: {value: /admin}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]
  - backendRefs: [{name: web, port: 80}]
"""
    )
    assert found.diagnostics == []
    redirect, web = found.routes
    assert redirect.action is Action.ANSWER
    assert redirect.destinations == web.destinations == (Destination("Service", "default", "web", 80),)


def test_a_rule_without_backends_is_said() -> None:
    found = reading(
        """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {rules: [{matches: [{path: {value: /a}}]}]}
"""
    )
    assert found.warning("leads nowhere: without `backendRefs` a gateway answers 500")
    assert found.route.action is Action.ANSWER
