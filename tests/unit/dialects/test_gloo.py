"""Gloo's JWTPolicy: every field honoured, or refused with a message that names it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.files import read_sources
from eastgate.model.keys import LocalKeys, RemoteKeys, Retry
from eastgate.model.policies import (
    DEFAULT_SOURCES,
    Authorization,
    ClaimCondition,
    ClaimHeader,
    ClaimType,
    DestinationSelector,
    HeaderSource,
    Phase,
    Policy,
    Provider,
    RouteSelector,
    Rule,
    RuleAction,
    TokenCondition,
    TokenSources,
)
from tests.unit.dialects.reading import PEM, errors, policy_text, read, read_policy, the_error, warnings

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"


def provider_of(policy: Policy) -> Provider:
    assert policy.requirement is not None
    (one,) = policy.requirement.providers
    return one


def read_provider(text: str, *others: str) -> Provider:
    return provider_of(read_policy(provider=text, others=others))


def remote_of(text: str, *others: str) -> RemoteKeys:
    keys = read_provider(text, *others).keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved is None
    return keys


# --- the seeds' scenarios -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["claims", "east-west"])
def test_the_examples_read_without_an_error(name: str) -> None:
    found = read_policy_set(read_sources([str(EXAMPLES / name)]))
    assert errors(found) == []
    (policy,), (route,), (service,) = found.policies, found.routes, found.services
    assert policy.routes == (RouteSelector((("route", "httpbin"),)),)
    assert set(policy.routes[0].labels) <= set(route.labels)
    assert (service.namespace, service.name, service.ports[0].number) == ("httpbin", "httpbin", 8000)
    provider = provider_of(policy)
    assert provider.issuer == "https://localhost"
    assert provider.sources == TokenSources((HeaderSource("x-auth", "Bearer "),), ("auth_token",))
    assert isinstance(provider.keys, LocalKeys)
    assert provider.keys.text.startswith("-----BEGIN PUBLIC KEY-----")


def test_the_claims_example_asks_for_claims_and_scopes() -> None:
    (policy,) = read_policy_set(read_sources([str(EXAMPLES / "claims")])).policies
    condition = TokenCondition(
        None,
        (
            ClaimCondition("email", ("email",), ClaimType.ANY, ("*",), (), wildcards=True),
            ClaimCondition("org", ("org",), ClaimType.ANY, ("internal", "partner"), (), wildcards=True),
        ),
        ("is:developer",),
    )
    assert policy.authorization == Authorization((Rule("claims", RuleAction.ALLOW, condition),), RuleAction.DENY)


def test_the_east_west_example_copies_claims() -> None:
    (policy,) = read_policy_set(read_sources([str(EXAMPLES / "east-west")])).policies
    assert policy.authorization is None
    assert provider_of(policy).claim_headers == (
        ClaimHeader("x-org", "org", ("org",), append=True),
        ClaimHeader("x-email", "email", ("email",), append=True),
    )


# --- the envelope ---------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    policy = read_policy()
    assert (policy.dialect, policy.phase, policy.priority, policy.created) == ("gloo", Phase.PRE, 0, "")
    assert (policy.everything, policy.invalid, policy.authorization) == (True, (), None)
    assert policy.requirement is not None
    assert (policy.requirement.missing_allowed, policy.requirement.failed_allowed) == (False, False)
    assert policy.requirement.every_token
    assert provider_of(policy) == Provider("dev", LocalKeys("key"))
    assert provider_of(policy).sources == DEFAULT_SOURCES


def test_age_comes_from_the_metadata() -> None:
    text = policy_text().replace("namespace: shop}", "namespace: shop, creationTimestamp: 2026-01-02T03:04:05Z}")
    assert read(text).policies[0].created == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("spec:\n  confg: {}", "spec.confg", "unknown field `confg` (did you mean `config`?)"),
        ("specs: {}", "specs", "unknown field `specs` (did you mean `spec`?)"),
        ("spec: hello", "spec", "expected a mapping, found a string `hello`"),
        ("spec: {applyToRoutes: [{}], config: {}}", "spec.config.providers", "at least one provider is required"),
        ("spec: {applyToRoutes: [{}]}", "spec.config.providers", "at least one provider is required"),
    ],
)
def test_envelope_errors(text: str, field: str, message: str) -> None:
    found = read(
        "apiVersion: security.policy.gloo.solo.io/v2\nkind: JWTPolicy\nmetadata: {name: p, namespace: shop}\n" + text
    )
    assert any(one.field == field and one.message.startswith(message) for one in found.diagnostics), errors(found)
    assert found.policies[0].invalid
    assert found.policies[0].everything


# --- selection ------------------------------------------------------------------------------------------------------


def test_no_selector_is_everything_and_said() -> None:
    found = read(policy_text(spec=""))
    assert found.policies[0].everything
    assert ["applies to every route of namespace `shop`" in one for one in warnings(found)] == [True]
    assert warnings(read(policy_text(spec="applyToRoutes: [{}]"))) == []


def test_route_selectors() -> None:
    policy = read_policy(
        spec="""\
        applyToRoutes:
        - route: {labels: {a: b, c: d}}
        - route: {labels: {e: f}, namespace: other}
        - withDestinations: {selector: {name: web}, port: {number: 80}}
        """
    )
    assert policy.routes == (RouteSelector((("a", "b"), ("c", "d"))), RouteSelector((("e", "f"),), "other"))
    assert policy.destinations == (DestinationSelector("shop", "web", (), 80, of_routes=True),)
    assert not policy.everything


def test_destination_selectors_without_routes_select_no_routes() -> None:
    policy = read_policy(
        spec="""\
        applyToDestinations:
        - {}
        - {kind: SERVICE, selector: {namespace: other, labels: {a: b}}, port: {name: http}}
        """
    )
    assert not policy.everything
    assert policy.routes == ()
    assert policy.destinations == (
        DestinationSelector("shop"),
        DestinationSelector("other", None, (("a", "b"),), "http"),
    )


def test_cluster_and_workspace_have_no_effect() -> None:
    found = read(policy_text(spec="applyToRoutes: [{route: {labels: {a: b}, cluster: c1, workspace: ''}}]"))
    (warning,) = warnings(found)
    assert "spec.applyToRoutes[0].route.cluster: `cluster` has no effect" in warning


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("applyToRoutes: [{route: {lables: {a: b}}}]", "spec.applyToRoutes[0].route.lables"),
        ("applyToRoutes: [{route: {labels: {a: 1}}}]", "spec.applyToRoutes[0].route.labels.a"),
        ("applyToRoutes: [{labels: {a: b}}]", "spec.applyToRoutes[0].labels"),
        ("applyToRoutes: [{route: {}, withDestinations: {}}]", "spec.applyToRoutes[0].withDestinations"),
        ("applyToRoutes: {route: {}}", "spec.applyToRoutes"),
        ("applyToRoutes: [{withDestinations: {kind: EXTERNAL_SERVICE}}]", "spec.applyToRoutes[0].withDestinations.kind"),
        ("applyToDestinations: [{kind: SERVCE}]", "spec.applyToDestinations[0].kind"),
        ("applyToDestinations: [{port: {number: 1, name: a}}]", "spec.applyToDestinations[0].port.name"),
        ("applyToDestinations: [{port: 80}]", "spec.applyToDestinations[0].port"),
    ],
)  # fmt: skip
def test_a_selector_that_cannot_be_read_selects_everything(spec: str, field: str) -> None:
    found = read(policy_text(spec=spec))
    assert the_error(found).field == field
    assert found.policies[0].everything
    assert found.policies[0].invalid


def test_an_invalid_policy_keeps_the_selectors_that_could_be_read() -> None:
    found = read(policy_text("claims: [{key: a}]", "applyToRoutes: [{route: {labels: {a: b}}}]"))
    assert found.policies[0].routes == (RouteSelector((("a", "b"),)),)
    assert not found.policies[0].everything
    assert found.policies[0].invalid


# --- config ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("phase: {}", (Phase.PRE, 0)),
        ("phase: {preAuthz: {}}", (Phase.PRE, 0)),
        ("phase: {preAuthz: {priority: -3}}", (Phase.PRE, -3)),
        ("phase: {postAuthz: {priority: null}}", (Phase.POST, 0)),
        ("phase: {postAuthz: {priority: 7}}", (Phase.POST, 7)),
    ],
)
def test_phase_and_priority(config: str, expected: tuple[Phase, int]) -> None:
    policy = read_policy(config)
    assert (policy.phase, policy.priority) == expected


@pytest.mark.parametrize(
    ("config", "missing", "failed"),
    [
        ("validationPolicy: REQUIRE_VALID", False, False),
        ("validationPolicy: ALLOW_MISSING", True, False),
        ("validationPolicy: ALLOW_MISSING_OR_FAILED", True, True),
        ("allowMissingOrFailed: true", True, True),
        ("allowMissingOrFailed: false", False, False),
        ("allowMissingOrFailed: true\nvalidationPolicy: REQUIRE_VALID", True, True),
        ("allowMissingOrFailed: true\nvalidationPolicy: ALLOW_MISSING", True, False),
    ],
)
def test_validation_policy(config: str, missing: bool, failed: bool) -> None:
    requirement = read_policy(config).requirement
    assert requirement is not None
    assert (requirement.missing_allowed, requirement.failed_allowed) == (missing, failed)


def test_missing_allowed_and_claims_is_talked_about() -> None:
    found = read(policy_text("validationPolicy: ALLOW_MISSING\nrequiredScopes: [a]"))
    assert [one for one in warnings(found) if "then denied by the authorization" in one]


@pytest.mark.parametrize("written", ["AUTO", "FALSE", "false", "'FALSE'", "'TRUE'", "TRUE"])
def test_clear_route_cache_may_be_a_boolean(written: str) -> None:
    found = read(policy_text(f"clearRouteCache: {written}"))
    assert errors(found) == []
    assert bool(warnings(found)) == ("TRUE" in written)


def test_claims() -> None:
    policy = read_policy(
        """\
        claims:
        - {key: email, values: ["*@solo.io"]}
        - {key: role, notValues: [guest, "temp-*"]}
        - {key: realm.roles, nestedClaimDelimiter: ".", values: [qa]}
        - {key: https://solo.io/org, values: [x], nestedClaimDelimiter: ""}
        """
    )
    assert policy.authorization is not None
    assert policy.authorization.default is RuleAction.DENY
    (rule,) = policy.authorization.rules
    assert rule.token is not None
    assert [(one.claim, one.path, one.values, one.not_values) for one in rule.token.claims] == [
        ("email", ("email",), ("*@solo.io",), ()),
        ("role", ("role",), (), ("guest", "temp-*")),
        ("realm.roles", ("realm", "roles"), ("qa",), ()),
        ("https://solo.io/org", ("https://solo.io/org",), ("x",), ()),
    ]
    assert all(one.wildcards and one.type is ClaimType.ANY for one in rule.token.claims)


def test_empty_lists_ask_for_nothing() -> None:
    assert read_policy("claims: []\nrequiredScopes: []").authorization is None


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        ("claims: [{key: a, values: [x]}, {key: a, values: [b]}]", "spec.config.claims[1]",
         "claim `a` is already listed on line 7; put all its `values` and `notValues` into one entry"),
        ("claims: [{key: a}]", "spec.config.claims[0]", "at least one of `values`, `notValues` is required"),
        ("claims: [{key: a, values: []}]", "spec.config.claims[0].values",
         "at least one value in `values` or `notValues` is required"),
        ("claims: [{key: a, values: [true]}]", "spec.config.claims[0].values[0]",
         "expected a string (quote it), found a boolean `true`"),
        ("claims: [{values: [a]}]", "spec.config.claims[0].key", "`key` is required and must not be empty"),
        ("claims: [{key: a, values: [x], value: [x]}]", "spec.config.claims[0].value",
         "unknown field `value` (did you mean `values`?); accepted: key, nestedClaimDelimiter, notValues, values"),
        ("claims: [{key: a..b, nestedClaimDelimiter: ., values: [x]}]", "spec.config.claims[0].key",
         "`a..b` has an empty name between two delimiters `.`"),
        ("requiredScopes: ['a b']", "spec.config.requiredScopes",
         "`a b` is not a scope: a scope is one word; list them one by one"),
        ("phase: {postAuthz: {}}\nrequiredScopes: [a]", "spec.config.phase.postAuthz",
         "a policy with claims, scopes or rules authorizes and cannot run in `postAuthz`; accepted: preAuthz"),
        ("phase: {postAuthz: {}}\nclaims: [{key: a, values: [x]}]", "spec.config.phase.postAuthz",
         "a policy with claims, scopes or rules authorizes and cannot run in `postAuthz`; accepted: preAuthz"),
        ("phase: {preAuthz: {}, postAuthz: {}}", "spec.config.phase.postAuthz",
         "only one of `preAuthz`, `postAuthz` may be set, found `preAuthz` and `postAuthz`"),
        ("phase: {preAuthz: {priority: 3000000000}}", "spec.config.phase.preAuthz.priority",
         "expected an integer from -2147483648 to 2147483647, found `3000000000`"),
        ("validationPolicy: ALLOW_MISING", "spec.config.validationPolicy",
         "unknown value `ALLOW_MISING` (did you mean `ALLOW_MISSING`?); "
         "accepted: REQUIRE_VALID, ALLOW_MISSING, ALLOW_MISSING_OR_FAILED"),
        ("clearRouteCache: MAYBE", "spec.config.clearRouteCache", "unknown value `MAYBE`; accepted: AUTO, TRUE, FALSE"),
        ("authorization: {}", "spec.config.authorization",
         "unknown field `authorization`; accepted: allowMissingOrFailed, claims, clearRouteCache, phase, providers, "
         "requiredScopes, validationPolicy"),
    ],
)  # fmt: skip
def test_config_errors(config: str, field: str, message: str) -> None:
    found = read(policy_text(config))
    error = the_error(found)
    assert (error.field, error.message) == (field, message)
    assert error.position.file == "a.yaml"
    (policy,) = found.policies
    assert policy.invalid == (f"{field}: {message}",)


def test_claims_that_cannot_be_read_still_deny() -> None:
    found = read(policy_text("claims: [{key: a, values: [true]}]"))
    assert found.policies[0].authorization is not None
    assert found.policies[0].authorization.default is RuleAction.DENY


# --- providers ------------------------------------------------------------------------------------------------------


def test_everything_of_a_provider() -> None:
    provider = read_provider(
        """\
        issuer: https://idp.example.com/
        audiences: [a, b]
        tokenSource:
          headers: [{name: X-Token}, {name: Authorization, prefix: "JWT "}]
          queryParams: [t]
        local: {inline: key}
        claimsToHeaders:
        - {claim: solo.io/company, header: X-Company}
        - {claim: org, header: x-org, append: true}
        customDelimiter: ";"
        keepToken: true
        clockSkewSeconds: 0
        outputPayloadToHeader: X-Payload
        """
    )
    assert provider == Provider(
        name="dev",
        keys=LocalKeys("key"),
        issuer="https://idp.example.com/",
        audiences=("a", "b"),
        sources=TokenSources((HeaderSource("x-token"), HeaderSource("authorization", "JWT ")), ("t",)),
        claim_headers=(
            ClaimHeader("x-company", "solo.io/company", ("solo.io/company",), False, ";"),
            ClaimHeader("x-org", "org", ("org",), True, ";"),
        ),
        payload_header="x-payload",
        forward_token=True,
        clock_skew=0,
    )


def test_configured_sources_replace_the_defaults() -> None:
    provider = read_provider("tokenSource: {queryParams: [t]}\nlocal: {inline: key}")
    assert provider.sources == TokenSources(query=("t",))
    empty = read_provider("tokenSource: {headers: [], queryParams: []}\nlocal: {inline: key}")
    assert empty.sources == DEFAULT_SOURCES


def test_the_guides_spelling_of_query_params() -> None:
    found = read(policy_text(provider="tokenSource: {queryParameters: [t]}\nlocal: {inline: key}"))
    assert errors(found) == []
    assert ["the field is called `queryParams`" in one for one in warnings(found)] == [True]
    assert provider_of(found.policies[0]).sources == TokenSources(query=("t",))


def test_several_providers_keep_their_order() -> None:
    text = policy_text() + "\n      other: {local: {inline: k2}}\n      third: {local: {inline: k3}}"
    (policy,) = read(text).policies
    assert policy.requirement is not None
    assert [one.name for one in policy.requirement.providers] == ["dev", "other", "third"]


@pytest.mark.parametrize(
    ("provider", "field", "message"),
    [
        ("issuer: x", "", "one of `local`, `remote` is required"),
        ("local: {inline: a}\nremote: {url: 'https://a'}", ".remote",
         "only one of `local`, `remote` may be set, found `local` and `remote`"),
        ("local: {}", ".local", "one of `inline`, `secretRef` is required"),
        ("local: {inline: ''}", ".local.inline", "`inline` is required and must not be empty"),
        ("local: {inline: key}\nissuers: [a]", ".issuers",
         "unknown field `issuers` (did you mean `issuer`?); accepted: audiences, claimsToHeaders, clockSkewSeconds, "
         "customDelimiter, issuer, keepToken, local, outputPayloadToHeader, remote, tokenSource"),
        ("local: {inline: key}\nkeepToken: 'true'", ".keepToken", "expected true or false (without quotes), found a string `true`"),
        ("local: {inline: key}\nclockSkewSeconds: -1", ".clockSkewSeconds",
         "expected an integer from 0 to 4294967295, found `-1`"),
        ("local: {inline: key}\ntokenSource: {headers: [{prefix: x}]}", ".tokenSource.headers[0].name",
         "`name` is required and must not be empty"),
        ("local: {inline: key}\ntokenSource: {headers: [{name: 'X Auth'}]}", ".tokenSource.headers[0].name",
         "`X Auth` is not a header name; accepted: a token of RFC 9110"),
        ("local: {inline: key}\ntokenSource: {queryParams: ['']}", ".tokenSource.queryParams",
         "a name must not be empty"),
        ("local: {inline: key}\ntokenSource: {cookies: [a]}", ".tokenSource.cookies",
         "unknown field `cookies`; accepted: headers, queryParameters, queryParams"),
        ("local: {inline: key}\nclaimsToHeaders: [{claim: a}]", ".claimsToHeaders[0].header",
         "`header` is required and must not be empty"),
        ("local: {inline: key}\nclaimsToHeaders: [{claim: a, header: Host}]", ".claimsToHeaders[0].header",
         "`host` frames or routes the message; no claim may be put there"),
        ("local: {inline: key}\noutputPayloadToHeader: ':path'", ".outputPayloadToHeader",
         "`:path` is not a header name; accepted: a token of RFC 9110"),
    ],
)  # fmt: skip
def test_provider_errors(provider: str, field: str, message: str) -> None:
    error = the_error(read(policy_text(provider=provider)))
    assert (error.field, error.message) == (f"spec.config.providers.dev{field}", message)


# --- local keys -----------------------------------------------------------------------------------------------------


def secret(namespace: str = "shop", data: str = "", **values: str) -> str:
    lines = [f"  {key}: {base64.b64encode(value.encode()).decode()}" for key, value in values.items()]
    return "\n".join(
        ["apiVersion: v1", "kind: Secret", f"metadata: {{name: keys, namespace: {namespace}}}", "data:", *lines, data]
    )


REFERENCE = "local: {secretRef: {objectRef: {name: keys}, key: public}}"


def test_a_key_in_a_secret() -> None:
    assert read_provider(REFERENCE, secret(public=PEM)).keys == LocalKeys(PEM, "Secret shop/keys key public")
    text = secret(public="old", data="stringData: {public: new}")
    assert read_provider(REFERENCE, text).keys == LocalKeys("new", "Secret shop/keys key public")


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ((), "refers to what is not there: Secret `shop/keys`"),
        ((secret().replace("name: keys", "name: key"),),
         "refers to what is not there: Secret `shop/keys` (did you mean `key`?)"),
        ((secret(namespace="other", public=PEM),),
         "refers to what is not there: Secret `shop/keys` (there is one in namespace `other`)"),
        ((secret(pubic=PEM),), "Secret `shop/keys` has no key `public` (did you mean `pubic`?); it has: `pubic`"),
        ((secret(),), "Secret `shop/keys` has no key `public`; it has: none"),
        ((secret(data="  public: '%%%'"),), "key `public` of Secret `shop/keys` is not base64 of UTF-8 text"),
        ((secret(data="  public: gICA"),), "key `public` of Secret `shop/keys` is not base64 of UTF-8 text"),
    ],
)  # fmt: skip
def test_a_secret_that_does_not_help(others: tuple[str, ...], message: str) -> None:
    found = read(policy_text(provider=REFERENCE), *others)
    assert the_error(found).message == message
    keys = provider_of(found.policies[0]).keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved is not None


OTHER = "local: {secretRef: {objectRef: {name: keys, namespace: vault}, key: public}}"
GRANT = """\
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: vault}
spec:
  from: [{group: security.policy.gloo.solo.io, kind: JWTPolicy, namespace: shop}]
  to: [{group: "", kind: Secret, name: keys}]
