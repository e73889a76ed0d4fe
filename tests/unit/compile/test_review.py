"""What an author is told."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eastgate.compile.review import MAX_CONFLICTS, review, why_path_never_matches
from eastgate.model.diagnostics import Severity
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import (
    Authorization,
    ClaimHeader,
    ClaimType,
    DestinationSelector,
    Policy,
    Rule,
    RuleAction,
    TokenCondition,
)
from eastgate.model.routes import Comparison, FieldMatch, Match, Route, StringMatch
from eastgate.model.workloads import Service
from tests.unit.decide.scenes import (
    attached,
    claim,
    claims_policy,
    exact,
    http_route,
    policy,
    policy_set,
    prefix,
    provider,
    regex,
    segments,
    selecting,
    service,
    table,
    targeting,
)

ERROR, WARNING = Severity.ERROR, Severity.WARNING
OLD, NEW = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
APP = (("app", "web"),)


def said(*parts: Policy | Route | Service) -> list[tuple[Severity, str]]:
    return [(one.severity, one.code) for one in review(policy_set(*parts))]


def messages(*parts: Policy | Route | Service) -> list[str]:
    return [one.message for one in review(policy_set(*parts))]


def test_a_sound_set() -> None:
    assert (
        said(policy(routes=selecting(app="web")), table(prefix("/"), labels=APP), table(prefix("/b"), hosts=("b",)))
        == []
    )
    assert said(policy(dialect="envoy_gateway", targets=(targeting("HTTPRoute", "route"),)), http_route()) == []
    assert said(policy()) == []


class TestSelection:
    def test_nothing_in_its_namespace(self) -> None:
        assert said(policy(routes=selecting(app="x")), table(labels=APP)) == [(ERROR, "selects-nothing")]
        assert messages(policy(routes=selecting(app="x")), table()) == [
            "selects none of the routes in default: none has app=x"
        ]

    def test_no_routes_at_all(self) -> None:
        assert said(policy(routes=selecting(app="x"))) == [(WARNING, "selects-nothing")]
        assert said(policy(routes=selecting(app="x")), table(namespace="other")) == [(WARNING, "selects-nothing")]

    def test_targets(self) -> None:
        lost = policy(dialect="envoy_gateway", targets=(targeting("HTTPRoute", "gone"),))
        assert said(lost, http_route()) == [(ERROR, "selects-nothing")]
        gateway = policy(dialect="envoy_gateway", targets=(targeting("Gateway", "gw"),))
        assert said(gateway, http_route(attachments=(attached("gw"),))) == []

    def test_destinations(self) -> None:
        at_web = policy(destinations=(DestinationSelector(name="web"),))
        assert said(at_web, Service("default", "web")) == []
        assert said(at_web, table(destinations=(service("web"),))) == []
        assert said(at_web) == [(WARNING, "selects-nothing")]

    def test_a_loser_is_told_about_the_conflict_only(self) -> None:
        old, new = policy(name="old", created=OLD), policy(name="new", created=NEW, routes=selecting(app="web"))
        found = review(policy_set(old, new, table(labels=APP)))
        assert [(one.severity, one.code, one.subject) for one in found] == [
            (WARNING, "conflict", "JWTPolicy default/new")
        ]
        assert found[0].message == (
            "conflicts with existing policy applied to route RouteTable default/table [0]: "
            "skipping JWTPolicy default/new, JWTPolicy default/old is older"
        )

    def test_many_conflicts_are_one_finding(self) -> None:
        routes = [table(prefix(f"/{n}"), index=n) for n in range(9)]
        found = messages(policy(name="a"), policy(name="b"), *routes)
        assert len(found) == 1
        assert "and 6 more" in found[0]

    def test_conflicts_of_envoy_gateway(self) -> None:
        target = (targeting("HTTPRoute", "route"),)
        old = policy(name="old", dialect="envoy_gateway", targets=target, created=OLD)
        new = policy(name="new", dialect="envoy_gateway", targets=target, created=NEW)
        assert messages(new, old, http_route()) == [
            "unable to target HTTPRoute default/route [0]: SecurityPolicy default/old has already attached to it"
        ]

    def test_a_policy_that_takes_the_jwt_away(self) -> None:
        gateway = policy(name="gw", dialect="envoy_gateway", targets=(targeting("Gateway", "gw"),))
        route = http_route(attachments=(attached("gw"),))
        other = policy(name="cors", dialect="envoy_gateway", targets=(targeting("HTTPRoute", "route"),))
        assert said(gateway, other, route) == []
        cors = dataclasses.replace(other, requirement=None)
        assert said(gateway, cors, route) == [(WARNING, "shadowed-jwt")]


class TestKeys:
    def test_unusable(self) -> None:
        found = review(policy_set(policy(provider(keys=LocalKeys("s3cret")))))
        assert [(one.severity, one.code, one.field) for one in found] == [
            (ERROR, "bad-key", "spec.config.providers.dev")
        ]
        assert "s3cret" not in str(found[0])

    def test_too_weak(self) -> None:
        weak = rsa.generate_private_key(65537, 1024).public_key()
        pem = weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        assert said(policy(provider(keys=LocalKeys(pem)))) == [(ERROR, "bad-key")]

    def test_a_shared_secret(self) -> None:
        jwk = '{"kty":"oct","k":"c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2gtZm9yLWhzMjU2LXRva2Vucw","alg":"HS256"}'
        assert said(policy(provider(keys=LocalKeys(jwk)))) == [(WARNING, "shared-secret")]

    def test_remote(self) -> None:
        assert said(policy(provider(keys=RemoteKeys("https://a/jwks")))) == []
        assert said(policy(provider(keys=RemoteKeys("http://a/jwks", tls=False)))) == [(WARNING, "plain-http")]
        lost = RemoteKeys("https://a/jwks", unresolved="Backend default/x is not there")
        assert said(policy(provider(keys=lost))) == [(ERROR, "no-keys")]


class TestRules:
    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            (claim("org", "a", "b", not_values=("b",)), []),
            (claim("org", "a", not_values=("a", "b")), [(ERROR, "never-matches")]),
            (claim("org", "a", "b", not_values=("*",)), [(ERROR, "never-matches")]),
            (claim("org", not_values=("*",)), []),
            (claim("scope", "a", kind=ClaimType.STRING), [(ERROR, "never-matches")]),
            (claim("scope", "a", kind=ClaimType.LIST), []),
        ],
    )
    def test_claims_that_never_hold(self, condition: object, expected: list[object]) -> None:
        assert said(claims_policy(condition)) == expected  # type: ignore[arg-type]

    def test_a_provider_of_no_one(self) -> None:
        one = Rule("r", RuleAction.ALLOW, TokenCondition(provider="gone"))
        assert messages(policy(provider(), authorization=Authorization((one,)))) == [
            "rule `r` never matches: `gone` is not a provider of this policy; accepted: `dev`"
        ]

    def test_a_token_that_nobody_asks_for(self) -> None:
        one = Rule("r", RuleAction.ALLOW, TokenCondition())
        assert said(policy(authorization=Authorization((one,)))) == [(ERROR, "never-matches")]

    def test_rules_behind_one_that_takes_everything(self) -> None:
        rules = (Rule("all", RuleAction.ALLOW), Rule("late", RuleAction.DENY, methods=("GET",)))
        assert messages(policy(provider(), authorization=Authorization(rules))) == [
            "rule `late` is never reached: rule `all` before it matches every request"
        ]

    def test_nothing_is_ever_allowed(self) -> None:
        rules = (Rule("no", RuleAction.DENY, methods=("GET",)),)
        assert said(policy(provider(), authorization=Authorization(rules))) == [(WARNING, "denies-everything")]
        assert said(policy(provider(), authorization=Authorization())) == []


class TestRoutes:
    def test_a_regex_that_re2_refuses(self) -> None:
        assert said(table(regex("(?=x)"))) == [(ERROR, "bad-regex")]

    @pytest.mark.parametrize(
        ("comparison", "value", "never"),
        [
            (Comparison.PREFIX, "/a", False),
            (Comparison.PREFIX, "", False),
            (Comparison.PREFIX, "a", True),
            (Comparison.EXACT, "", True),
            (Comparison.EXACT, "/a?b", True),
            (Comparison.EXACT, "/a#b", True),
            (Comparison.EXACT, "/a//b", True),
            (Comparison.EXACT, "/a/../b", True),
            (Comparison.EXACT, "/a/.", True),
            (Comparison.PREFIX, "/.", False),
            (Comparison.PREFIX, "/./", True),
            (Comparison.EXACT, "/a%2Fb", True),
            (Comparison.EXACT, "/a\\b", True),
            (Comparison.REGEX, "a//b", False),
        ],
    )
    def test_paths_that_never_match(self, comparison: Comparison, value: str, never: bool) -> None:
        assert bool(why_path_never_matches(StringMatch(comparison, value))) is never

    def test_the_finding_names_the_path(self) -> None:
        assert messages(table(exact("/a//b"))) == [
            "path `/a//b` never matches: slashes are merged before paths are compared"
        ]

    def test_a_route_behind_one_that_takes_everything(self) -> None:
        first, second = table(prefix("/"), name="first"), table(prefix("/b"), name="second")
        assert messages(first, second) == [
            "can never match: RouteTable default/first [0] takes every request that it would match"
        ]
        assert said(second, first) == []
        assert said(first, dataclasses.replace(second, hosts=("b.example",))) == []
        assert said(table(prefix("/", method="GET"), name="first"), second) == []

    @pytest.mark.parametrize(
        ("wide", "narrow", "covered"),
        [
            (prefix("/a"), exact("/a"), True),
            (prefix("/a"), prefix("/ab"), True),
            (prefix("/ab"), prefix("/a"), False),
            (segments("/a"), exact("/ab"), False),
            (segments("/a"), segments("/a/b"), True),
            (prefix("/a"), regex("/a"), False),
            (regex("/a"), regex("/a"), True),
            (Match(), regex("/a"), True),
            (prefix("/a", port=80), prefix("/a"), False),
            (prefix("/a"), prefix("/a", port=80), True),
            (prefix("/a"), prefix("/a", headers=(FieldMatch("x", StringMatch(Comparison.PRESENT)),)), True),
            (prefix("/a", headers=(FieldMatch("x", StringMatch(Comparison.PRESENT)),)), prefix("/a"), False),
        ],
    )
    def test_coverage(self, wide: Match, narrow: Match, covered: bool) -> None:
        found = said(table(wide, name="first"), table(narrow, name="second"))
        assert found == ([(WARNING, "unreachable-route")] if covered else [])

    def test_identical_rules_of_the_gateway_api(self) -> None:
        assert messages(http_route(segments("/a"), name="b"), http_route(segments("/a"), name="a")) == [
            "can never match: HTTPRoute default/a [0] takes every request that it would match"
        ]
        assert said(http_route(segments("/"), name="a"), http_route(segments("/a"), name="b")) == []

    def test_a_match_on_an_asserted_header(self) -> None:
        guarded = policy(provider(claim_headers=(ClaimHeader("X-Org", "org", ("org",)),)))
        match = Match(headers=(FieldMatch("x_org", StringMatch(Comparison.PRESENT)),))
        assert said(guarded, table(match)) == [(WARNING, "asserted-header")]

    def test_a_label_that_asks_for_a_policy(self) -> None:
        label = (("gateway.gloo.solo.io/require_auth", "true"),)
        assert said(table(labels=label)) == [(WARNING, "no-policy")]
        assert said(table(labels=label), policy()) == []


def test_what_a_reader_called_invalid_is_left_alone() -> None:
    broken = policy(provider(keys=LocalKeys("x")), routes=selecting(app="x"), invalid=("x",))
    assert said(broken, table(regex("("), invalid=("x",))) == []


def read_and_review(*texts: str) -> list[str]:
    """The codes and messages of the review of files."""
    from eastgate.dialects.corpus import read_policy_set

    policy_set = read_policy_set((f"{index}.yaml", text) for index, text in enumerate(texts))
    return [f"{one.code}: {one.message}" for one in review(policy_set)]


def policy_text(name: str, spec: str) -> str:
    return f"""
