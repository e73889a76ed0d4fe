"""The kinds on a real API server: our CRDs take what the reader takes, and say why not; stand-ins; the examples.

Nobody validates here but the API server itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

import pytest
import yaml

from eastgate.dialects import eastgate as own_dialect
from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.kinds import OWN_GROUP
from eastgate.model.diagnostics import Severity
from tests import test_fields_document as fields_document
from tests.apiserver.environment import Environment
from tests.apiserver.manifests import (
    MANIFESTS,
    Object,
    apply_kinds,
    apply_stand_ins,
    forget_registrations,
    policy,
    try_all,
)
from tests.corpus import load_case_files
from tests.lint_cases import load_lint_cases
from tests.tokens import key_set

EXAMPLES = [
    "claims",
    "claim-authorization",
    "jwt-authentication/http",
    "jwt-authentication/grpc",
    "jwt-authentication/self-signed",
    "east-west",
]
HERE = "manifests-kinds"


@pytest.fixture(scope="module")
def kinds(environment: Environment) -> Environment:
    """The kinds, ours and the stand-ins, and nobody who is asked about them."""
    forget_registrations(environment)
    apply_kinds(environment)
    environment.create_namespace(HERE)
    return environment


def test_the_kinds_are_established_and_their_names_accepted(kinds: Environment) -> None:
    for crd in kinds.get("crd")["items"]:  # type: ignore[attr-defined]
        conditions = {one["type"]: one["status"] for one in crd["status"]["conditions"]}
        assert conditions["Established"] == conditions["NamesAccepted"] == "True", crd["metadata"]["name"]
        assert "NonStructuralSchema" not in conditions


def test_a_crd_that_is_there_is_left_alone(kinds: Environment) -> None:
    name = "crd/httproutes.gateway.networking.k8s.io"
    kinds.kubectl("label", name, "eastgate.dev/stand-in-", "real=yes")
    try:
        assert f"{name.removeprefix('crd/')} is there, left alone" in apply_stand_ins(kinds)
        assert kinds.get(name)["metadata"]["labels"] == {"real": "yes"}  # type: ignore[index]
    finally:
        kinds.kubectl("label", name, "eastgate.dev/stand-in=true", "real-")


def texts_without_an_error() -> Iterator[str]:
    """Everything in this repository that the reader takes: the corpora, the documentation, every field that Gloo has."""
    for file in load_case_files():
        yield from (text for _, text in file.policies)
    for case in load_lint_cases():
        if not any(one.severity == "error" for one in case.expect):
            yield from (text for _, text in case.sources)
    documentation = own_dialect.__doc__ or ""
    yield dedent(documentation[documentation.index("    apiVersion:") : documentation.index("\nInstead of")])
    rules = documentation[documentation.index("    config:\n      auth") : documentation.index("\nA RouteTable is")]
    config = yaml.safe_load(dedent(rules))["config"]
    yield json.dumps(policy(providers={"login": {"jwks": {"inline": key_set("main")}}}, **config))
    for kind, path, example, _ in fields_document.ROWS:
        if kind in ("JWTPolicy", "RouteTable"):
            document, *beside = fields_document._build(kind, path, example)
            document["apiVersion"] = f"{OWN_GROUP}/v1alpha1"
            found = read_policy_set([("x.yaml", yaml.safe_dump_all([document, *beside]))]).diagnostics
            if not any(one.severity is Severity.ERROR and one.subject.startswith(kind) for one in found):
                yield json.dumps(document)


def accepted_by_the_reader() -> dict[str, Object]:
    """Documents of our own kinds."""
    documents = []
    for text in texts_without_an_error():
        with contextlib.suppress(yaml.YAMLError):  # PyYAML takes less for YAML than kubectl does
            documents += list(yaml.safe_load_all(text))
    own = [one for one in documents if one and str(one.get("apiVersion")).startswith(f"{OWN_GROUP}/")]
    return {f"{number} {str(one)[:300]}": one for number, one in enumerate(own)}


def test_what_the_reader_accepts_is_accepted(kinds: Environment) -> None:
    documents = accepted_by_the_reader()
    assert len(documents) > 100
    assert try_all(kinds, HERE, documents) == {}


def provider(**fields: Any) -> Object:
    return policy(providers={"a": fields})


def selecting(*selectors: Object) -> Object:
    document = policy()
    document["spec"]["applyToRoutes"] = list(selectors)
    return document


def table(*routes: Object, **spec: Any) -> Object:
    return {"apiVersion": f"{OWN_GROUP}/v1alpha1", "kind": "RouteTable", "spec": {**spec, "http": list(routes)}}


def forward(**fields: Any) -> Object:
    return {"forwardTo": {"destinations": [{"ref": {"name": "web"}}], **fields}}


REFUSED: dict[str, tuple[Object, str]] = {
    "no-config": ({**policy(), "spec": {}}, "spec.config: Required value"),
    "no-providers": (policy(providers={}), "spec.config.providers"),
    "both-words-for-missing": (
        policy(validationPolicy="REQUIRE_VALID", missing="Allow"),
        "set either `validationPolicy` or `missing` and `failed`",
    ),
    "rules-and-claims": (
        policy(authorization={}, claims=[{"key": "a", "values": ["b"]}]),
        "set either `authorization` or `claims` and `requiredScopes`: rules hold both",
    ),
    "scopes-after-authorization": (
        policy(phase={"postAuthz": {}}, requiredScopes=["a"]),
        "cannot run in `postAuthz`; accepted: preAuthz",
    ),
    "two-phases": (policy(phase={"postAuthz": {}, "preAuthz": {}}), "only one of `preAuthz`, `postAuthz` may be set"),
    "a-rule-of-nobody": (
        policy(authorization={"rules": [{"action": "Allow", "provider": "b"}]}),
        "a rule of `authorization` names a provider that is not among `providers`",
    ),
    "a-rule-in-the-wrong-case": (policy(authorization={"rules": [{"action": "allow"}]}), '"Allow", "Deny"'),
    "an-empty-list": (policy(authorization={"rules": [{"action": "Allow", "methods": []}]}), "rules[0].methods"),
    "two-forms-of-a-path": (
        policy(authorization={"rules": [{"action": "Allow", "paths": [{"exact": "/a", "prefix": "/b"}]}]}),
        "exactly one of `exact`, `prefix`, `segments`, `regex` must be set",
    ),
    "a-claim-by-two-names": (
        policy(claims=[{"key": "a", "path": ["a"], "values": ["b"]}]),
        "exactly one of `key`, `path`",
    ),
    "a-claim-without-values": (
        policy(claims=[{"key": "a", "values": []}]),
        "at least one value in `values` or `notValues`",
    ),
    "a-scope-of-two-words": (policy(requiredScopes=["a b"]), "spec.config.requiredScopes[0]"),
    "no-keys": (provider(issuer="a"), "exactly one of `local`, `remote`, `jwks` must be set"),
    "keys-twice": (
        provider(local={"inline": "a"}, jwks={"inline": "a"}),
        "exactly one of `local`, `remote`, `jwks` must be set",
    ),
    "keys-from-two-places": (
        provider(local={"inline": "a", "secretRef": {"name": "a", "key": "b"}}),
        "exactly one of `inline`, `secretRef`, `configMapRef` must be set",
    ),
    "a-secret-named-twice": (
        provider(local={"secretRef": {"name": "a", "objectRef": {"name": "a"}, "key": "b"}}),
        "exactly one of `name`, `objectRef` must be set",
    ),
    "a-url-that-is-none": (provider(remote={"url": "login.example.com"}), "remote.url"),
    "trust-without-tls": (
        provider(remote={"url": "http://a/jwks", "caCertificate": {"inline": "a"}}),
        "`caCertificate` needs an https URL",
    ),
    "a-duration-without-unit": (provider(remote={"url": "https://a/", "timeout": "5"}), "remote.timeout"),
    "a-header-that-is-none": (
        provider(local={"inline": "a"}, tokenSource={"headers": [{"name": "x y"}]}),
        "tokenSource.headers[0].name",
    ),
    "two-selectors-in-one": (
        selecting({"route": {}, "withDestinations": {}}),
        "only one of `route`, `withDestinations` may be set; write two entries",
    ),
    "a-port-by-two-names": (
        selecting({"withDestinations": {"port": {"number": 80, "name": "http"}}}),
        "only one of `number`, `name` may be set",
    ),
    "a-label-that-none-can-have": (
        selecting({"route": {"labels": {"app": "a b"}}}),
        "applyToRoutes[0].route.labels.app",
    ),
    "no-routes": ({**table(), "spec": {"hosts": ["a"]}}, "one of `http`, `tcp`, `tls` is required"),
    "a-host-with-port": (table(forward(), hosts=["a:80"]), "spec.hosts[0]"),
    "no-action": (table({"name": "a"}), "exactly one of `forwardTo`, `delegate`, `redirect`"),
    "two-actions": (table({**forward(), "redirect": {}}), "exactly one of `forwardTo`, `delegate`, `redirect`"),
    "leads-nowhere": (
        table({"forwardTo": {"destinations": []}}),
        "a route without destinations needs the table's `defaultDestination`",
    ),
    "two-rewrites": (
        table(forward(pathRewrite="/a", regexRewrite={"pattern": {"regex": "a"}})),
        "only one of `pathRewrite`, `regexRewrite` may be set",
    ),
    "a-destination-that-is-none": (
        table({"forwardTo": {"destinations": [{"port": {"number": 80}}]}}),
        "exactly one of `ref`, `awsLambda` must be set",
    ),
}


def test_what_cannot_be_meant_is_refused_with_the_reason(kinds: Environment) -> None:
    said = try_all(kinds, HERE, {name: document for name, (document, _) in REFUSED.items()})
    for name, (_, message) in REFUSED.items():
        assert message in said.get(name, "accepted"), (name, said.get(name))


@pytest.mark.parametrize("mode", ["--validate=strict", "--validate=ignore"])
def test_a_mistyped_field_is_kept_for_the_webhook_to_see(kinds: Environment, mode: str) -> None:
    """Pruned, it would leave a policy that demands less than it says."""
    document = policy(claim=[{"key": "org", "values": ["internal"]}])
    document["metadata"] = {"name": "mistyped", "namespace": "default"}
    text = kinds.kubectl("create", "-f", "-", "--dry-run=server", mode, "-o", "json", input=json.dumps(document))
    assert json.loads(text)["spec"]["config"]["claim"] == [{"key": "org", "values": ["internal"]}]


def test_a_look_at_the_policies(kinds: Environment) -> None:
    namespace = kinds.create_namespace("manifests-columns")
    document = policy()
    document["metadata"] = {"name": "orders", "namespace": namespace}
    kinds.kubectl("apply", "-f", "-", input=json.dumps(document))
    condition = {"lastTransitionTime": "2026-01-31T12:00:00Z", "message": "", "observedGeneration": 1}
    conditions = [
        {**condition, "type": "Accepted", "status": "True", "reason": "Accepted"},
        {**condition, "type": "Programmed", "status": "False", "reason": "Pending"},
    ]
    status = json.dumps({"status": {"conditions": conditions}})
    kinds.kubectl("patch", "ejwt", "orders", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    header, row = kinds.kubectl("get", "eastgate", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "ACCEPTED", "PROGRAMMED", "REASON", "AGE"]
    assert row.split()[:4] == ["orders" if "/" not in row else row.split()[0], "True", "False", "Accepted"]
    twice = json.dumps({"status": {"conditions": [*conditions, conditions[0]]}})
    refused = kinds.try_kubectl(
        "patch", "ejwt", "orders", "-n", namespace, "--subresource=status", "--type=merge", "-p", twice
    )
    assert "Duplicate value" in refused.stderr


# --- examples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_applies(kinds: Environment, name: str) -> None:
    kinds.kubectl("apply", "--validate=strict", "-k", str(MANIFESTS / "examples" / name))
