"""``docs/reference/fields.md``, row by row: each example is put into an object of its kind, and ``lint`` must say of it
what the row says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import Diagnostic, Severity
from tests.tokens import key_set

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "fields.md"

_ROW = re.compile(r"\| `(spec[^`]*)` \| `([^`]*)` \| (honoured|noted|refused|no bearing) \|")
_HEADING = re.compile(r"## (?:Gloo|Envoy Gateway|Gateway API) (\w+)")

_GATEWAY_TARGET: dict[str, Any] = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
_POLICY: dict[str, Any] = {
    "apiVersion": "security.policy.gloo.solo.io/v2",
    "kind": "JWTPolicy",
    "spec": {"applyToRoutes": [{}], "config": {"providers": {"dev": {"local": {"inline": key_set("main")}}}}},
}
_TABLE: dict[str, Any] = {
    "apiVersion": "networking.gloo.solo.io/v2",
    "kind": "RouteTable",
    "spec": {"hosts": ["a.example"], "http": [{"forwardTo": {"destinations": [{"ref": {"name": "web"}}]}}]},
}
_SECURITY: dict[str, Any] = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "SecurityPolicy",
    "spec": {
        "targetRefs": [_GATEWAY_TARGET],
        "jwt": {"providers": [{"name": "example", "localJWKS": {"inline": key_set("main")}}]},
    },
}
_ROUTE: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
}
_BACKEND: dict[str, Any] = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "Backend",
    "spec": {"endpoints": [{"fqdn": {"hostname": "keys.example", "port": 443}}]},
}
_TRUST: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "BackendTLSPolicy",
    "spec": {
        "targetRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "keys"}],
        "validation": {"hostname": "keys.example", "wellKnownCACertificates": "System"},
    },
}
_EXTERNAL: dict[str, Any] = {
    "apiVersion": "networking.gloo.solo.io/v2",
    "kind": "ExternalService",
    "spec": {"hosts": ["idp.example"], "ports": [{"number": 443}]},
}
BASES: dict[str, dict[str, Any]] = {
    one["kind"]: one for one in (_POLICY, _TABLE, _EXTERNAL, _SECURITY, _BACKEND, _TRUST, _ROUTE)
} | {"GRPCRoute": _ROUTE | {"kind": "GRPCRoute"}}

NAMES = {"Backend": "keys", "BackendTLSPolicy": "trust", "ExternalService": "idp", "HTTPRoute": "r"}

_AUTHORITY = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BESIDE: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"public.pem": "x"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jwks"}, "data": {"jwks": key_set("main")}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": _AUTHORITY}},
    {
        "apiVersion": "networking.gloo.solo.io/v2",
        "kind": "ExternalEndpoint",
        "metadata": {"name": "idp", "labels": {"app": "idp"}},
        "spec": {"address": "192.0.2.7"},
    },
    _ROUTE | {"metadata": {"name": "r", "labels": {"app": "r"}}, "spec": {"rules": [{"name": "read"}]}},
    _BACKEND | {"metadata": {"name": "keys"}},
    _TABLE
    | {
        "metadata": {"name": "child", "labels": {"team": "a"}},
        "spec": {"http": [{"forwardTo": {"destinations": [{"ref": {"name": "web"}}]}}]},
    },
]

FETCHERS: dict[str, dict[str, Any]] = {
    "ExternalService": _POLICY
    | {
        "metadata": {"name": "user"},
        "spec": {
            "applyToRoutes": [{}],
            "config": {
                "providers": {
                    "dev": {
                        "remote": {
                            "url": "https://idp.example/certs",
                            "destinationRef": {"kind": "EXTERNAL_SERVICE", "ref": {"name": "idp"}},
                        }
                    }
                }
            },
        },
    }
}
"""Who makes a kind be read that nobody asks for otherwise."""
_REMOTE: dict[str, Any] = {
    "uri": "https://keys.example/jwks",
    "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "keys"}],
}
FETCHERS["Backend"] = FETCHERS["BackendTLSPolicy"] = _SECURITY | {
    "metadata": {"name": "user"},
    "spec": {"targetRefs": [_GATEWAY_TARGET], "jwt": {"providers": [{"name": "a", "remoteJWKS": _REMOTE}]}},
}

BESIDES: dict[str, dict[str, Any]] = {
    # What has to be there, or must not be, for an example to stand by itself.
    "remote.": {"remote.url": "https://idp.example/certs"},
    ".local.secretRef.objectRef": {"local.secretRef.key": "public.pem"},
    ".remote.destinationRef.subset": {"remote.destinationRef.ref": {"name": "idp"}},
    ".remote.destinationRef.awsLambda": {"remote.destinationRef.ref": {"name": "idp"}},
    ".claimsToHeaders[].claim": {"claimsToHeaders[].header": "x-a"},
    ".claimsToHeaders[].header": {"claimsToHeaders[].claim": "a"},
    ".claimsToHeaders[].append": {"claimsToHeaders[].header": "x-a", "claimsToHeaders[].claim": "a"},
    ".tokenSource.headers[].prefix": {"tokenSource.headers[].name": "x-a"},
    "claims[].key": {"claims[].values": ["a"]},
    "claims[].values": {"claims[].key": "a"},
    "claims[].notValues": {"claims[].key": "a"},
    "claims[].nestedClaimDelimiter": {"claims[].key": "a.b", "claims[].values": ["a"]},
    "headers[].value": {"headers[].name": "x-a"},
    "headers[].regex": {"headers[].name": "x-a", "headers[].value": "a.*"},
    "headers[].invertMatch": {"headers[].name": "x-a"},
    "queryParameters[].value": {"queryParameters[].name": "a"},
    "queryParameters[].regex": {"queryParameters[].name": "a", "queryParameters[].value": "a.*"},
    "uri.ignoreCase": {"uri.exact": "/a"},
    ".delegate.": {"delegate.routeTables": [{"name": "child"}]},
    "providers[].recomputeRoute": {"providers[].claimToHeaders": [{"claim": "a", "header": "x-a"}]},
    "backendSettings.": {"remoteJWKS.uri": "https://a/jwks"},
    "remoteJWKS.cacheDuration": {"remoteJWKS.uri": "https://a/jwks"},
    "remoteJWKS.failedRefetchDuration": {"remoteJWKS.uri": "https://a/jwks"},
    "remoteJWKS.backendRef": {"remoteJWKS.uri": "https://keys.example/jwks"},
    "localJWKS.valueRef": {"localJWKS.type": "ValueRef"},
    "rules[].cel": {"rules[].action": "Allow"},
    "authorization.rules[].name": {
        "rules[].action": "Allow",
        "rules[].principal": {"headers": [{"name": "a", "values": ["b"]}]},
    },
    "authorization.rules[].action": {"rules[].principal": {"headers": [{"name": "a", "values": ["b"]}]}},
    "operation.": {"rules[].action": "Allow", "rules[].principal": {"headers": [{"name": "a", "values": ["b"]}]}},
    "principal.": {"rules[].action": "Allow"},
    "principal.jwt.provider": {"rules[].principal.jwt.scopes": ["a"]},
    "principal.jwt.scopes": {"rules[].principal.jwt.provider": "example"},
    "principal.jwt.claims": {"rules[].principal.jwt.provider": "example"},
    "filters[].requestMirror": {"filters[].type": "RequestMirror"},
    "filters[].cors": {"filters[].type": "CORS"},
    "filters[].externalAuth": {"filters[].type": "ExternalAuth"},
    "filters": {"rules[].matches": [{"path": {"type": "PathPrefix", "value": "/a"}}]},
}

REPLACES = {
    ".remote": "local",
    ".local.secretRef": "local",
    ".remoteJWKS": "localJWKS",
    ".localJWKS.valueRef": "localJWKS",
    "spec.http[].redirect": "forwardTo",
    "spec.http[].directResponse": "forwardTo",
    "spec.http[].delegate": "forwardTo",
    "spec.http[].graphql": "forwardTo",
    "spec.targetRef ": "targetRefs",
    "spec.targetSelectors": "targetRefs",
    "spec.addresses": "hosts",
    ".caCertificateRefs": "wellKnownCACertificates",
    ".unix": "fqdn",
}
"""An example under the first takes the base's second away."""


