"""``spec.authorization`` of a SecurityPolicy, field by field."""

from __future__ import annotations

import pytest

from eastgate.model.policies import Authorization, ClaimType, Rule, RuleAction, TokenCondition
from eastgate.model.routes import Comparison, StringMatch
from tests.unit.dialects.gateway_reading import Reading
from tests.unit.dialects.test_envoy_gateway_policy import JWT, on_foo


def authorization(text: str) -> Authorization:
    found = on_foo(f"authorization: {text}" + JWT)
    assert found.errors == []
    assert found.policy.authorization is not None
    return found.policy.authorization


def rule(text: str) -> Rule:
    (one,) = authorization(f"{{rules: [{{action: Allow, {text}}}]}}").rules
    return one


def refused(text: str, jwt: str = JWT) -> Reading:
    found = on_foo(f"authorization: {{rules: [{{action: Allow, {text}}}]}}" + jwt)
    assert found.policy.invalid
    return found


ANYONE = "principal: {headers: [{name: x, values: ['1']}]}"


def test_default_action() -> None:
    assert authorization("{}").default is RuleAction.DENY
    assert authorization("{defaultAction: Allow}").default is RuleAction.ALLOW
    found = on_foo("authorization: {defaultAction: allow}" + JWT)
    found.error("unknown value `allow` (did you mean `Allow`?); accepted: Allow, Deny")
    assert found.policy.invalid


def test_rules_keep_their_order_and_get_envoy_gateways_names() -> None:
    found = authorization(f"{{rules: [{{action: Deny, {ANYONE}}}, {{name: second, action: Allow, {ANYONE}}}]}}")
    assert [(one.name, one.action) for one in found.rules] == [
        ("securitypolicy/default/p/authorization/rule/0", RuleAction.DENY),
        ("second", RuleAction.ALLOW),
    ]


def test_action_is_required() -> None:
    on_foo(f"authorization: {{rules: [{{{ANYONE}}}]}}" + JWT).error("`action` is required; accepted: Allow, Deny")


def test_principal_or_cel() -> None:
    refused("name: x").error("at least one of principal or cel must be specified")
    refused("principal: {}").error(
        "at least one of clientCIDRs, jwt, headers, clientIPGeoLocations, or clientCert must be specified"
    )
    assert "cel: CEL expressions are not evaluated here" in refused("cel: 'true'").errors[0]
    assert len(refused("cel: 'true'").errors) == 1


@pytest.mark.parametrize("kind", ["clientIPGeoLocations: [{country: DE}]", "clientCert: {subject: {value: x}}"])
def test_principals_that_cannot_be_seen_are_refused(kind: str) -> None:
    assert len(refused(f"principal: {{{kind}}}").errors) == 1


def test_client_addresses() -> None:
    found = on_foo("authorization: {rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.1/8, '2001:db8::/64']}}]}")
    assert found.errors == []
    found.warning("compared with the address that connects to the pod")
    assert found.policy.authorization is not None
    assert found.policy.authorization.rules[0].addresses == ("10.0.0.0/8", "2001:db8::/64")


@pytest.mark.parametrize("cidr", ["10.0.0.1", "10.0.0.0/33", "'::g/64'", "'*'"])
def test_bad_client_addresses(cidr: str) -> None:
    refused(f"principal: {{clientCIDRs: [{cidr}]}}").error("is not a range of addresses; accepted: a CIDR")


def test_headers() -> None:
    found = rule("principal: {headers: [{name: X-User, values: [a, b]}, {name: z, values: [c]}]}")
    assert found.header_values == (("x-user", ("a", "b")), ("z", ("c",)))
    refused("principal: {headers: [{name: x}]}").error("`values` is required")
    refused("principal: {headers: [{name: x, values: []}]}").error("at least 1 entries")
    refused("principal: {headers: [{name: ':path', values: [a]}]}").error("is not a header name")


