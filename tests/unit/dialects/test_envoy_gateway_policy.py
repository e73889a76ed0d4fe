"""The SecurityPolicy as a whole: seeds, targets, sections that protect something else, and what bad input gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from eastgate.model.keys import RemoteKeys, Retry
from eastgate.model.policies import (
    Authorization,
    ClaimCondition,
    ClaimType,
    Requirement,
    RuleAction,
    TargetReference,
    TokenCondition,
)
from eastgate.model.routes import ObjectName
from tests.unit.dialects.gateway_reading import Reading, indented, reading

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"

ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foo, labels: {team: blue, tier: front}}
spec:
  parentRefs: [{name: eg}]
  rules:
  - name: read
    backendRefs: [{name: backend, port: 3000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bar, labels: {team: green}}
spec:
  parentRefs: [{name: eg}]
  rules: [{backendRefs: [{name: backend, port: 3000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: eg}
spec:
  gatewayClassName: eg
  listeners: [{name: http, protocol: HTTP, port: 80}]
"""

JWT = """
jwt:
  providers:
  - name: example
    localJWKS: {inline: '{"keys": []}'}
"""


def policy(spec: str) -> str:
    return "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata:\n  name: p\nspec:\n" + indented(
        spec, 2
    )


def on_foo(spec: str) -> Reading:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}]\n"
    return reading(policy(target + spec), ROUTES)


def example(*folders: str) -> Reading:
    files = [file for folder in folders for file in sorted((EXAMPLES / folder).rglob("*.yaml"))]
    assert files
    return reading(*[file.read_text() for file in files])


def test_seed_000_is_read_as_it_stands() -> None:
    found = example("claim-authorization")
    assert found.diagnostics == []
    assert found.policy.targets == (TargetReference(ObjectName("HTTPRoute", "default", "backend")),)
    assert found.policy.requirement is not None
    (provider,) = found.policy.requirement.providers
    assert (provider.name, provider.issuer) == ("example", "https://foo.bar.com")
    assert isinstance(provider.keys, RemoteKeys)
    assert provider.keys.url.endswith("/examples/kubernetes/jwt/jwks.json")
    assert (provider.keys.tls, provider.keys.ca, provider.keys.unresolved) == (True, None, None)
    assert (provider.keys.timeout, provider.keys.cache_duration) == (10.0, 300.0)
    assert found.policy.authorization is not None
    assert found.policy.authorization.default is RuleAction.DENY
    (rule,) = found.policy.authorization.rules
    assert (rule.name, rule.action) == ("allow", RuleAction.ALLOW)
    assert rule.token == TokenCondition(
        "example",
        (
            ClaimCondition("user.name", ("user", "name"), ClaimType.STRING, ("John Doe",)),
            ClaimCondition("user.roles", ("user", "roles"), ClaimType.LIST, ("admin",)),
        ),
        ("read", "add", "modify"),
    )
    assert found.route.hosts == ("www.example.com",)


@pytest.mark.parametrize(("folder", "kind", "name"), [("http", "HTTPRoute", "foo"), ("grpc", "GRPCRoute", "yages")])
def test_seed_001_is_read_with_a_word_about_the_old_field(folder: str, kind: str, name: str) -> None:
    found = example(f"jwt-authentication/{folder}")
    assert found.errors == []
    assert found.warnings == [found.warning("spec.targetRef is deprecated, use spec.targetRefs instead")]
    assert found.policy.targets == (TargetReference(ObjectName(kind, "default", name)),)
    assert found.policy.authorization is None
    assert found.policy.requirement is not None
    assert found.policy.requirement.every_token is False
    assert found.policy.requirement.providers[0].forward_token is True
    assert found.policy.requirement.providers[0].clock_skew == 60


def test_seed_001_custom_ca_is_the_document_word_for_word() -> None:
    found = example("jwt-authentication/self-signed")
    assert found.errors == []
    assert found.policy.requirement is not None
    keys = found.policy.requirement.providers[0].keys
    assert isinstance(keys, RemoteKeys)
    assert keys.url == "https://foo.bar.com/jwks.json"
    assert keys.addresses == (("foo.bar.com", 443),)
    assert keys.tls
    assert keys.ca is not None
    assert keys.ca.startswith("-----BEGIN CERTIFICATE-----")
    assert keys.server_name == "foo.bar.com"
    assert keys.retry == Retry(3, 1.0, 5.0, ("5xx", "gateway-error", "reset"))


def test_authorization_of_nothing_denies_everything() -> None:
    assert on_foo("authorization: {}").policy.authorization == Authorization((), RuleAction.DENY)


def test_policy_without_checks_is_kept_and_talked_about() -> None:
    found = on_foo("cors: {allowOrigins: ['*']}")
    assert found.errors == []
    found.warning("spec.cors")
    found.warning("has neither `jwt` nor `authorization`")
    assert (found.policy.requirement, found.policy.authorization) == (None, None)


