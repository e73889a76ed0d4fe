"""Where a provider's keys come from: ``remoteJWKS`` and ``localJWKS``.

Knows every field of both, with the CEL messages of the CRD. A source that cannot be resolved is ``unresolved``, never a
weaker one. Must not know: what keys look like, or how they are fetched.
Rules: Envoy Gateway v1alpha1 ``RemoteJWKS``, ``LocalJWKS``, ``ClusterSettings``, ``Retry``.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.backends import KeyServers, Reached
from eastgate.dialects.gateway.references import CORE_GROUP, ENVOY_GROUP, config_values, say_missing
from eastgate.dialects.gateway.tls import Trust
from eastgate.dialects.gateway.values import read_duration, read_text_items
from eastgate.dialects.values import Fields, Reporter, show
from eastgate.model.diagnostics import suggest_name
from eastgate.model.keys import RETRY_TRIGGERS, KeySource, LocalKeys, RemoteKeys, Retry

MOST_BACKENDS = 16
LONGEST_URI = 253
"""Both from the CRD."""

FETCH_TIMEOUT = 10.0
CACHE_DURATION = 300.0
FAILED_REFETCH = 1.0
RETRIES = 2
"""Envoy Gateway's defaults; the third is Envoy's."""

GRPC_TRIGGERS = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable")

_NO_EFFECT = {
    "circuitBreaker": "one fetch at a time is made",
    "loadBalancer": "the backends are tried in the order they are written",
    "proxyProtocol": "the PROXY protocol is not spoken to a key server",
    "tcpKeepalive": "a connection is not kept after the fetch",
    "healthCheck": "a key server is asked when its keys are needed",
    "connection": "the size of a key set is bounded in any case",
    "dns": "the platform's resolver is asked",
    "http2": "keys are fetched over HTTP/1.1",
    "httpUpgrade": "keys are fetched with a plain GET",
}


def read_key_source(
    catalogue: Catalogue, servers: KeyServers, provider: Fields, policy: Object, report: Reporter
) -> KeySource:
    """The keys of a provider. After an error it is a source that never has any."""
    remote, local = provider.has("remoteJWKS"), provider.has("localJWKS")
    if remote and local:
        message = "remoteJWKS and localJWKS cannot both be specified."
        report.error(provider.at("localJWKS"), "conflict", message)
        provider.ignore("remoteJWKS", "localJWKS")
        return RemoteKeys("", unresolved=message)
    if not remote and not local:
        message = "either remoteJWKS or localJWKS must be specified."
        report.error(provider.value, "missing-field", message)
        return RemoteKeys("", unresolved=message)
    before = len(report.errors)
    source = (
        _read_remote(servers, provider, policy, report) if remote else _read_local(catalogue, provider, policy, report)
    )
    if source is None or (len(report.errors) > before and isinstance(source, LocalKeys)):
        return RemoteKeys("", unresolved="; ".join(report.errors[before:]))
    return source


def _read_local(catalogue: Catalogue, provider: Fields, policy: Object, report: Reporter) -> LocalKeys | None:
    local = provider.fields("localJWKS")
    if local is None:
        return None
    with local:
        kind = local.choice("type", ("Inline", "ValueRef"), "Inline")
        inline = local.text("inline")
        has_reference = local.has("valueRef")
        if (kind == "Inline") != (inline is not None) or (kind == "ValueRef") != has_reference:
            report.error(local.value, "conflict", "Exactly one of inline or valueRef must be set with correct type.")
            local.ignore("valueRef")
            return None
        if inline is not None:
            if not inline.strip():
                report.error(local.at("inline"), "missing-field", "`inline` is empty; accepted: the text of a JWKS")
                return None
            return LocalKeys(inline, f"{policy.title} {local.at('inline').path}")
        reference = local.fields("valueRef")
        if reference is None:
            return None
        with reference:
            group = reference.text("group") or CORE_GROUP
            name_of_kind = reference.choice("kind", ("ConfigMap",), "ConfigMap")
            name = reference.text("name", required=True)
        if group != CORE_GROUP:
            report.error(reference.at("group"), "unsupported-reference", f'{show(group)} is not accepted; accepted: ""')
        if name is None or group != CORE_GROUP:
            return None
        return _read_config_map(catalogue, reference, policy.namespace, name_of_kind, name, report)


def _read_config_map(
    catalogue: Catalogue, reference: Fields, namespace: str, kind: str, name: str, report: Reporter
) -> LocalKeys | None:
    found = catalogue.find(CORE_GROUP, kind, namespace, name)
    if found is None:
        say_missing(catalogue, reference.value, report, CORE_GROUP, kind, namespace, name)
        return None
    values = config_values(found)
    catalogue.note_key(found, "jwks")
    if not values:
        report.error(reference.value, "not-there", f"{found.title} has no values; accepted: a JWKS under key `jwks`")
        return None
    key = "jwks" if "jwks" in values else next(iter(values))
    catalogue.note_key(found, key)
    if key != "jwks" and len(values) > 1:
        report.warning(
            reference.value,
            "ambiguous",
            f"{found.title} has no key `jwks`, so the first of its {len(values)} keys is taken: `{key}`",
        )
    return LocalKeys(values[key], f"{found.title} key {key}")


def _read_remote(servers: KeyServers, provider: Fields, policy: Object, report: Reporter) -> RemoteKeys | None:
    remote = provider.fields("remoteJWKS")
    if remote is None:
        return None
    before = len(report.errors)
    with remote:
        uri = remote.text("uri", required=True, longest=LONGEST_URI)
        if uri is not None:
            _check_uri(uri, remote, report)
        cache = read_duration(remote, "cacheDuration", CACHE_DURATION, positive=True)
        refetch = read_duration(remote, "failedRefetchDuration", FAILED_REFETCH, positive=True)
        if remote.has("backendRef"):
            report.error(
                remote.at("backendRef"), "unsupported-field", "BackendRefs must be used, backendRef is not supported."
            )
        timeout, retry = FETCH_TIMEOUT, Retry()
        settings = remote.fields("backendSettings")
        if settings is not None:
            with settings:
                timeout, retry = _read_settings(settings, report)
        source = (ENVOY_GROUP, "SecurityPolicy", policy.namespace)
        items = remote.items("backendRefs", most=MOST_BACKENDS)
        reached = [servers.reach(item, source, report) for item in items]
    trust = _common_trust(reached, remote, report)
    unresolved = "; ".join(report.errors[before:]) or None
    https = uri is not None and uri.lower().startswith("https:")
    return RemoteKeys(
        url=uri or "",
        addresses=tuple(address for one in reached for address in one.addresses),
        tls=https or trust is not None,
        ca=trust.ca if trust is not None else None,
        server_name=trust.server_name if trust is not None else None,
        timeout=timeout,
        cache_duration=cache,
        failed_refetch=refetch,
        retry=retry,
        unresolved=unresolved,
    )


def _check_uri(uri: str, remote: Fields, report: Reporter) -> None:
    accepted = "accepted: an absolute http or https URL with a host, like `https://issuer.example/jwks.json`"
    try:
        parts = urlsplit(uri)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0))
    except ValueError:
        usable = False
        parts = urlsplit("")
    # Outside of visible ASCII (RFC 3986 section 2) nothing may stand in a URL; blanks would split the request line.
    if not usable or any(not "!" <= character <= "~" for character in uri):
        shown = uri if "@" not in uri else f"…@{uri.rpartition('@')[2]}"
        report.error(remote.at("uri"), "bad-url", f"{show(shown)} is not the URL of a key set; {accepted}")
    elif parts.username is not None or parts.password is not None:
        report.error(remote.at("uri"), "bad-url", f"credentials in a URL are not accepted; {accepted}")


def _common_trust(reached: list[Reached], remote: Fields, report: Reporter) -> Trust | None:
    trusts = {one.trust for one in reached if one.unresolved is None}
    if len(trusts) > 1:
        report.error(
            remote.at("backendRefs"), "conflict", "its backends have different TLS settings; accepted: the same for all"
        )
        return None
    return next(iter(trusts), None)


def _read_settings(settings: Fields, report: Reporter) -> tuple[float, Retry]:
    """Timeout and retries; everything else of a ClusterSettings is noted."""
    for name, why in _NO_EFFECT.items():
        settings.note(name, f"`{name}` has no effect on fetching keys: {why}")
    timeout, retry = FETCH_TIMEOUT, Retry()
    timeouts = settings.fields("timeout")
    if timeouts is not None:
        with timeouts:
            timeouts.note("tcp", "`tcp` has no effect: `http.requestTimeout` bounds the whole fetch")
            http = timeouts.fields("http")
            if http is not None:
                with http:
                    timeout = read_duration(http, "requestTimeout", FETCH_TIMEOUT, positive=True)
                    for name in (
                        "connectionIdleTimeout",
                        "maxConnectionDuration",
                        "maxStreamDuration",
                        "streamTimeout",
                    ):
                        http.note(name, f"`{name}` has no effect: `requestTimeout` bounds the whole fetch")
    retries = settings.fields("retry")
    if retries is not None:
        with retries:
            retry = _read_retry(retries, report)
    return timeout, retry


def _read_retry(retries: Fields, report: Reporter) -> Retry:
    default = Retry()
    attempts = retries.integer("numRetries", least=0, most=2**31 - 1)
    retries.note("numAttemptsPerPriority", "`numAttemptsPerPriority` has no effect: all backends are of one priority")
    triggers: tuple[str, ...] = ()
    retry_on = retries.fields("retryOn")
    if retry_on is not None:
        with retry_on:
            if retry_on.has("httpStatusCodes"):
                report.error(retry_on.at("httpStatusCodes"), "unsupported-field", "HTTPStatusCodes is not supported.")
            triggers = _read_triggers(retry_on, report)
    base, longest = default.base_interval, default.max_interval
    per_retry = retries.fields("perRetry")
    if per_retry is not None:
        with per_retry:
            if per_retry.has("timeout"):
                report.error(per_retry.at("timeout"), "unsupported-field", "Retry timeout is not supported.")
            backoff = per_retry.fields("backOff")
            if backoff is not None:
                with backoff:
                    base = read_duration(backoff, "baseInterval", base, positive=True)
                    longest = read_duration(backoff, "maxInterval", base * 10, positive=True)
                    if longest < base:
                        report.error(
                            backoff.at("maxInterval"),
                            "out-of-range",
                            f"`maxInterval` ({longest:g}s) is below `baseInterval` ({base:g}s)",
                        )
    return Retry(RETRIES if attempts is None else attempts, base, longest, triggers or default.triggers)


def _read_triggers(retry_on: Fields, report: Reporter) -> tuple[str, ...]:
    found = []
    for item, word in read_text_items(retry_on, "triggers"):
        if word in RETRY_TRIGGERS:
            found.append(word)
        elif word in GRPC_TRIGGERS:
            report.warning(item, "no-effect", f"`{word}` has no effect: keys are fetched over HTTP, not gRPC")
        else:
            accepted = (*RETRY_TRIGGERS, *GRPC_TRIGGERS)
            report.error(
                item,
                "unknown-value",
                f"unknown value {show(word)}{suggest_name(word, accepted)}; accepted: {', '.join(accepted)}",
            )
    return tuple(found)