def _rows() -> list[tuple[str, str, str, str]]:
    kind, rows = "", []
    for line in DOCUMENT.read_text().splitlines():
        heading, row = _HEADING.match(line), _ROW.match(line)
        kind = heading[1] if heading else kind
        if row:
            rows.append((kind, row[1], row[2], row[3]))
        else:
            assert not line.startswith("| `spec"), f"not a row: {line}"
    return rows


ROWS = _rows()


def _steps(path: str) -> list[str]:
    return [step for step in re.split(r"\.|(?=\[\])", path) if step]


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    """The value at a path, its lists with one entry, its map entries called ``dev``."""
    here: Any = document
    steps = _steps(path)
    for step, following in zip(steps, [*steps[1:], ""], strict=True):
        last = following == ""
        fresh: Any = [] if following == "[]" else {}
        if step == "[]":
            if not here or last:
                here[:] = [value if last else fresh]
            here = here[0]
            continue
        step = "dev" if step == "*" else step
        if last:
            here[step] = value
        else:
            here = here.setdefault(step, fresh)


def _take(document: Any, name: str) -> None:
    """Every key of this name, wherever it is."""
    if isinstance(document, dict):
        document.pop(name, None)
        document = list(document.values())
    for one in document if isinstance(document, list) else ():
        _take(one, name)