"""


def test_only_public_keys_leave_another_namespace_without_a_grant() -> None:
    assert read_provider(OTHER, secret(namespace="vault", public=PEM + PEM)).keys == LocalKeys(
        PEM + PEM, "Secret vault/keys key public"
    )
    private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for text in ('{"kty":"oct","k":"c2VjcmV0"}', private, PEM + private, PEM + "x"):
        held = secret(namespace="vault", public=text)
        error = the_error(read(policy_text(provider=OTHER), held))
        assert error.code == "not-granted"
        assert "ReferenceGrant in `vault`" in error.message
        assert read_provider(OTHER, held, GRANT).keys == LocalKeys(text, "Secret vault/keys key public")


def test_which_keys_a_secret_of_another_namespace_has_is_not_said_without_a_grant() -> None:
    """The message ends in a status that whoever wrote the policy may read."""
    for held in (
        secret(namespace="vault", hidden=PEM),
        secret(namespace="vault", data="  public: '%%%'"),
        secret(namespace="vault"),
    ):
        error = the_error(read(policy_text(provider=OTHER), held))
        assert error.code == "not-granted"
        assert "hidden" not in error.message
    found = read(policy_text(provider=OTHER), secret(namespace="vault", hidden=PEM), GRANT)
    assert the_error(found).message.endswith("has no key `public`; it has: `hidden`")


# --- remote keys ----------------------------------------------------------------------------------------------------


def test_remote_defaults() -> None:
    assert remote_of("remote: {url: 'https://idp.example.com/keys'}") == RemoteKeys("https://idp.example.com/keys")
    assert remote_of("remote: {url: 'http://idp/keys'}") == RemoteKeys("http://idp/keys", tls=False)


def test_everything_of_remote() -> None:
    source = remote_of(
        """\
        remote:
          url: https://idp.example.com/keys
          cacheDuration: 1h30m
          timeout: 2.5s
          failedRefetchDuration: 300s
          enableAsyncFetch: true
          retryPolicy: {numRetries: 3, backoff: {baseInterval: 500ms, maxInterval: 10s}}
        """
    )
    assert source == RemoteKeys(
        "https://idp.example.com/keys",
        timeout=2.5,
        cache_duration=5400,
        failed_refetch=300,
        retry=Retry(3, 0.5, 10),
    )


@pytest.mark.parametrize(
    ("policy", "retry"),
    [
        ("{}", Retry(1, 1, 1)),
        ("{numRetries: 0}", Retry(0, 1, 1)),
        ("{numRetries: null, backoff: {}}", Retry(1, 1, 10)),
        ("{backoff: {baseInterval: 2s}}", Retry(1, 2, 20)),
    ],
)
def test_retry_defaults(policy: str, retry: Retry) -> None:
    assert remote_of(f"remote: {{url: 'https://a/k', retryPolicy: {policy}}}").retry == retry


def test_a_service_by_its_cluster_name() -> None:
    source = remote_of(
        "remote: {url: 'http://keycloak/keys', destinationRef: {ref: {name: kc, namespace: idp}, port: {number: 8080}}}"
    )
    assert (source.addresses, source.tls) == ((("kc.idp.svc.cluster.local", 8080),), False)


SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: kc, namespace: shop}
spec: {ports: [{name: http, port: 8080}, {name: https, port: 8443}]}
"""