apiVersion: policy.eastgate.dev/v1alpha1
kind: JWTPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  {spec}
  config: {{providers: {{p: {{remote: {{url: "https://keys.example/jwks"}}}}}}}}
"""


FOREIGN_TABLE = """
apiVersion: policy.eastgate.dev/v1alpha1
kind: RouteTable
metadata: {name: hole, namespace: mallory}
spec:
  hosts: [hole.example]
  http: [{forwardTo: {destinations: [{ref: {name: web, namespace: shop}}]}}]
"""

LEAVE = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: leave, namespace: shop}
spec:
  from: [{group: policy.eastgate.dev, kind: RouteTable, namespace: mallory}]
  to: [{group: "", kind: Service}]
"""


def test_a_table_that_leads_past_the_policies_of_another_namespace() -> None:
    found = read_and_review(policy_text("p", 'applyToRoutes: [{route: {labels: {secure: "yes"}}}]'), FOREIGN_TABLE)
    (said,) = (one for one in found if one.startswith("foreign-route: leads from namespace `mallory` to shop/web"))
    assert "opens nothing there" in said
    found = read_and_review(
        policy_text("p", 'applyToRoutes: [{route: {labels: {secure: "yes"}}}]'), FOREIGN_TABLE, LEAVE
    )
    (said,) = (one for one in found if one.startswith("foreign-route"))
    assert "passes without a token" in said
    found = read_and_review(policy_text("p", "applyToRoutes: [{}]"), FOREIGN_TABLE)
    assert not any(one.startswith("foreign-route") for one in found), "what holds for everything holds there, too"


