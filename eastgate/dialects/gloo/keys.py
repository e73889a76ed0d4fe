"""Where a provider's keys come from: ``local``, ``remote``, and our ``jwks``.

Knows: which object holds a key's text, and how a JWKS server is reached. Must not know what a key looks like: the text
goes to ``eastgate.keys`` as it is. A source that cannot be resolved is never fetched in a weaker way instead.
Rules: Gloo JWTPolicy ``providers.*.local`` and ``.remote`` (2.14).
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from eastgate.dialects.catalogue import Object
from eastgate.dialects.documents import Fields, show
from eastgate.dialects.durations import read_duration
from eastgate.dialects.gloo.destinations import Server, resolve_server
from eastgate.dialects.gloo.dialect import Scope
from eastgate.dialects.references import read_data, read_object_name
from eastgate.model.keys import RETRY_TRIGGERS, KeySource, LocalKeys, RemoteKeys, Retry

UNREADABLE = RemoteKeys(url="", unresolved="the key source could not be read")
"""Stands where the keys of an invalid policy would be: it never holds any."""

CACHE_DURATION = 300.0
TIMEOUT = 5.0
FAILED_REFETCH = 1.0
BACKOFF_INTERVAL = 1.0
"""Gloo's defaults, in seconds."""

DEFAULT_RETRIES = 1
"""Gloo's, once a ``retryPolicy`` is written; without one nothing is retried (Envoy's remote_jwks)."""

MAX_URL = 2048
"""Longest JWKS URL; RFC 9110 section 4.1 wants 8000 octets of a request line, browsers and servers settle for this."""


def read_keys(provider: Fields, scope: Scope, owner: Object) -> KeySource:
    """The one source of a provider."""
    names = ("local", "remote", "jwks") if scope.dialect.own else ("local", "remote")
    chosen = provider.choose(*names, required=True)
    if chosen is None:
        return UNREADABLE
    with provider.mapping(chosen) as block:
        if chosen == "remote":
            return _read_remote(block, scope, owner)
        return _read_text(block, scope, owner) or UNREADABLE


def _read_text(block: Fields, scope: Scope, owner: Object) -> LocalKeys | None:
    """Text written here, or kept in a Secret or (own kind) a ConfigMap."""
    names = ("inline", "secretRef", "configMapRef") if scope.dialect.own else ("inline", "secretRef")
    chosen = block.choose(*names, required=True)
    if chosen == "inline":
        if not isinstance(block.at("inline").data, str):  # what is written may be a secret: it is not repeated
            message = (
                f"expected a string, found {block.at('inline').kind}; put the text in quotes, or on lines after `|`"
            )
            block.report.error(block.at("inline"), "wrong-type", message)
            return None
        text = block.text("inline", required=True)
        return None if text is None else LocalKeys(text, "inline")
    if chosen is None:
        return None
    kind = "Secret" if chosen == "secretRef" else "ConfigMap"
    with block.mapping(chosen) as reference:
        key = reference.text("key", required=True)
        if kind == "Secret" and (not scope.dialect.own or reference.has("objectRef")):
            if not reference.has("objectRef"):
                reference.report.error(reference.at("objectRef"), "missing-field", "`objectRef` is required")
                return None
            with reference.mapping("objectRef") as inner:
                name = read_object_name(inner, owner.namespace)
        else:
            name = read_object_name(reference, owner.namespace)
    if key is None or name is None:
        return None
    text = read_data(scope.catalogue, scope.source_of(owner), kind, name, key, block.at(chosen), block.report)
    return None if text is None else LocalKeys(text, f"{kind} {name[0]}/{name[1]} key {key}")


