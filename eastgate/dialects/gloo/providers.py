"""Who issues tokens, where they are found, and what becomes of their claims: ``config.providers``.

Rules: Gloo JWTPolicy ``config.providers`` (2.14): configured token sources replace the default ones; ``iss`` and
``aud`` are compared only when set. Header names: RFC 9110 section 5.1.
"""

from __future__ import annotations

from eastgate.dialects.catalogue import Object
from eastgate.dialects.documents import Fields, Value, show
from eastgate.dialects.gateway.values import read_header_name
from eastgate.dialects.gloo.claims import read_claim_path
from eastgate.dialects.gloo.dialect import Scope
from eastgate.dialects.gloo.keys import read_keys
from eastgate.model.policies import DEFAULT_SOURCES, ClaimHeader, HeaderSource, Provider, TokenSources

UNTOUCHABLE = frozenset(
    [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "expect",
    ]
)
"""Fields that frame or route a message (RFC 9110 section 7.6.1): no claim may become one."""

DEFAULT_SKEW = 60
"""Seconds, as in Envoy's jwt_authn."""


def read_provider(name: str, value: Value, scope: Scope, owner: Object, fields: Fields) -> Provider:
    """One provider; ``fields`` is only asked for its reporter."""
    own = scope.dialect.own
    with Fields(value, fields.report) as provider:
        skew = provider.integer("clockSkewSeconds", least=0, most=2**32 - 1)
        return Provider(
            name=name,
            keys=read_keys(provider, scope, owner),
            issuer=_read_issuer(provider),
            audiences=provider.texts("audiences"),
            sources=_read_sources(provider, own=own),
            claim_headers=_read_claim_headers(provider, own=own),
            payload_header=_read_payload_header(provider),
            forward_token=provider.boolean("keepToken"),
            clock_skew=DEFAULT_SKEW if skew is None else skew,
            required_claims=provider.texts("requiredClaims") if own else (),
        )


def _read_issuer(provider: Fields) -> str | None:
    issuer = provider.text("issuer")
    if issuer == "":
        provider.report.warning(
            provider.at("issuer"), "not-compared", "an empty `issuer` is not compared: tokens of every issuer are taken"
        )
    return issuer or None


def _read_sources(provider: Fields, *, own: bool) -> TokenSources:
    with provider.mapping("tokenSource") as source:
        headers = tuple(
            found for item in source.items("headers") if (found := _read_header_source(item, source)) is not None
        )
        query = source.texts("queryParams")
        if not own and source.has("queryParameters"):
            source.report.warning(
                source.at("queryParameters"), "renamed-field", "the field is called `queryParams`; read as that"
            )
            query += source.texts("queryParameters")
        cookies = source.texts("cookies") if own else ()
        for field, names in (("queryParams", query), ("cookies", cookies)):
            if not all(names):
                source.report.error(source.at(field), "bad-value", "a name must not be empty")
    sources = TokenSources(headers, query, cookies)
    return sources if sources != TokenSources() else DEFAULT_SOURCES


def _read_header_source(item: Value, source: Fields) -> HeaderSource | None:
    with Fields(item, source.report) as header:
        name = read_header_name(header)
        prefix = header.text("prefix") or ""
        if not prefix.isprintable() or not prefix.isascii():
            header.report.error(header.at("prefix"), "bad-value", f"{show(prefix)} cannot begin a header's value")
        return None if name is None else HeaderSource(name, prefix)


def _read_claim_headers(provider: Fields, *, own: bool) -> tuple[ClaimHeader, ...]:
    delimiter = provider.text("customDelimiter")
    if not delimiter and not (own and delimiter == ""):  # ours may say: no delimiter, but another field (Envoy)
        delimiter = ","
    found = []
    for item in provider.items("claimsToHeaders"):
        with Fields(item, provider.report) as entry:
            header = _read_target_header(entry, "header")
            path = read_claim_path(entry, "claim", own=own)
            append = entry.boolean("append")
        if header is not None and path is not None:
            found.append(ClaimHeader(header, path[0], path[1], append, delimiter))
    return tuple(found)


def _read_payload_header(provider: Fields) -> str | None:
    if not provider.text("outputPayloadToHeader"):
        return None
    return _read_target_header(provider, "outputPayloadToHeader")


def _read_target_header(fields: Fields, field: str) -> str | None:
    name = read_header_name(fields, field)
    if name in UNTOUCHABLE:
        fields.report.error(
            fields.at(field), "bad-header-name", f"{show(name)} frames or routes the message; no claim may be put there"
        )
        return None
    return name