def test_methods() -> None:
    assert rule(f"{ANYONE}, operation: {{methods: [GET, POST]}}").methods == ("GET", "POST")
    refused(f"{ANYONE}, operation: {{methods: [get]}}").error("unknown value `get` (did you mean `GET`?)")
    refused(f"{ANYONE}, operation: {{methods: []}}").error("at least 1 entries")
    refused(f"{ANYONE}, operation: {{}}").error("at least one of methods or path must be specified")


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("{value: /}", (StringMatch(Comparison.SEGMENTS, "/"),)),
        ("{value: /a}", (StringMatch(Comparison.SEGMENTS, "/a"), StringMatch(Comparison.PREFIX, "/a;"))),
        (
            "{type: PathPrefix, value: /a/}",
            (StringMatch(Comparison.SEGMENTS, "/a"), StringMatch(Comparison.PREFIX, "/a;")),
        ),
        ("{type: Exact, value: /a/}", (StringMatch(Comparison.EXACT, "/a/"), StringMatch(Comparison.PREFIX, "/a/;"))),
        ("{type: RegularExpression, value: '/a/[0-9]+'}", (StringMatch(Comparison.REGEX, "/a/[0-9]+"),)),
    ],
)
def test_paths(path: str, matches: tuple[StringMatch, ...]) -> None:
    found = rule(f"{ANYONE}, operation: {{path: {path}}}")
    assert (found.paths, found.inverted_paths) == (matches, ())
    found = rule(f"{ANYONE}, operation: {{path: {path[:-1]}, invert: true}}}}")
    assert (found.paths, found.inverted_paths) == ((), matches)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{value: a}", "`a` is not an absolute path"),
        ("{value: ''}", "`value` is required"),
        ("{type: Prefix, value: /a}", "unknown value `Prefix` (did you mean `PathPrefix`?)"),
        ("{type: RegularExpression, value: '/(a'}", "is not a regular expression that RE2 accepts: missing ): /(a"),
    ],
)
def test_bad_paths(path: str, message: str) -> None:
    refused(f"{ANYONE}, operation: {{path: {path}}}").error(message)


def test_regex_that_asks_for_a_query_is_said() -> None:
    found = on_foo(
        f"authorization: {{rules: [{{action: Allow, {ANYONE}, "
        r"operation: {path: {type: RegularExpression, value: '/a\?x=1'}}}]}"
    )
    found.warning("the query is not part of what is compared here")


def test_token_conditions() -> None:
    claims = "claims: [{name: a.b, values: [v, w]}, {name: roles, valueType: StringArray, values: [z]}]"
    token = rule(f"principal: {{jwt: {{provider: example, scopes: [s, t], {claims}}}}}").token
    assert isinstance(token, TokenCondition)
    assert (token.provider, token.scopes) == ("example", ("s", "t"))
    assert [(one.claim, one.path, one.type, one.values) for one in token.claims] == [
        ("a.b", ("a", "b"), ClaimType.STRING, ("v", "w")),
        ("roles", ("roles",), ClaimType.LIST, ("z",)),
    ]
    assert not any(one.wildcards or one.not_values for one in token.claims)


def test_provider_must_be_one_of_the_same_policy() -> None:
    found = refused("principal: {jwt: {provider: exmaple, scopes: [s]}}")
    found.error(
        "refers to what is not there: provider `exmaple` (did you mean `example`?); accepted: a provider of this"
    )


def test_token_condition_without_jwt_section() -> None:
    found = refused("principal: {jwt: {provider: example, scopes: [s]}}", "")
    found.error("if authorization.rules.principal.jwt is used, jwt must be defined")
    assert len(found.errors) == 1


@pytest.mark.parametrize(
    ("jwt", "message"),
    [
        ("{provider: example}", "at least one of claims or scopes must be specified"),
        ("{provider: example, claims: []}", "at least 1 entries"),
        ("{scopes: [a]}", "`provider` is required"),
        ("{provider: example, claims: [{name: a}]}", "`values` is required"),
        (
            "{provider: example, claims: [{name: a, values: [true]}]}",
            "expected a string (quote it), found a boolean `true`",
        ),
        ("{provider: example, claims: [{name: a, valueType: Bool, values: [a]}]}", "accepted: String, StringArray"),
        ("{provider: example, scopes: ['a b']}", "`a b` can never match: a scope is one word"),
        ("{provider: example, scopes: [a], role: b}", "unknown field `role`"),
    ],
)
def test_bad_token_conditions(jwt: str, message: str) -> None:
    refused(f"principal: {{jwt: {jwt}}}").error(message)