@pytest.mark.parametrize("section", ["basicAuth", "apiKeyAuth", "oidc", "extAuth", "csrf", "acl"])
def test_what_protects_and_is_not_enforced_is_refused(section: str) -> None:
    found = on_foo(f"{section}: {{users: {{name: x}}}}" + JWT)
    assert f"spec.{section}" in found.error("is not enforced here")
    assert found.policy.invalid
    assert found.policy.targets


def test_merge_type_is_refused() -> None:
    assert "spec.mergeType" in on_foo("mergeType: StrategicMerge" + JWT).error("not merged")


def test_unknown_field_names_the_nearest() -> None:
    assert "unknown field `jwtt` (did you mean `jwt`?)" in on_foo("jwtt: {}").error("unknown field")


def test_unknown_version_is_refused() -> None:
    found = reading(policy(JWT).replace("v1alpha1", "v1"), ROUTES)
    assert "accepted: gateway.envoyproxy.io/v1alpha1" in found.error("unsupported version `gateway.envoyproxy.io/v1`")


def test_diagnostic_has_file_line_and_field() -> None:
    found = on_foo("jwt: {providers: [{name: a, issuer: 5, localJWKS: {inline: x}}]}")
    assert found.errors == [
        "0.yaml:7: error: SecurityPolicy default/p spec.jwt.providers[0].issuer: expected a string (quote it), found an "
        "integer `5`"
    ]


# --- targets -------------------------------------------------------------------------------------------------------


def test_target_that_is_not_there_is_kept_and_makes_the_policy_invalid() -> None:
    found = reading(
        policy("targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: fooo}]" + JWT), ROUTES
    )
    message = found.error("refers to what is not there: HTTPRoute `default/fooo` (did you mean `foo`?)")
    assert "spec.targetRefs[0].name" in message
    assert found.policy.targets == (TargetReference(ObjectName("HTTPRoute", "default", "fooo")),)
    assert found.policy.invalid
    assert not found.policy.everything


def test_target_in_another_namespace_is_pointed_out() -> None:
    elsewhere = ROUTES.replace("name: foo,", "name: foo, namespace: team,")
    found = reading(
        policy("targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}]" + JWT), elsewhere
    )
    found.error("there is one in namespace `team`")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "{group: gateway.networking.k8s.io, kind: HttpRoute, name: foo}",
            "found `HttpRoute` (did you mean `HTTPRoute`?)",
        ),
        (
            "{group: gateway.networking.k8s.io, kind: Service, name: foo}",
            "this policy can only have a targetRefs[*].kind of",
        ),
        (
            "{group: apps, kind: HTTPRoute, name: foo}",
            "can only have a targetRefs[*].group of gateway.networking.k8s.io",
        ),
        ("{group: gateway.networking.k8s.io, kind: HTTPRoute}", "`name` is required"),
        ("{kind: HTTPRoute, name: foo}", "`group` is required"),
        ("foo", "expected a mapping, found a string `foo`"),
    ],
)
def test_target_that_cannot_be_read_closes_the_namespace(reference: str, message: str) -> None:
    found = reading(policy(f"targetRefs: [{reference}]" + JWT), ROUTES)
    assert any(message in one for one in found.errors), found.errors
    assert found.policy.everything
    assert found.policy.invalid


@pytest.mark.parametrize("targets", ["", "targetRefs: []", "targetRefs: foo", "targetSelectors: {}"])
def test_no_target_at_all_closes_the_namespace(targets: str) -> None:
    found = reading(policy(targets + JWT), ROUTES)
    assert found.errors
    assert found.policy.everything
    assert found.policy.invalid


def test_both_old_and_new_field_is_an_error() -> None:
    target = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}"
    found = reading(policy(f"targetRef: {target}\ntargetRefs: [{target}]" + JWT), ROUTES)
    found.error("either targetRef or targetRefs must be used")
    assert len(found.policy.targets) == 1


def test_tcp_route_is_refused_by_name() -> None:
    found = reading(policy("targetRefs: [{group: gateway.networking.k8s.io, kind: TCPRoute, name: db}]" + JWT), ROUTES)
    found.error("`TCPRoute` is not supported")
    assert not found.policy.everything


@pytest.mark.parametrize(
    ("kind", "name", "section"), [("HTTPRoute", "foo", "read"), ("Gateway", "eg", "http"), ("Gateway", "eg", None)]
)
def test_sections_of_routes_and_gateways(kind: str, name: str, section: str | None) -> None:
    at = f", sectionName: {section}" if section else ""
    target = f"targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}{at}}}]"
    found = reading(policy(target + JWT), ROUTES)
    assert found.errors == []
    assert found.policy.targets == (TargetReference(ObjectName(kind, "default", name), section),)


def test_section_that_is_not_there() -> None:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo, sectionName: reed}]"
    found = reading(policy(target + JWT), ROUTES)
    assert "(did you mean `read`?)" in found.error("No section name reed found for HTTPRoute default/foo")
    # Which rule was meant is not known: the broken policy refuses on all of them.
    assert found.policy.targets == (TargetReference(ObjectName("HTTPRoute", "default", "foo")),)
    assert found.policy.invalid


