"""``spec.jwt`` of a SecurityPolicy, field by field, with the CRD's own messages."""

from __future__ import annotations

import pytest

from eastgate.model.keys import LocalKeys, RemoteKeys, Retry
from eastgate.model.policies import DEFAULT_SOURCES, ClaimHeader, HeaderSource, Provider, Requirement, TokenSources
from tests.unit.dialects.gateway_reading import Reading, reading
from tests.unit.dialects.test_envoy_gateway_policy import on_foo, policy


def with_jwt(jwt: str, *more: str) -> Reading:
    target = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: foo}]\n"
    route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: foo}\nspec: {rules: [{backendRefs: [{name: backend, port: 1}]}]}\n"
    return reading(policy(target + f"jwt: {jwt}"), route, *more)


def requirement(jwt: str) -> Requirement:
    found = with_jwt(jwt)
    assert found.errors == []
    assert found.policy.requirement is not None
    return found.policy.requirement


def provider(fields: str) -> Provider:
    (one,) = requirement(f"{{providers: [{{name: a, localJWKS: {{inline: x}}, {fields}}}]}}").providers
    return one


def remote(fields: str, *more: str) -> tuple[RemoteKeys, Reading]:
    found = with_jwt(f"{{providers: [{{name: a, remoteJWKS: {{{fields}}}}}]}}", *more)
    assert found.policy.requirement is not None
    keys = found.policy.requirement.providers[0].keys
    assert isinstance(keys, RemoteKeys)
    return keys, found


def refused(jwt: str, message: str) -> str:
    found = with_jwt(jwt)
    assert found.policy.invalid
    return found.error(message)


# --- the requirement -----------------------------------------------------------------------------------------------


def test_optional_and_fail_open() -> None:
    provider = "providers: [{name: a, localJWKS: {inline: x}}]"
    strict = requirement(f"{{{provider}}}")
    assert (strict.missing_allowed, strict.failed_allowed, strict.every_token) == (False, False, False)
    optional = requirement(f"{{optional: true, {provider}}}")
    assert (optional.missing_allowed, optional.failed_allowed) == (True, False)
    open_ = requirement(f"{{failOpen: true, {provider}}}")
    assert (open_.missing_allowed, open_.failed_allowed) == (True, True)
    refused(f"{{optional: 'true', {provider}}}", "spec.jwt.optional: expected true or false")


def test_at_least_one_and_at_most_sixteen_providers() -> None:
    refused("{}", "`providers` is required")
    refused("{providers: []}", "at least 1 entries")
    many = ", ".join(f"{{name: p{n}, localJWKS: {{inline: x}}}}" for n in range(16))
    assert len(requirement(f"{{providers: [{many}]}}").providers) == 16
    refused(f"{{providers: [{many}, {{name: p16, localJWKS: {{inline: x}}}}]}}", "at most 16 entries, found 17")


def test_provider_names_are_unique_and_qualified() -> None:
    one = "{name: a, localJWKS: {inline: x}}"
    refused(f"{{providers: [{one}, {one}]}}", "provider name `a` must be unique")
    refused("{providers: [{name: a b, localJWKS: {inline: x}}]}", "`a b` is not a qualified name")
    refused("{providers: [{localJWKS: {inline: x}}]}", "`name` is required")
    for name in ("example.com/a", "A_b.c-1", "x" * 63):
        assert requirement(f"{{providers: [{{name: {name}, localJWKS: {{inline: x}}}}]}}").providers[0].name == name


@pytest.mark.parametrize("issuer", ["https://foo.bar.com", "urn:x", "me@example.com", "anything else", "/path:x"])
def test_issuers(issuer: str) -> None:
    assert provider(f"issuer: '{issuer}'").issuer == issuer


def test_empty_issuer_is_none() -> None:
    assert provider("issuer: ''").issuer is None


@pytest.mark.parametrize(
    ("issuer", "message"),
    [
        (":8080", "when issuer contains ':' character, it MUST be a valid URI, found `:8080`"),
        ("http://exa mple", "it MUST be a valid URI"),
        ("http://[::1", "it MUST be a valid URI"),
        ("@example", "when issuer contains '@' character, it MUST be a valid Email Address"),
        ("x" * 254, "at most 253 characters"),
    ],
)
def test_bad_issuers(issuer: str, message: str) -> None:
    refused(f"{{providers: [{{name: a, localJWKS: {{inline: x}}, issuer: '{issuer}'}}]}}", message)


def test_audiences() -> None:
    assert provider("audiences: [a, b]").audiences == ("a", "b")
    nine = ", ".join("abcdefghi")
    refused(f"{{providers: [{{name: a, localJWKS: {{inline: x}}, audiences: [{nine}]}}]}}", "at most 8 entries")


# --- claim headers and token sources -------------------------------------------------------------------------------


def test_claim_headers_are_added_as_envoy_does() -> None:
    assert provider("claimToHeaders: [{header: X-User, claim: user.name}]").claim_headers == (
        ClaimHeader("x-user", "user.name", ("user", "name"), append=True, delimiter=""),
    )


