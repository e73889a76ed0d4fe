"""The ``jwt`` section of a SecurityPolicy: which tokens are accepted, and where they are looked for.

Knows every field of a JWTProvider but the sources of its keys (``jwks``). Must not know: authorization,
targets, how a token is verified.
Rules: Envoy Gateway v1alpha1 ``JWT``, ``JWTProvider``, ``JWTExtractor`` with their CEL messages; the controller's
checks of names and issuers (``internal/gatewayapi/securitypolicy.go``); Envoy jwt_authn for what is hard-wired.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from eastgate.dialects.gateway.references import LONGEST_NAME
from eastgate.dialects.gateway.values import is_header_name, read_header_name, read_text_items
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.keys import KeySource
from eastgate.model.policies import DEFAULT_SOURCES, ClaimHeader, HeaderSource, Provider, Requirement, TokenSources

MOST_PROVIDERS = 16
MOST_AUDIENCES = 8
LONGEST_ISSUER = 253
"""All three from the CRD."""

CLOCK_SKEW = 60
"""Seconds; Envoy's default, which Envoy Gateway has no field for."""

FRAMING_HEADERS = frozenset(
    [
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection"),
        *("te", "trailer", "upgrade", "expect", "proxy-authorization", "content-type"),
    ]
)
"""Headers a claim must not be copied to: they say what a message is or where it goes (RFC 9110 section 7)."""

_QUALIFIED_NAME = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]"
)
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")


def read_requirement(jwt: Fields, report: Reporter, read_keys: Callable[[Fields], KeySource]) -> Requirement:
    """The tokens that the policy requires. ``read_keys`` reads the sources of a provider's keys."""
    optional, fail_open = jwt.boolean("optional"), jwt.boolean("failOpen")
    if optional and fail_open:
        report.error(
            jwt.at("failOpen"),
            "conflict",
            "optional and failOpen cannot both be set; failOpen already tolerates a missing JWT",
        )
    providers: list[Provider] = []
    for item in jwt.items("providers", least=1, most=MOST_PROVIDERS):
        provider = _read_provider(item, report, read_keys)
        if provider is None:
            continue
        if any(provider.name == other.name for other in providers):
            report.error(item, "duplicate-name", f"provider name `{provider.name}` must be unique in the policy")
        providers.append(provider)
    if not jwt.has("providers"):
        report.error(jwt.at("providers"), "missing-field", "`providers` is required and must not be empty")
    # Envoy's requires_any: one provider that is satisfied is enough, so tokens of the others are not looked at.
    return Requirement(
        tuple(providers), missing_allowed=optional or fail_open, failed_allowed=fail_open, every_token=False
    )


def _read_provider(item: Value, report: Reporter, read_keys: Callable[[Fields], KeySource]) -> Provider | None:
    with Fields(item, report) as fields:
        name = fields.text("name", required=True, longest=LONGEST_NAME)
        if name is not None and _QUALIFIED_NAME.fullmatch(name) is None:
            report.error(
                fields.at("name"),
                "bad-name",
                f"{show(name)} is not a qualified name; accepted: letters, digits, `-`, `_` and `.`, at most 63, "
                "beginning and ending with a letter or digit, and a DNS name with `/` in front if wanted",
            )
        issuer = fields.text("issuer", longest=LONGEST_ISSUER)
        if issuer == "":
            message = "an empty `issuer` is not compared: tokens of every issuer are taken"
            report.warning(fields.at("issuer"), "not-compared", message)
        issuer = issuer or None
        if issuer is not None:
            _check_issuer(issuer, fields, report)
        audiences = fields.texts("audiences", most=MOST_AUDIENCES)
        keys = read_keys(fields)
        claim_headers = tuple(
            header for header in (_read_claim_header(one, report) for one in fields.items("claimToHeaders")) if header
        )
        if fields.boolean("recomputeRoute"):
            if not fields.has("claimToHeaders"):
                message = "claimToHeaders must be specified if recomputeRoute is enabled."
                report.error(fields.at("recomputeRoute"), "missing-field", message)
            fields.note(
                "recomputeRoute",
                "no effect: a request keeps the route it matched as it arrived, and that route's policies",
            )
        sources = _read_sources(fields, report)
    if name is None:
        return None
    return Provider(
        name=name,
        keys=keys,
        issuer=issuer,
        audiences=audiences,
        sources=sources,
        claim_headers=claim_headers,
        forward_token=True,
        clock_skew=CLOCK_SKEW,
    )


def _check_issuer(issuer: str, fields: Fields, report: Reporter) -> None:
    """RFC 7519 section 2, StringOrURI, as the controller checks it."""
    if ":" in issuer:
        try:
            parts = urlsplit(issuer)
            valid = bool(parts.scheme) and not any(character.isspace() for character in issuer)
        except ValueError:
            valid = False
        if not (valid or issuer.startswith("/")):
            message = "invalid issuer; when issuer contains ':' character, it MUST be a valid URI"
            report.error(fields.at("issuer"), "bad-issuer", f"{message}, found {show(issuer)}")
    elif "@" in issuer and _MAIL.fullmatch(issuer) is None:
        message = "invalid issuer; when issuer contains '@' character, it MUST be a valid Email Address format"
        report.error(fields.at("issuer"), "bad-issuer", f"{message}, found {show(issuer)}")


def _read_claim_header(item: Value, report: Reporter) -> ClaimHeader | None:
    with Fields(item, report) as fields:
        header = read_header_name(fields, "header")
        claim = fields.text("claim", required=True)
        if header is not None and header.replace("_", "-") in FRAMING_HEADERS:
            report.error(
                fields.at("header"),
                "bad-header-name",
                f"a claim cannot be copied to `{header}`: it says what a message is or where it goes; accepted: a "
                "header of the application, like `x-user`",
            )
            return None
    if header is None or claim is None:
        return None
    # Envoy adds the header: two valid tokens give two fields of that name.
    return ClaimHeader(header, claim, tuple(claim.split(".")), append=True, delimiter="")


def _read_sources(provider: Fields, report: Reporter) -> TokenSources:
    extract = provider.fields("extractFrom")
    if extract is None:
        return DEFAULT_SOURCES
    headers = []
    with extract:
        for item in extract.items("headers"):
            with Fields(item, report) as header:
                name = read_header_name(header)
                prefix = header.text("valuePrefix") or ""
                if name is not None:
                    headers.append(HeaderSource(name, prefix))
        cookies = read_text_items(extract, "cookies")
        query = read_text_items(extract, "params")
        for place, cookie in cookies:
            if not is_header_name(cookie):
                message = f"{show(cookie)} is not a cookie name; accepted: a token of RFC 9110 (RFC 6265 section 4.1.1)"
                report.error(place, "bad-value", message)
        for place, parameter in query:
            if not parameter:
                report.error(place, "bad-value", "a query parameter without a name is not accepted")
    # Any configured place switches both default places off; none at all leaves them.
    if not headers and not query and not cookies:
        return DEFAULT_SOURCES
    return TokenSources(
        tuple(headers), tuple(parameter for _, parameter in query), tuple(cookie for _, cookie in cookies)
    )