@pytest.mark.parametrize("spec", ["applyToRoutes: [{}]", "applyToDestinations: [{selector: {name: web}}]"])
def test_a_conflict_that_no_route_shows(spec: str) -> None:
    found = [one for one in read_and_review(policy_text("a", spec), policy_text("b", spec)) if "conflict" in one]
    assert len(found) == 1
    assert "skipping JWTPolicy shop/b, JWTPolicy shop/a comes first by name" in found[0]


class TestMany:
    def test_who_loses_to_many_is_told_of_a_few(self) -> None:
        winners = [
            policy(name=f"w{index:02}", created="2024-01-01T00:00:00Z", routes=selecting(n=str(index)))
            for index in range(30)
        ]
        routes = [table(name=f"t{index:02}", labels=(("n", str(index)),)) for index in range(30)]
        losers = [policy(name=f"l{index}", created="2025-01-01T00:00:00Z") for index in range(3)]
        found = [one for one in review(policy_set(*winners, *losers, *routes)) if one.code == "conflict"]
        assert len(found) == len(losers) * MAX_CONFLICTS

    def test_a_header_that_many_assert_is_told_of_once(self) -> None:
        header = ClaimHeader("x-org", "org", ("org",))
        many = [policy(provider(claim_headers=(header,)), name=f"p{index}") for index in range(5)]
        route = table(Match(headers=(FieldMatch("x-org", StringMatch(Comparison.PRESENT)),)))
        (said,) = [one.message for one in review(policy_set(*many, route)) if one.code == "asserted-header"]
        assert "JWTPolicy default/p0, JWTPolicy default/p1, JWTPolicy default/p2 and 2 more set from a token" in said