@pytest.mark.parametrize("header", ["Host", "Content-Length", "transfer_encoding", ":path", "x y", ""])
def test_claims_never_reach_headers_that_frame_the_message(header: str) -> None:
    fields = f"claimToHeaders: [{{header: '{header}', claim: sub}}]"
    assert with_jwt(f"{{providers: [{{name: a, localJWKS: {{inline: x}}, {fields}}}]}}").policy.invalid


def test_recompute_route_needs_claim_headers_and_has_no_effect() -> None:
    refused(
        "{providers: [{name: a, localJWKS: {inline: x}, recomputeRoute: true}]}",
        "claimToHeaders must be specified if recomputeRoute is enabled.",
    )
    found = with_jwt(
        "{providers: [{name: a, localJWKS: {inline: x}, recomputeRoute: true, claimToHeaders: [{header: x, claim: c}]}]}"
    )
    assert found.errors == []
    found.warning("recomputeRoute: no effect")
    assert with_jwt("{providers: [{name: a, localJWKS: {inline: x}, recomputeRoute: false}]}").diagnostics == []


def test_default_sources() -> None:
    assert provider("audiences: []").sources == DEFAULT_SOURCES
    assert provider("extractFrom: {}").sources == DEFAULT_SOURCES


@pytest.mark.parametrize(
    ("extract", "sources"),
    [
        ("{headers: [{name: X-Auth, valuePrefix: 'Bearer '}]}", TokenSources((HeaderSource("x-auth", "Bearer "),))),
        ("{headers: [{name: Authorization}]}", TokenSources((HeaderSource("authorization"),))),
        ("{cookies: [session]}", TokenSources(cookies=("session",))),
        ("{params: [token, t]}", TokenSources(query=("token", "t"))),
    ],
)
def test_any_source_switches_both_defaults_off(extract: str, sources: TokenSources) -> None:
    assert provider(f"extractFrom: {extract}").sources == sources


@pytest.mark.parametrize(
    "extract", ["{cookies: ['a b']}", "{params: ['']}", "{headers: [{valuePrefix: x}]}", "{query: [a]}"]
)
def test_bad_sources(extract: str) -> None:
    assert with_jwt(f"{{providers: [{{name: a, localJWKS: {{inline: x}}, extractFrom: {extract}}}]}}").policy.invalid


# --- local keys ----------------------------------------------------------------------------------------------------


def test_exactly_one_source_of_keys() -> None:
    refused("{providers: [{name: a}]}", "either remoteJWKS or localJWKS must be specified.")
    both = "{providers: [{name: a, localJWKS: {inline: x}, remoteJWKS: {uri: 'https://a/b'}}]}"
    refused(both, "remoteJWKS and localJWKS cannot both be specified.")


def test_inline_keys_are_taken_as_they_are_and_never_shown() -> None:
    keys = provider("audiences: []").keys
    assert isinstance(keys, LocalKeys)
    assert keys.text == "x"
    assert keys.origin == "SecurityPolicy default/p spec.jwt.providers[0].localJWKS.inline"
    assert "'x'" not in repr(keys)


@pytest.mark.parametrize(
    "local",
    [
        "{}",
        "{type: Inline}",
        "{type: ValueRef, inline: x}",
        "{valueRef: {kind: ConfigMap, name: a}}",
        "{inline: x, valueRef: {kind: ConfigMap, name: a}}",
    ],
)
def test_type_and_value_of_local_keys_must_agree(local: str) -> None:
    jwt = f"{{providers: [{{name: a, localJWKS: {local}}}]}}"
    refused(jwt, "Exactly one of inline or valueRef must be set with correct type.")


VALUE_REF = "{providers: [{name: a, localJWKS: {type: ValueRef, valueRef: {group: '', kind: ConfigMap, name: keys}}}]}"


def config_map(data: str, name: str = "keys") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n"


def test_value_ref_takes_the_key_jwks_or_else_the_first() -> None:
    for data, text in (("{jwks: one, a: two}", "one"), ("{other: two}", "two"), ("{z: three, b: four}", "four")):
        found = with_jwt(VALUE_REF, config_map(data))
        assert found.errors == []
        assert found.policy.requirement is not None
        keys = found.policy.requirement.providers[0].keys
        assert isinstance(keys, LocalKeys)
        assert keys.text == text
    found.warning("no key `jwks`, so the first of its 2 keys is taken: `b`")


def test_value_ref_to_nothing_never_has_keys() -> None:
    found = with_jwt(VALUE_REF, config_map("{jwks: x}", "keyz"))
    found.error("refers to what is not there: ConfigMap `default/keys` (did you mean `keyz`?)")
    assert found.policy.requirement is not None
    keys = found.policy.requirement.providers[0].keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved
    with_jwt(VALUE_REF, config_map("{}")).error("has no values")


# --- remote keys ---------------------------------------------------------------------------------------------------