@pytest.mark.parametrize(
    ("url", "port", "others", "address"),
    [
        ("https://a/k", ", port: {name: https}", (SERVICE,), 8443),
        ("https://a/k", "", (SERVICE.replace("{name: http, port: 8080}, ", ""),), 8443),
        ("https://a/k", "", (), 443),
        ("http://a:81/k", "", (), 81),
    ],
)
def test_the_port_of_a_service(url: str, port: str, others: tuple[str, ...], address: int) -> None:
    source = remote_of(f"remote: {{url: '{url}', destinationRef: {{ref: {{name: kc}}{port}}}}}", *others)
    assert source.addresses == (("kc.shop.svc.cluster.local", address),)


EXTERNAL = """\
apiVersion: networking.gloo.solo.io/v2
kind: ExternalService
metadata: {{name: idp, namespace: shop}}
spec: {{{spec}}}
"""
TO_EXTERNAL = (
    "remote: {{url: '{url}', destinationRef: {{kind: EXTERNAL_SERVICE, ref: {{name: idp, cluster: ''}}{port}}}}}"
)
ENDPOINT = """\
apiVersion: networking.gloo.solo.io/v2
kind: ExternalEndpoint
metadata: {{name: e{name}, namespace: {namespace}, labels: {{app: idp}}}}
spec: {{address: {address}, ports: [{{name: https, number: 8443}}], locality: {{region: r}}}}
"""


