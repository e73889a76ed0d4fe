"""Our own kinds: everything of Gloo's shape, and what goes beyond."""

from __future__ import annotations

import inspect
from textwrap import dedent

import pytest

from eastgate.dialects import eastgate
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import (
    Authorization,
    ClaimCondition,
    ClaimHeader,
    ClaimType,
    Policy,
    Provider,
    Rule,
    RuleAction,
    TokenCondition,
    TokenSources,
)
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch
from tests.unit.dialects.reading import OWN, PEM, errors, policy_text, read, table_text, the_error, warnings

LOCAL = "local: {inline: key}"


def read_own(config: str = "", provider: str = LOCAL, *others: str) -> Policy:
    found = read(policy_text(config, api=OWN, provider=provider), *others)
    assert errors(found) == []
    return found.policies[0]


def provider_of(policy: Policy) -> Provider:
    assert policy.requirement is not None
    return policy.requirement.providers[0]


def any_of(claim: str, path: tuple[str, ...], *values: str) -> ClaimCondition:
    return ClaimCondition(claim, path, ClaimType.ANY, values, (), wildcards=True)


def test_the_policies_in_the_documentation_read() -> None:
    text = inspect.getdoc(eastgate) or ""
    first = dedent(text[text.index("    apiVersion:") : text.index("\nInstead of")])
    rules = dedent(text[text.index("    config:\n      authorization:") : text.index("\nA RouteTable is")])
    data = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: login-ca, namespace: shop}}
