"""Whatever is in the YAML, reading does not raise, and what was found wrong leaves nothing open."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from eastgate.model.diagnostics import Severity
from tests.examples import examples
from tests.unit.dialects.gateway_reading import Reading, reading
from tests.unit.dialects.test_gateway_backends import BACKEND, SERVICE

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"

RICH = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: rich}
spec:
  targetSelectors: [{kind: HTTPRoute, matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}]
  jwt:
    optional: true
    providers:
    - name: local
      audiences: [a]
      localJWKS: {type: ValueRef, valueRef: {group: '', kind: ConfigMap, name: c}}
      claimToHeaders: [{header: x-user, claim: user.name}]
      extractFrom: {headers: [{name: x, valuePrefix: p}], cookies: [c], params: [q]}
    - name: remote
      remoteJWKS:
        uri: https://a/b
        cacheDuration: 1m
        backendRefs: [{name: keys, port: 443}, {group: gateway.envoyproxy.io, kind: Backend, name: keys}]
        backendSettings: {retry: {numRetries: 1}, timeout: {http: {requestTimeout: 1s}}}
  authorization:
    rules:
    - action: Allow
      operation: {methods: [GET], path: {value: /a, invert: true}}
      principal: {clientCIDRs: [10.0.0.0/8], headers: [{name: a, values: [b]}], jwt: {provider: local, scopes: [s]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, labels: {a: b}}
spec:
  parentRefs: [{name: eg, sectionName: http}, {group: '', kind: Service, name: keys}]
  hostnames: [a.example]
  rules:
  - name: one
    matches: [{path: {value: /a}, headers: [{name: h, value: v}], queryParams: [{name: q, value: v}], method: GET}]
    filters:
    - {type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}}
    backendRefs: [{name: keys, port: 443, namespace: default}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: g}
spec:
  parentRefs: [{name: eg}]
  rules: [{matches: [{method: {service: s, method: m}}], backendRefs: [{name: keys, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec: {listeners: [{name: http, protocol: HTTP, port: 80, hostname: '*.example'}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {jwks: '{"keys": []}'}
"""

DOCUMENTS: list[Any] = [
    document
    for text in (
        RICH,
        SERVICE,
        BACKEND,
        *(file.read_text() for file in sorted((EXAMPLES / "jwt-authentication" / "self-signed").rglob("*.yaml"))),
    )
    for document in yaml.safe_load_all(text)
]

JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        70000,
        1.5,
        "",
        "x",
        "*",
        "/",
        "http://[",
        "é",
        "a\x00b",
        "y" * 2000,
        [],
        [None],
        ["x"],
        [[]],
        {},
        {"x": {}},
        {"name": 1},
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


ALL_PLACES = [place for place in places(DOCUMENTS) if len(place) >= 2]


def replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> list[Any]:
    documents = copy.deepcopy(DOCUMENTS)
    for path, value in changes:
        here: Any = documents
        try:
            for key in path[:-1]:
                here = here[key]
            here[path[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue
    return documents


def read_all(documents: list[Any]) -> Reading:
    return reading(*[yaml.safe_dump(document) for document in documents])


def test_the_unchanged_documents_are_without_error() -> None:
    assert read_all(DOCUMENTS).errors == []


@examples(100)
@given(st.lists(st.tuples(st.sampled_from(ALL_PLACES), JUNK), min_size=1, max_size=3))
def test_any_value_anywhere_never_raises_and_never_opens(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    found = read_all(replaced(changes))
    subjects = {
        one.subject for one in found.diagnostics if one.severity is Severity.ERROR and one.field.startswith("spec")
    }
    for policy in found.policies:
        assert policy.invalid or str(policy.name) not in subjects
        # A broken policy is still meant for something, unless it selects by labels that nobody has.
        nobody = any(str(policy.name) in one and "selects nothing" in one for one in found.warnings)
        assert policy.targets or policy.everything or not policy.invalid or nobody
    for route in found.routes:
        if str(route.origin) in subjects:
            assert any(one.invalid for one in found.routes if one.origin == route.origin)