@pytest.mark.parametrize(
    ("spec", "url", "port", "addresses", "tls", "name"),
    [
        ("hosts: [idp.example.com], ports: [{number: 443, protocol: HTTPS}]", "https://idp.example.com/k", "",
         (("idp.example.com", 443),), True, "idp.example.com"),
        ("hosts: [idp.example.com], ports: [{number: 443, name: https, protocol: HTTPS, clientsideTls: {}}]",
         "https://idp.example.com/k", ", port: {number: 443}", (("idp.example.com", 443),), True, "idp.example.com"),
        ("hosts: [idp.example.com], ports: [{number: 80, targetPort: {number: 443}, clientsideTls: {sni: x.y}}]",
         "http://idp.example.com/k", ", port: {number: 80}", (("idp.example.com", 443),), True, "x.y"),
        ("hosts: [a.com, b.com], ports: [{number: 80, name: http}, {number: 443, name: https, protocol: TLS}]",
         "https://b.com/k", ", port: {name: https}", (("b.com", 443),), True, "b.com"),
        ("hosts: [a.com, b.com], ports: [{number: 80, protocol: HTTP, clientsideTls: {mode: DISABLE}}]",
         "http://c.com/k", "", (("a.com", 80), ("b.com", 80)), False, "c.com"),
        ("hosts: ['*.example.com'], ports: [{number: 443, protocol: HTTPS}]", "https://idp.example.com/k", "",
         (("idp.example.com", 443),), True, None),
        ("addresses: [192.0.2.7, '2001:db8::1/128'], ports: [{number: 443}]", "https://idp.example.com/k", "",
         (("192.0.2.7", 443), ("2001:db8::1", 443)), True, "idp.example.com"),
        ("hosts: [idp.example.com], ports: [{number: 443}], subjectAltNames: [idp.example.com]",
         "https://idp.example.com/k", "", (("idp.example.com", 443),), True, "idp.example.com"),
    ],
)  # fmt: skip
def test_an_external_service(
    spec: str, url: str, port: str, addresses: tuple[tuple[str, int], ...], tls: bool, name: str | None
) -> None:
    source = remote_of(TO_EXTERNAL.format(url=url, port=port), EXTERNAL.format(spec=spec))
    assert (source.addresses, source.tls, source.server_name, source.url) == (addresses, tls, name, url)


