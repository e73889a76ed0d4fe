"""Whatever is converted decides the same: sets of policies and routes that compete in every way, and requests."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from eastgate.compile.plan import compile_plan
from eastgate.conversions.conversion import convert
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import has_errors
from eastgate.model.workloads import Workload
from tests.test_convert_cases import Asked, answer, errors_of, write_result
from tests.test_corpus import SuppliedKeys
from tests.tokens import key_set, mint

ISSUERS = ("https://a.example", "https://b.example")
TOKENS = [None, "nonsense", *(mint({"iss": issuer, "org": "x", "groups": ["x", "y"]}) for issuer in ISSUERS)]
PATHS = ("/", "/a", "/a/b", "/ab", "/a;x/b", "/c", "/A")
HOSTS = ("one.example", "two.example", "web", "web.shop.svc", "other.example")
METHODS = ("GET", "POST")
KEYS = key_set("main")

hostnames = st.sampled_from([[], ["one.example"], ["one.example", "two.example"], ["*.example"]])
claims = st.sampled_from(
    [
        [{"name": "org", "values": ["x"]}],
        [{"name": "org", "values": ["*"]}],
        [{"name": "groups", "valueType": "StringArray", "values": ["y", "z"]}],
    ]
)


def optional(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), values.map(lambda value: {key: value}))


def join(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


gateway_paths = st.builds(
    lambda kind, value: {"type": kind, "value": value},
    st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
    st.sampled_from(["/", "/a", "/a/b", "/c"]),
)
headers = st.sampled_from([[{"name": "x", "value": "1"}], [{"name": "x", "type": "RegularExpression", "value": ".+"}]])
gateway_match = join(
    optional("path", gateway_paths), optional("method", st.sampled_from(METHODS)), optional("headers", headers)
)
rewrites = st.sampled_from(
    [
        {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/c"}},
        {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/c"}},
        {"hostname": "two.example"},
    ]
)
filters = st.one_of(
    rewrites.map(lambda rewrite: [{"type": "URLRewrite", "urlRewrite": rewrite}]),
    st.just([{"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.example"}}]),
)


@st.composite
def gateway_routes(draw: st.DrawFn, name: str) -> dict[str, Any]:
    rules = draw(
        st.lists(
            join(optional("matches", st.lists(gateway_match, min_size=1, max_size=2)), optional("filters", filters)),
            min_size=1,
            max_size=3,
        )
    )
    for index, rule in enumerate(rules):
        rule["name"] = f"r{index}"
        kinds = {match.get("path", {}).get("type", "PathPrefix") for match in rule.get("matches", ())}
        if kinds - {"PathPrefix"} and "replacePrefixMatch" in str(rule.get("filters")):
            del rule["filters"]  # the Gateway API knows no such thing
        if "RequestRedirect" not in str(rule.get("filters")):
            rule["backendRefs"] = [{"name": draw(st.sampled_from(["web", "web", "api"])), "port": 80}]
    metadata = {"name": name, "namespace": "shop", "labels": {"route": name}}
    metadata |= draw(st.sampled_from([{}, {}, {"creationTimestamp": "2025-01-01T00:00:00Z"}]))
    spec = {"hostnames": draw(hostnames), "parentRefs": [{"name": "eg"}], "rules": rules}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec}


@st.composite
def security_policies(draw: st.DrawFn, name: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    target = draw(st.sampled_from(routes))
    reference = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": target["metadata"]["name"]}
    if draw(st.booleans()):
        reference["sectionName"] = draw(st.sampled_from(target["spec"]["rules"]))["name"]
    elif draw(st.integers(0, 3)) == 0:
        reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg"}
    issuers = draw(st.lists(st.sampled_from(ISSUERS), min_size=1, max_size=2, unique=True))
    providers = [
        {"name": f"p{index}", "issuer": issuer, "localJWKS": {"inline": KEYS}} for index, issuer in enumerate(issuers)
    ]
    for provider in providers:
        if draw(st.booleans()):
            provider["claimToHeaders"] = [{"claim": "org", "header": "x-org"}]  # type: ignore[assignment]
        if draw(st.integers(0, 2)) == 0:
            provider["extractFrom"] = {"params": ["token"]}  # type: ignore[assignment]
    jwt: dict[str, Any] = {"providers": providers, **draw(optional("optional", st.booleans()))}
    spec: dict[str, Any] = {"targetRefs": [reference], "jwt": jwt}
    if draw(st.booleans()):
        token = claims.map(lambda found: {"jwt": {"provider": "p0", "claims": found}})
        values = st.sampled_from([{"headers": [{"name": "x", "values": some}]} for some in (["1"], ["1", "2"])])
        principal = st.one_of(token, values, join(token, values))
        rules = st.lists(
            join(
                st.sampled_from(["Allow", "Deny"]).map(lambda action: {"action": action}),
                principal.map(lambda found: {"principal": found}),
                optional("operation", gateway_paths.map(lambda path: {"path": path})),
            ),
            max_size=2,
        )
        spec["authorization"] = {"defaultAction": draw(st.sampled_from(["Allow", "Deny"])), "rules": draw(rules)}
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": metadata,
        "spec": spec,
    }


gloo_match = join(
    optional("uri", st.sampled_from([{"prefix": "/a"}, {"exact": "/a"}, {"prefix": "/"}, {"regex": "/[ac].*"}])),
    optional("method", st.sampled_from(METHODS)),
)


@st.composite
def gloo_tables(draw: st.DrawFn, name: str) -> dict[str, Any]:
    entries = draw(
        st.lists(
            join(
                optional("labels", st.sampled_from([{"tier": "gold"}, {"tier": "free"}])),
                optional("matchers", st.lists(gloo_match, min_size=1, max_size=2)),
            ),
            min_size=1,
            max_size=3,
        )
    )
    for entry in entries:
        forward = {"destinations": [{"ref": {"name": "web"}, "port": {"number": 80}}]}
        entry["forwardTo"] = forward | draw(optional("pathRewrite", st.just("/c")))
    spec = {"hosts": draw(hostnames) or ["one.example"], "http": entries}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "networking.gloo.solo.io/v2", "kind": "RouteTable", "metadata": metadata, "spec": spec}


@st.composite
def gloo_policies(draw: st.DrawFn, name: str) -> dict[str, Any]:
    selector = draw(
        st.sampled_from([{}, {"route": {"labels": {"tier": "gold"}}}, {"route": {"labels": {"tier": "free"}}}])
    )
    provider = {"issuer": draw(st.sampled_from(ISSUERS)), "local": {"inline": KEYS}}
    config: dict[str, Any] = {"providers": {"g": provider}, **draw(optional("allowMissingOrFailed", st.booleans()))}
    config |= draw(optional("claims", st.just([{"key": "org", "values": ["x*"]}])))
    spec = {"applyToRoutes": [selector], "config": config}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "security.policy.gloo.solo.io/v2", "kind": "JWTPolicy", "metadata": metadata, "spec": spec}


@st.composite
def sets(draw: st.DrawFn) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    kind = draw(st.sampled_from(["gateway", "gateway", "gateway", "gloo", "both"]))
    if kind != "gloo":
        routes = [draw(gateway_routes(f"h{index}")) for index in range(draw(st.integers(1, 3)))]
        objects += routes
        objects += [draw(security_policies(f"s{index}", routes)) for index in range(draw(st.integers(0, 3)))]
    if kind != "gateway":
        objects += [draw(gloo_tables(f"t{index}")) for index in range(draw(st.integers(1, 2)))]
        objects += [draw(gloo_policies(f"j{index}")) for index in range(draw(st.integers(1, 2)))]
    return draw(st.permutations(objects))


def every_request() -> list[Asked]:
    requests = []
    for index in range(len(PATHS) * len(HOSTS) * len(METHODS)):
        method, rest = METHODS[index % 2], index // 2
        path, host = PATHS[rest % len(PATHS)], HOSTS[rest // len(PATHS)]
        # Each path meets each token under some host; all of all would be four times as slow and find no more.
        for token in (TOKENS[index % 4], TOKENS[(index // 3 + 1) % 4]):
            given = ((b"authorization", f"Bearer {token}".encode()),) if token else ()
            extra = ((b"x", b"1"),) if index % 3 == 0 else ()
            query = f"?token={TOKENS[2]}" if index % 5 == 0 else ""
            requests.append(Asked(method, path + query, host, (*given, *extra)))
    return requests


REQUESTS = every_request()
WORKLOADS = (Workload(), Workload(namespace="shop", services=(("shop", "web", None),)))


@settings(max_examples=40, deadline=None)
@given(sets())
def test_what_is_converted_decides_the_same(objects: list[dict[str, Any]]) -> None:
    sources = [("policies.yaml", yaml.safe_dump_all(objects))]
    if has_errors(read_policy_set(sources).diagnostics):
        event("was wrong before")
        return
    conversion = convert(sources)
    if errors := errors_of(conversion):
        assert conversion.drafts == ()
        assert all(": error: " in one for one in errors)
        event(f"refused: {errors[0].partition(': error: ')[2].partition(': ')[2][:40]}")
        return
    event("converted")
    texts = write_result(conversion)
    for workload in WORKLOADS:
        before = compile_plan(read_policy_set(sources), workload)
        after = compile_plan(read_policy_set(texts), workload)
        ring = SuppliedKeys({})
        for asked in REQUESTS:
            was, now = answer(before, asked, ring), answer(after, asked, ring)
            assert was == now, asked
