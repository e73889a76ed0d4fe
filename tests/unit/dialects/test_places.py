"""Where the parts of a policy stand."""

from __future__ import annotations

from tests.unit.dialects.reading import read

GLOO = """\
apiVersion: security.policy.gloo.solo.io/v2
kind: JWTPolicy
metadata: {name: p}
spec:
  applyToRoutes:
  - route: {labels: {app: web}}
  config:
    claims:
    - {key: org, values: [internal]}
    providers:
      one:
        issuer: https://one.example
        local:
          inline: nothing
      two.local:
        remote:
          url: https://two.example/jwks
"""

GATEWAY = """\
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: p}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}
  jwt:
    providers:
    - name: one
      localJWKS:
        inline: '{"keys": []}'
  authorization:
    rules:
    - action: Allow
      principal: {jwt: {provider: one, scopes: [read]}}
    - action: Deny
      principal: {jwt: {provider: one, scopes: [write]}}
"""


def lines(text: str) -> dict[str, int]:
    (policy,) = read(text).policies
    return {path: position.line for path, position in policy.places}


def test_a_gloo_policy() -> None:
    assert lines(GLOO) == {
        "spec.applyToRoutes": 5,
        "spec.config": 7,
        "spec.config.claims": 8,
        "spec.config.providers.one": 11,
        "spec.config.providers.one.local.inline": 14,
        "spec.config.providers.two.local": 15,
        "spec.config.providers.two.local.remote": 16,
    }


def test_an_envoy_gateway_policy() -> None:
    assert lines(GATEWAY) == {
        "spec.targetRef": 5,
        "spec.jwt.providers[0]": 8,
        "spec.jwt.providers[0].localJWKS.inline": 10,
        "spec.authorization": 11,
        "spec.authorization.rules[0]": 13,
        "spec.authorization.rules[1]": 15,
    }


def test_what_is_not_known_stands_where_it_belongs_to() -> None:
    (policy,) = read(GLOO).policies
    assert policy.place_of("spec.config.providers.one.issuer").line == 11
    assert policy.place_of("spec.config.phase").line == 7
    assert policy.place_of("spec.applyToDestinations").line == policy.place_of("").line == 1


def test_where_it_stands_makes_no_policy_another_one() -> None:
    (here,), (there,) = read(GLOO).policies, read("---\n" + GLOO).policies
    assert here.places != there.places
    assert here.requirement == there.requirement


def test_any_shape_is_survived() -> None:
    for wrong in ("[]", "x", "{config: []}", "{config: {providers: [a], claims: x}}", "{jwt: {providers: {a: 1}}}"):
        for kind in (
            "gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy",
            "security.policy.gloo.solo.io/v2\nkind: JWTPolicy",
        ):
            (policy,) = read(f"apiVersion: {kind}\nmetadata: {{name: p}}\nspec: {wrong}\n").policies
            assert policy.invalid