def test_external_endpoints_of_the_same_namespace_only() -> None:
    spec = "hosts: [idp.example.com], selector: {app: idp}, ports: [{number: 443, targetPort: {name: https}, protocol: TLS}]"
    source = remote_of(
        TO_EXTERNAL.format(url="https://idp.example.com/k", port=""),
        EXTERNAL.format(spec=spec),
        ENDPOINT.format(name=1, namespace="shop", address="192.0.2.1"),
        ENDPOINT.format(name=2, namespace="shop", address="192.0.2.2"),
        ENDPOINT.format(name=3, namespace="evil", address="192.0.2.3"),
    )
    assert source.addresses == (("192.0.2.1", 8443), ("192.0.2.2", 8443))
    assert source.server_name == "idp.example.com"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hosts: [a.com], ports: [{number: 443, clientsideTls: {mode: MUTUAL}}]", "needs a client certificate"),
        ("hosts: [a.com], ports: [{number: 443, clientsideTls: {caCertificates: /ca.pem}}]", "means nothing here"),
        ("hosts: [a.com], ports: [{number: 443, clientsideTls: {insecureSkipVerify: true}}]", "prove nothing"),
        ("hosts: [a.com], ports: [{number: 443, clientsideTls: {credentialName: x}}]", "client certificates"),
        ("hosts: [a.com], ports: [{number: 443}], subjectAltNames: [b.com]", "which is not listed"),
        ("hosts: [a.com], ports: [{number: 443}, {number: 444}]",
         "`port` is required: ExternalService `shop/idp` has these: `443`, `444`"),
        ("hosts: ['*.b.com'], ports: [{number: 443}]", "`*.b.com` does not cover `a.com` of the URL"),
        ("addresses: [10.0.0.0/8], ports: [{number: 443}]", "not a single address"),
        ("hosts: [a.com], addresses: [10.0.0.1], ports: [{number: 443}]", "only one of `hosts`, `addresses`"),
        ("hosts: [a.com]", "`port` is required: ExternalService `shop/idp` has these: none"),
        ("hosts: [a.com], ports: [{number: 443, targetPort: {name: x}}]", "needs ExternalEndpoints"),
    ],
)  # fmt: skip
def test_an_external_service_that_cannot_be_used(spec: str, message: str) -> None:
    found = read(policy_text(provider=TO_EXTERNAL.format(url="https://a.com/k", port="")), EXTERNAL.format(spec=spec))
    assert any(message in one for one in errors(found)), errors(found)
    keys = provider_of(found.policies[0]).keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved is not None
    assert keys.addresses == ()
    assert found.policies[0].invalid