# --- target selectors ----------------------------------------------------------------------------------------------


def selected(selector: str, *more: str) -> list[str]:
    found = reading(policy(f"targetSelectors: [{selector}]" + JWT), ROUTES, *more)
    assert found.errors == []
    return [str(one.target) for one in found.policy.targets]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("{kind: HTTPRoute, matchLabels: {team: blue}}", ["HTTPRoute default/foo"]),
        ("{kind: HTTPRoute}", ["HTTPRoute default/foo", "HTTPRoute default/bar"]),
        ("{kind: Gateway}", ["Gateway default/eg"]),
        (
            "{kind: HTTPRoute, matchExpressions: [{key: team, operator: In, values: [green, red]}]}",
            ["HTTPRoute default/bar"],
        ),
        (
            "{kind: HTTPRoute, matchExpressions: [{key: team, operator: NotIn, values: [green]}]}",
            ["HTTPRoute default/foo"],
        ),
        ("{kind: HTTPRoute, matchExpressions: [{key: tier, operator: Exists}]}", ["HTTPRoute default/foo"]),
        ("{kind: HTTPRoute, matchExpressions: [{key: tier, operator: DoesNotExist}]}", ["HTTPRoute default/bar"]),
        ("{group: gateway.networking.k8s.io, kind: HTTPRoute, matchLabels: {team: blue, tier: back}}", []),
    ],
)
def test_selectors_select_by_labels(selector: str, names: list[str]) -> None:
    assert selected(selector) == names


OTHER_NAMESPACE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: far, namespace: other, labels: {team: blue}}
spec: {rules: [{backendRefs: [{name: backend, port: 3000}]}]}
"""

GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.envoyproxy.io, kind: SecurityPolicy, namespace: default}]
  to: [{group: gateway.networking.k8s.io, kind: HTTPRoute}]
"""


def test_selectors_reach_other_namespaces_by_grant_only() -> None:
    selector = "{kind: HTTPRoute, matchLabels: {team: blue}, namespaces: {from: All}}"
    assert selected(selector, OTHER_NAMESPACE) == ["HTTPRoute default/foo"]
    assert selected(selector, OTHER_NAMESPACE, GRANT) == ["HTTPRoute default/foo", "HTTPRoute other/far"]
    assert selected("{kind: HTTPRoute, matchLabels: {team: blue}}", OTHER_NAMESPACE, GRANT) == ["HTTPRoute default/foo"]
    found = reading(policy(f"targetSelectors: [{selector}]" + JWT), ROUTES, OTHER_NAMESPACE)
    found.warning("HTTPRoute other/far matches but is not selected: no ReferenceGrant")


def test_selectors_select_namespaces_by_labels() -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {zone: far}}\n"
    by_label = "{kind: HTTPRoute, namespaces: {from: Selector, selector: {matchLabels: {zone: far}}}}"
    assert selected(by_label, OTHER_NAMESPACE, GRANT, namespace) == ["HTTPRoute other/far"]
    by_name = by_label.replace("zone: far", "kubernetes.io/metadata.name: other")
    assert selected(by_name, OTHER_NAMESPACE, GRANT) == ["HTTPRoute other/far"]


def test_selector_that_selects_nothing_is_said() -> None:
    found = reading(policy("targetSelectors: [{kind: GRPCRoute}]" + JWT), ROUTES)
    found.warning("selects nothing: no GRPCRoute that was read has these labels")
    assert not found.policy.everything


@pytest.mark.parametrize(
    "selector",
    [
        "{matchLabels: {a: b}}",
        "{kind: HTTPRoute, matchLabels: {a: 1}}",
        "{kind: HTTPRoute, matchExpressions: [{key: a, operator: in, values: [b]}]}",
        "{kind: HTTPRoute, matchExpressions: [{key: a, operator: In}]}",
        "{kind: HTTPRoute, namespaces: {from: Selector}}",
        "{kind: HTTPRoutes}",
    ],
)
def test_selector_that_cannot_be_read_closes_the_namespace(selector: str) -> None:
    found = reading(policy(f"targetSelectors: [{selector}]" + JWT), ROUTES)
    assert found.errors
    assert found.policy.everything


def test_creation_time_is_kept_for_conflicts() -> None:
    found = reading(policy(JWT).replace("name: p", 'name: p\n  creationTimestamp: "2026-01-02T03:04:05Z"'), ROUTES)
    assert found.policy.created == "2026-01-02T03:04:05Z"


def test_requirement_of_a_broken_policy_is_never_weaker() -> None:
    found = on_foo("jwt: {optional: true, failOpen: true, providers: [{name: a, localJWKS: {inline: x}}]}")
    found.error("optional and failOpen cannot both be set; failOpen already tolerates a missing JWT")
    assert found.policy.invalid
    assert isinstance(found.policy.requirement, Requirement)