def _read_remote(remote: Fields, scope: Scope, owner: Object) -> RemoteKeys:
    report = remote.report
    before = len(report.errors)
    url = _read_url(remote)
    server: Server | None = None
    with remote.mapping("destinationRef") as destination:
        if remote.has("destinationRef"):
            server = resolve_server(destination, url, scope, owner)
    certificate, server_name = _read_trust(remote, scope, owner) if scope.dialect.own else (None, None)
    if remote.has("enableAsyncFetch") and not remote.boolean("enableAsyncFetch", True):
        remote.note("enableAsyncFetch", "no effect: keys are always fetched ahead and refreshed in the background")
    source = RemoteKeys(
        url=url.geturl() if url is not None else "",
        addresses=server.addresses if server is not None else (),
        tls=(url is not None and url.scheme == "https") or (server is not None and server.tls),
        ca=certificate,
        server_name=server_name or (server.server_name if server is not None else None),
        timeout=read_duration(remote, "timeout", TIMEOUT),
        cache_duration=read_duration(remote, "cacheDuration", CACHE_DURATION),
        failed_refetch=read_duration(remote, "failedRefetchDuration", FAILED_REFETCH),
        retry=_read_retry(remote, own=scope.dialect.own),
    )
    if source.ca is not None and not source.tls:
        report.error(remote.at("caCertificate"), "no-effect", "`caCertificate` needs an https URL")
    if len(report.errors) > before:
        return RemoteKeys(url=source.url, unresolved=report.errors[before])
    return source


def _read_url(remote: Fields) -> SplitResult | None:
    text = remote.text("url", required=True, longest=MAX_URL)
    if text is None:
        return None
    why = _fault_of(text)
    if why is not None:
        shown = text if "@" not in text else f"…@{text.rpartition('@')[2]}"
        message = f"{show(shown)} {why}; accepted: `https://host/path` or `http://host/path`"
        remote.report.error(remote.at("url"), "bad-url", message)
        return None
    return urlsplit(text)


def _fault_of(text: str) -> str | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        return "has characters that no URL has"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https") or not url.hostname:
        return "is not an absolute http or https URL"
    if port == 0:
        return "has no usable port"
    if "@" in url.netloc:
        return "holds credentials, which would end up in logs"
    if url.fragment:
        return "has a fragment, which is never sent"
    return None


def _read_trust(remote: Fields, scope: Scope, owner: Object) -> tuple[str | None, str | None]:
    """Own kind only: the CA that must have signed the server's certificate, and the name it must have."""
    server_name = remote.text("serverName") or None
    found = remote.fields("caCertificate")
    if found is None:
        return None, server_name
    with found:
        text = _read_text(found, scope, owner)
    if text is None:
        return None, server_name
    if "-----BEGIN CERTIFICATE-----" not in text.text:
        remote.report.error(remote.at("caCertificate"), "bad-value", f"{text.origin} holds no PEM certificate")
        return None, server_name
    return text.text, server_name


def _read_retry(remote: Fields, *, own: bool) -> Retry:
    found = remote.fields("retryPolicy")
    if found is None:
        return Retry()
    with found:
        triggers = (_read_triggers(found) if own else ()) or Retry().triggers
        attempts = found.integer("numRetries", least=0, most=2**32 - 1)
        attempts = DEFAULT_RETRIES if attempts is None else attempts
        backoff = found.fields("backoff")
        if backoff is None:
            return Retry(attempts, BACKOFF_INTERVAL, BACKOFF_INTERVAL, triggers)
        with backoff:
            base = read_duration(backoff, "baseInterval", BACKOFF_INTERVAL)
            longest = read_duration(backoff, "maxInterval", 10 * base)
            if longest < base:
                backoff.report.error(
                    backoff.at("maxInterval"), "out-of-range", f"must not be below `baseInterval` ({base:g} s)"
                )
            return Retry(attempts, base, longest, triggers)


def _read_triggers(policy: Fields) -> tuple[str, ...]:
    """Own kind only: Envoy's words for what is tried again."""
    words = policy.texts("retryOn")
    for word in words:
        if word not in RETRY_TRIGGERS:
            near = policy.report.suggest(word, RETRY_TRIGGERS)
            message = f"unknown value {show(word)}{near}; accepted: {', '.join(RETRY_TRIGGERS)}"
            policy.report.error(policy.at("retryOn"), "unknown-value", message)
    return words