@pytest.mark.parametrize(
    ("remote", "field", "message"),
    [
        ("{}", ".url", "`url` is required and must not be empty"),
        ("{url: idp.example.com/keys}", ".url", "`idp.example.com/keys` is not an absolute http or https URL; accepted: "
         "`https://host/path` or `http://host/path`"),
        ("{url: 'ftp://a/k'}", ".url", "`ftp://a/k` is not an absolute http or https URL; accepted: "
         "`https://host/path` or `http://host/path`"),
        ("{url: 'https://u:p@a/k'}", ".url", "`…@a/k` holds credentials, which would end up in logs; accepted: "
         "`https://host/path` or `http://host/path`"),
        ("{url: 'https://a:99999/k'}", ".url", "`https://a:99999/k` is not a URL; accepted: "
         "`https://host/path` or `http://host/path`"),
        ("{url: 'https://a/k', cacheDuration: 5 minutes}", ".cacheDuration",
         "`5 minutes` is not a duration above zero; accepted: `600s`, `1.5s`, `500ms`, `10m`, `1h30m`, up to a year"),
        ("{url: 'https://a/k', timeout: 0s}", ".timeout",
         "`0s` is not a duration above zero; accepted: `600s`, `1.5s`, `500ms`, `10m`, `1h30m`, up to a year"),
        ("{url: 'https://a/k', timeout: 5}", ".timeout",
         "`5` is not a duration above zero; accepted: `600s`, `1.5s`, `500ms`, `10m`, `1h30m`, up to a year"),
        ("{url: 'https://a/k', retryPolicy: {backoff: {baseInterval: 2s, maxInterval: 1s}}}",
         ".retryPolicy.backoff.maxInterval", "must not be below `baseInterval` (2 s)"),
        ("{url: 'https://a/k', destinationRef: {kind: VIRTUAL_DESTINATION, ref: {name: x}}}", ".destinationRef.kind",
         "a VirtualDestination is not resolved; accepted: SERVICE, EXTERNAL_SERVICE"),
        ("{url: 'https://a/k', destinationRef: {kind: EXTERNAL_SERVICE, ref: {name: x}}}", ".destinationRef.ref",
         "refers to what is not there: ExternalService `shop/x`"),
        ("{url: 'https://a/k', destinationRef: {ref: {name: x}, port: {name: http}}}", ".destinationRef.port",
         "port `http` cannot be looked up: Service `shop/x` is not among what was read; give `port.number`"),
        ("{url: 'https://a/k', caCertificate: {inline: x}}", ".caCertificate",
         "unknown field `caCertificate`; accepted: cacheDuration, destinationRef, enableAsyncFetch, "
         "failedRefetchDuration, retryPolicy, timeout, url"),
    ],
)  # fmt: skip
def test_remote_errors(remote: str, field: str, message: str) -> None:
    found = read(policy_text(provider=f"remote: {remote}"))
    error = the_error(found)
    assert (error.field, error.message) == (f"spec.config.providers.dev.remote{field}", message)
    assert found.policies[0].invalid


def test_a_password_in_a_url_is_not_repeated() -> None:
    found = read(policy_text(provider="remote: {url: 'https://u:hunter2@a/k'}"))
    assert "hunter2" not in str(the_error(found))


def test_a_key_set_without_quotes_is_not_repeated() -> None:
    error = the_error(read(policy_text(provider="local: {inline: {keys: [{kty: oct, k: c2VjcmV0}]}}")))
    assert error.message == "expected a string, found a mapping; put the text in quotes, or on lines after `|`"


def test_fetching_late_is_noted() -> None:
    found = read(policy_text(provider="remote: {url: 'https://a/k', enableAsyncFetch: false}"))
    assert ["always fetched ahead" in one for one in warnings(found)] == [True]


# --- empty values out of a template --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["claims", "requiredScopes"])
def test_an_empty_list_of_demands_is_said(field: str) -> None:
    found = read(policy_text(f"{field}: []"))
    assert errors(found) == []
    assert f"an empty `{field}` demands nothing of a token" in warnings(found)[0]


def test_an_empty_issuer_is_said() -> None:
    found = read(policy_text(provider="issuer: ''\nlocal: {inline: key}"))
    assert errors(found) == []
    assert "an empty `issuer` is not compared" in warnings(found)[0]