data: {{ca.crt: "{CERTIFICATE.splitlines()[0]}"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: partner-keys, namespace: shop}}
data: {{jwks.json: "{{}}"}}
"""
    (policy,) = read(first, data).policies
    assert read(first, data).diagnostics == ()
    assert policy.requirement is not None
    assert [one.name for one in policy.requirement.providers] == ["login", "partner"]
    second = policy_text(rules.removeprefix("config:\n"), api=OWN).replace("      dev:", "      login:")
    found = read(second)
    assert found.diagnostics == ()
    assert found.policies[0].authorization is not None


def test_no_selector_is_every_route_of_the_namespace() -> None:
    found = read(policy_text(spec="", api=OWN))
    assert found.policies[0].everything
    assert found.policies[0].dialect == "eastgate"
    assert found.diagnostics == ()


def test_cookies_and_required_claims() -> None:
    provider = provider_of(
        read_own(provider=f"tokenSource: {{cookies: [session]}}\nrequiredClaims: [exp, sub]\n{LOCAL}")
    )
    assert provider.sources == TokenSources(cookies=("session",))
    assert provider.required_claims == ("exp", "sub")


def test_claim_paths() -> None:
    policy = read_own(
        "claims: [{path: [realm_access, roles], values: [a]}, {key: a.b, nestedClaimDelimiter: ., notValues: [c]}]",
        f"claimsToHeaders: [{{path: [a, b.c], header: x-b}}, {{claim: d, header: x-d}}]\n{LOCAL}",
    )
    assert policy.authorization is not None
    (rule,) = policy.authorization.rules
    assert rule.token is not None
    assert [(one.claim, one.path) for one in rule.token.claims] == [
        ("realm_access.roles", ("realm_access", "roles")),
        ("a.b", ("a", "b")),
    ]
    assert provider_of(policy).claim_headers == (
        ClaimHeader("x-b", "a.b.c", ("a", "b.c")),
        ClaimHeader("x-d", "d", ("d",)),
    )


@pytest.mark.parametrize(
    ("config", "missing", "failed"),
    [
        ("", False, False),
        ("missing: Allow", True, False),
        ("failed: Allow", False, True),
        ("missing: Allow\nfailed: Allow", True, True),
        ("missing: Deny", False, False),
        ("validationPolicy: ALLOW_MISSING", True, False),
    ],
)
def test_missing_and_failed(config: str, missing: bool, failed: bool) -> None:
    requirement = read_own(config).requirement
    assert requirement is not None
    assert (requirement.missing_allowed, requirement.failed_allowed) == (missing, failed)


def config_map(namespace: str = "shop", text: str = "key", key: str = "jwks") -> str:
    body = "\n".join("    " + line for line in text.splitlines())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: keys, namespace: {namespace}}}\ndata:\n  {key}: |\n{body}\n"


@pytest.mark.parametrize(
    ("provider", "origin"),
    [
        ("jwks: {inline: key}", "inline"),
        ("local: {configMapRef: {name: keys, key: jwks}}", "ConfigMap shop/keys key jwks"),
        ("jwks: {configMapRef: {name: keys, key: jwks}}", "ConfigMap shop/keys key jwks"),
        ("local: {secretRef: {name: keys, key: k}}", "Secret shop/keys key k"),
        ("local: {secretRef: {objectRef: {name: keys, namespace: shop}, key: k}}", "Secret shop/keys key k"),
    ],
)
def test_where_local_keys_are_kept(provider: str, origin: str) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}\nstringData: {k: key}"
    keys = provider_of(read_own("", provider, config_map(), secret)).keys
    assert isinstance(keys, LocalKeys)
    assert (keys.text.strip(), keys.origin) == ("key", origin)


def test_another_namespaces_config_map_needs_a_grant() -> None:
    provider = "local: {configMapRef: {name: keys, namespace: other, key: jwks}}"
    text = policy_text(api=OWN, provider=provider)
    assert the_error(read(text, config_map("other"))).code == "not-granted"
    assert errors(read(text, config_map("other", PEM))) == []
    grant = """\
        apiVersion: gateway.networking.k8s.io/v1beta1
        kind: ReferenceGrant
        metadata: {name: g, namespace: other}
        spec:
          from: [{group: policy.eastgate.dev, kind: JWTPolicy, namespace: shop}]
          to: [{group: "", kind: ConfigMap}]
        """
    assert errors(read(text, config_map("other"), grant)) == []


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def test_a_ca_and_a_name_for_the_remote() -> None:
    keys = provider_of(
        read_own(
            "",
            "remote: {url: 'https://a/k', serverName: b, caCertificate: {configMapRef: {name: keys, key: ca.crt}}}",
            config_map(text=CERTIFICATE, key="ca.crt"),
        )
    ).keys
    assert keys == RemoteKeys("https://a/k", ca=CERTIFICATE + "\n", server_name="b")


@pytest.mark.parametrize(
    ("remote", "field", "message"),
    [
        ("url: 'https://a/k', caCertificate: {inline: x}", "caCertificate", "inline holds no PEM certificate"),
        ("url: 'https://a/k', caCertificate: {}", "caCertificate",
         "one of `inline`, `secretRef`, `configMapRef` is required"),
        ("url: 'https://a/k', caCertificate: {configMapRef: {name: none, key: a}}", "caCertificate.configMapRef",
         "refers to what is not there: ConfigMap `shop/none`"),
        (f"url: 'http://a/k', caCertificate: {{inline: '{CERTIFICATE.splitlines()[0]}'}}", "caCertificate",
         "`caCertificate` needs an https URL"),
    ],
)  # fmt: skip
def test_a_ca_that_does_not_help(remote: str, field: str, message: str) -> None:
    found = read(policy_text(api=OWN, provider=f"remote: {{{remote}}}"))
    error = the_error(found)
    assert (error.field, error.message) == (f"spec.config.providers.dev.remote.{field}", message)
    keys = provider_of(found.policies[0]).keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved is not None
    assert keys.ca is None


def test_ordered_rules() -> None:
    policy = read_own(
        """\
        authorization:
          defaultAction: Allow
          rules:
          - name: readers
            action: Allow
            methods: [GET, HEAD]
            paths: [{segments: /orders/}, {exact: /h, ignoreCase: true}, {regex: "/v[0-9]+", invert: true}]
            headers: [{name: X-Tenant, value: blue}]
            addresses: [10.0.0.0/8, 192.0.2.7, "2001:db8::/32"]
            provider: dev
            claims: [{key: org, values: [internal]}]
            scopes: [a, b]
          - {action: Deny}
        """
    )
    assert policy.authorization == Authorization(
        (
            Rule(
                "readers",
                RuleAction.ALLOW,
                TokenCondition("dev", (any_of("org", ("org",), "internal"),), ("a", "b")),
                ("GET", "HEAD"),
                (StringMatch(Comparison.SEGMENTS, "/orders"), StringMatch(Comparison.EXACT, "/h", True)),
                (StringMatch(Comparison.REGEX, "/v[0-9]+"),),
                (FieldMatch("x-tenant", StringMatch(Comparison.EXACT, "blue")),),
                (),
                ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"),
            ),
            Rule("rule-1", RuleAction.DENY),
        ),
        RuleAction.ALLOW,
    )


def test_an_empty_authorization_denies() -> None:
    assert read_own("authorization: {}").authorization == Authorization((), RuleAction.DENY)


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        ("authorization: {rules: [{name: a}]}", "authorization.rules[0].action",
         "`action` is required; accepted: Allow, Deny"),
        ("authorization: {rules: [{action: allow}]}", "authorization.rules[0].action",
         "unknown value `allow` (did you mean `Allow`?); accepted: Allow, Deny"),
        ("authorization: {rules: [{action: Allow, provider: dve}]}", "authorization.rules[0].provider",
         "no provider `dve` (did you mean `dev`?); there are: dev"),
        ("authorization: {rules: [{action: Allow, addresses: [10.0.0.1/8]}]}", "authorization.rules[0].addresses[0]",
         "`10.0.0.1/8` is not an address or a CIDR (did you mean `10.0.0.0/8`?); "
         "accepted: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`"),
        ("authorization: {rules: [{action: Allow, addresses: [local]}]}", "authorization.rules[0].addresses[0]",
         "`local` is not an address or a CIDR; accepted: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`"),
        ("authorization: {rules: [{action: Allow, paths: [{}]}]}", "authorization.rules[0].paths[0]",
         "one of `exact`, `prefix`, `segments`, `regex` is required"),
        ("authorization: {rules: [{action: Allow, requiredScopes: [a]}]}", "authorization.rules[0].requiredScopes",
         "unknown field `requiredScopes`; accepted: action, addresses, claims, headers, methods, name, paths, "
         "provider, scopes"),
        ("authorization: {rules: [{action: Allow, methods: ['']}]}", "authorization.rules[0].methods",
         "`` is not a method; accepted: a word like `GET`"),
        ("authorization: {}\nrequiredScopes: [a]", "authorization",
         "set either `authorization` or `claims` and `requiredScopes`: rules hold both"),
        ("validationPolicy: REQUIRE_VALID\nmissing: Allow", "validationPolicy",
         "set either `validationPolicy` or `missing` and `failed`"),
        ("missing: allow", "missing", "unknown value `allow` (did you mean `Allow`?); accepted: Allow, Deny"),
        ("claims: [{key: a, path: [a], values: [b]}]", "claims[0].path",
         "only one of `key`, `path` may be set, found `key` and `path`"),
        ("claims: [{path: [a, ''], values: [b]}]", "claims[0].path",
         "a path is a list of claim names, none of them empty"),
        ("claims: [{values: [b]}]", "claims[0]", "one of `key`, `path` is required"),
        ("allowMissingOrFailed: true", "allowMissingOrFailed",
         "unknown field `allowMissingOrFailed`; accepted: authorization, claims, clearRouteCache, failed, missing, "
         "phase, providers, requiredScopes, tokens, validationPolicy"),
    ],
)  # fmt: skip
def test_errors(config: str, field: str, message: str) -> None:
    found = read(policy_text(config, api=OWN))
    assert (f"spec.config.{field}", message) in [(one.field, one.message) for one in found.diagnostics], errors(found)
    assert found.policies[0].invalid


def test_a_method_in_the_wrong_case_is_talked_about() -> None:
    found = read(policy_text("authorization: {rules: [{action: Deny, methods: [get]}]}", api=OWN))
    assert ["did you mean `GET`?" in one for one in warnings(found)] == [True]


def test_route_tables() -> None:
    found = read(
        table_text(
            "- matchers: [{uri: {segments: /api/}}, {uri: {segments: /}}]\n"
            "  forwardTo: {destinations: [{ref: {name: web}}], pathRewrite: /v1}",
            "weight: 0",
            OWN,
        )
    )
    assert found.diagnostics == ()
    (route,) = found.routes
    assert route.hosts == ()
    assert route.matches == (
        Match(StringMatch(Comparison.SEGMENTS, "/api")),
        Match(StringMatch(Comparison.SEGMENTS, "/")),
    )
    assert route.rewritten == (Match(StringMatch(Comparison.SEGMENTS, "/v1")),)


@pytest.mark.parametrize(
    ("parent", "child", "joined"),
    [
        ("segments: /a", "segments: /a/b", "/a/b"),
        ("segments: /a", "prefix: /a/", "/a/"),
        ("prefix: /a", "segments: /ab", "/ab"),
        ("segments: /a", "prefix: /ab", None),
        ("segments: /a", "segments: /ab", None),
        ("segments: /a", "exact: /a", "/a"),
        ("segments: /a", "regex: '/a/[0-9]'", "/a/[0-9]"),
        ("segments: /", "prefix: /x", "/x"),
    ],
)
def test_joining_whole_path_elements(parent: str, child: str, joined: str | None) -> None:
    to_child = "delegate: {routeTables: [{name: c}]}"
    root = table_text(f"- {to_child}\n  matchers: [{{uri: {{{parent}}}}}]", api=OWN)
    leaf = table_text(
        f"- forwardTo: {{destinations: [{{ref: {{name: web}}}}]}}\n  matchers: [{{uri: {{{child}}}}}]", "weight: 0", OWN
    ).replace("name: t,", "name: c,")
    found = read(root, leaf)
    (route,) = found.routes
    (match,) = route.matches
    assert match.path is not None
    assert (match.path.value if not route.invalid else None) == joined


@pytest.mark.parametrize("field", ["methods", "paths", "headers", "addresses", "claims", "scopes"])
def test_an_empty_list_in_a_rule_is_not_any(field: str) -> None:
    """Out of a template it would turn "nobody" into "everybody"."""
    rule = f"authorization:\n  rules:\n  - {{action: Allow, {field}: []}}"
    found = read(policy_text(rule, api=OWN))
    (one,) = errors(found)
    assert f"spec.config.authorization.rules[0].{field}: `{field}` is empty; list what must match" in one
    assert found.policies[0].invalid