def _build(kind: str, path: str, example: str) -> list[dict[str, Any]]:
    document: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASES[kind]))
    document["metadata"] = {"name": NAMES.get(kind, "x")}
    for part, name in REPLACES.items():
        if part.strip() in path and (not part.endswith(" ") or path == part.strip()):
            _take(document["spec"], name)
    for part, values in BESIDES.items():
        if part in path:
            for suffix, value in values.items():
                at = path.find(suffix.split(".")[0])
                _set(document, path[: max(at, 0)] + suffix, value)
    _set(document, path, yaml.safe_load(example))
    documents = [document]
    if kind in FETCHERS:
        documents.append(FETCHERS[kind])
    skipped = {(kind, document["metadata"]["name"]), ("RouteTable", "" if ".delegate" in path else "child")}
    beside = [one for one in BESIDE if (one["kind"], one["metadata"]["name"]) not in skipped]
    return documents + beside


def _concerns(found: Diagnostic, path: str) -> bool:
    """Whether a finding is about the field, one above it or one below it."""
    pattern = re.sub(r"\\\[\\\]", r"\\[0\\]", re.escape(path)).replace(r"\*", "dev")
    if re.match(pattern + r"($|[.\[])", found.field):
        return True
    return (
        bool(found.field) and re.match(re.escape(found.field) + r"($|[.\[])", re.sub(r"\[\]", "[0]", path)) is not None
    )


@pytest.mark.parametrize(("kind", "path", "example", "here"), ROWS, ids=[f"{row[0]} {row[1]} {row[2]}" for row in ROWS])
def test_row(kind: str, path: str, example: str, here: str) -> None:
    text = yaml.safe_dump_all(_build(kind, path, example))
    found = read_policy_set([("fields.yaml", text)]).diagnostics
    about = [one for one in found if one.subject.startswith(f"{kind} ") and _concerns(one, path)]
    errors = [one for one in found if one.severity is Severity.ERROR]
    said = "\n".join(f"{one} [{one.code}]" for one in found) + "\n" + text
    if here == "refused":
        assert any(one.severity is Severity.ERROR for one in about), said
        assert not any(one.code == "unknown-field" for one in errors), said
    else:
        assert errors == [], said
        assert bool(about) is (here == "noted"), said


def test_every_kind_has_its_table() -> None:
    assert {row[0] for row in ROWS} == set(BASES)