def test_remote_defaults_are_envoy_gateways() -> None:
    keys, found = remote("uri: 'https://issuer.example/jwks.json'")
    assert found.diagnostics == []
    assert keys == RemoteKeys(
        "https://issuer.example/jwks.json", timeout=10.0, cache_duration=300.0, failed_refetch=1.0
    )
    assert keys.retry.attempts == 0


def test_remote_without_tls() -> None:
    keys, found = remote("uri: 'http://issuer.example/jwks.json'")
    assert (keys.tls, found.errors) == (False, [])


@pytest.mark.parametrize(
    "uri",
    [
        "/jwks.json",
        "ftp://a/b",
        "https://",
        "issuer.example/jwks",
        "https://a b/",
        "https://a:99999/",
        "https://[::1/",
        "https://ä.example/",
    ],
)
def test_bad_uris(uri: str) -> None:
    keys, found = remote(f"uri: '{uri}'")
    found.error("is not the URL of a key set; accepted: an absolute http or https URL")
    assert keys.unresolved


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    _, found = remote("uri: 'https://user:secret@issuer.example/'")
    assert "secret" not in found.error("credentials in a URL are not accepted")


def test_durations() -> None:
    keys, found = remote("uri: 'https://a/b', cacheDuration: 1h30m, failedRefetchDuration: 500ms")
    assert found.errors == []
    assert (keys.cache_duration, keys.failed_refetch) == (5400.0, 0.5)
    for text in ("10", "1.5s", "-1s", "0s", "5 s", "1h1h1h1h1h"):
        remote(f"uri: 'https://a/b', cacheDuration: '{text}'")[1].error(f"`{text}`")


def test_retry_and_timeout() -> None:
    settings = (
        "timeout: {http: {requestTimeout: 3s}}, retry: {numRetries: 4, perRetry: {backOff: {baseInterval: 100ms}}}"
    )
    keys, found = remote(f"uri: 'https://a/b', backendSettings: {{{settings}}}")
    assert found.diagnostics == []
    assert keys.timeout == 3.0
    assert keys.retry == Retry(4, 0.1, 1.0)
    assert remote("uri: 'https://a/b', backendSettings: {retry: {}}")[0].retry == Retry(2)


def test_retry_triggers() -> None:
    keys, found = remote(
        "uri: 'https://a/b', backendSettings: {retry: {retryOn: {triggers: [5xx, reset, unavailable]}}}"
    )
    assert keys.retry.triggers == ("5xx", "reset")
    found.warning("`unavailable` has no effect")
    wrong = remote("uri: 'https://a/b', backendSettings: {retry: {retryOn: {triggers: [gateway-eror]}}}")[1]
    wrong.error("unknown value `gateway-eror` (did you mean `gateway-error`?)")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{retry: {perRetry: {timeout: 1s}}}", "Retry timeout is not supported."),
        ("{retry: {retryOn: {httpStatusCodes: [500]}}}", "HTTPStatusCodes is not supported."),
        ("{retry: {numRetries: -1}}", "expected an integer from 0"),
        ("{retry: {perRetry: {backOff: {baseInterval: 5s, maxInterval: 1s}}}}", "`maxInterval` (1s) is below"),
        ("{retries: {}}", "unknown field `retries` (did you mean `retry`?)"),
        ("{timeout: {http: {requestTimeout: soon}}}", "`soon` is not a duration"),
    ],
)
def test_bad_backend_settings(settings: str, message: str) -> None:
    _, found = remote(f"uri: 'https://a/b', backendSettings: {settings}")
    found.error(message)
    assert found.policy.invalid


@pytest.mark.parametrize(
    "name",
    ["circuitBreaker", "loadBalancer", "proxyProtocol", "tcpKeepalive", "healthCheck", "connection", "dns", "http2"],
)
def test_settings_without_effect_are_noted(name: str) -> None:
    _, found = remote(f"uri: 'https://a/b', backendSettings: {{{name}: {{x: 1}}}}")
    assert found.errors == []
    found.warning(f"`{name}` has no effect on fetching keys")


def test_singular_backend_ref_is_refused() -> None:
    _, found = remote("uri: 'https://a/b', backendRef: {name: a}")
    found.error("BackendRefs must be used, backendRef is not supported.")


def test_unknown_provider_fields_are_named() -> None:
    found = on_foo("jwt: {providers: [{name: a, localJWKS: {inline: x}, audience: [a]}]}")
    found.error("unknown field `audience` (did you mean `audiences`?)")


def test_an_empty_issuer_is_said() -> None:
    found = on_foo("jwt: {providers: [{name: a, issuer: '', localJWKS: {inline: x}}]}")
    assert found.errors == []
    assert found.warning("an empty `issuer` is not compared")


def test_credentials_in_a_broken_url_are_not_repeated() -> None:
    found = on_foo("jwt: {providers: [{name: a, remoteJWKS: {uri: 'https://me:geheim@ host/x'}}]}")
    assert "geheim" not in found.error("is not the URL of a key set")
