"""Envoy Gateway's SecurityPolicy as a JWTPolicy.

What it demands is written from the model. Where keys come from is written from the object, so that references stay
references. What it applies to becomes a label of its routes, which ``gateway_routes`` puts there. Rules: the two
dialects' docstrings. Must not know: which policy wins on which route.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import re2

from eastgate.conversions.drafts import Draft, Findings, begin_document
from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.kinds import ENVOY_GROUP
from eastgate.model.keys import LocalKeys, RemoteKeys, Retry
from eastgate.model.policies import (
    DEFAULT_SOURCES,
    Authorization,
    ClaimCondition,
    ClaimHeader,
    ClaimType,
    Policy,
    Provider,
    Requirement,
    Rule,
    TokenSources,
)
from eastgate.model.routes import Comparison, FieldMatch, StringMatch

POLICY_LABEL = "eastgate.dev/policy"
"""On an entry of a table: the JWTPolicy that holds there."""

_LONGEST_LABEL = 63
_VALUE_TYPES = {ClaimType.STRING: "String", ClaimType.LIST: "StringArray"}


def label_of(policy: Policy) -> str:
    """The policy's name as a label's value, which is shorter than a name may be."""
    name = policy.name.name
    if len(name) <= _LONGEST_LABEL:
        return name
    return f"{name[:46]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def draft_policy(
    found: Object, policy: Policy, namespaces: set[str], catalogue: Catalogue, findings: Findings
) -> Draft:
    """The JWTPolicy. ``namespaces`` are those of the routes on which it holds."""
    if policy.requirement is None:
        findings.error(
            found, "spec.jwt", "not-sayable", "without `jwt` there is no token, and no JWTPolicy without one"
        )
        return Draft((found,), {})
    selectors = [
        {
            "route": {
                "labels": {POLICY_LABEL: label_of(policy)},
                **({"namespace": one} if one != found.namespace else {}),
            }
        }
        for one in sorted(namespaces or {found.namespace})
    ]
    document = begin_document("JWTPolicy", found, findings)
    config = _write_requirement(found, policy.requirement, catalogue, findings)
    if policy.authorization is not None:
        config["authorization"] = _write_authorization(policy.authorization)
    document["spec"] = {"applyToRoutes": selectors, "config": config}
    return Draft((found,), document)


def _write_requirement(
    found: Object, requirement: Requirement, catalogue: Catalogue, findings: Findings
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if requirement.missing_allowed:
        config["missing"] = "Allow"
    if requirement.failed_allowed:
        config["failed"] = "Allow"
    if not requirement.every_token and len(requirement.providers) > 1:
        config["tokens"] = "Any"
    config["providers"] = {
        provider.name: _write_provider(found, index, provider, catalogue, findings)
        for index, provider in enumerate(requirement.providers)
    }
    return config


def _write_provider(
    found: Object, index: int, provider: Provider, catalogue: Catalogue, findings: Findings
) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if provider.issuer is not None:
        written["issuer"] = provider.issuer
    if provider.audiences:
        written["audiences"] = list(provider.audiences)
    if provider.sources != DEFAULT_SOURCES:
        written["tokenSource"] = _write_sources(provider.sources)
    if provider.clock_skew != Provider(provider.name, provider.keys).clock_skew:
        written["clockSkewSeconds"] = provider.clock_skew
    if provider.forward_token:
        written["keepToken"] = True
    if provider.claim_headers:
        written["claimsToHeaders"] = [_write_claim_header(one) for one in provider.claim_headers]
        if any(one.append and not one.delimiter for one in provider.claim_headers):
            written["customDelimiter"] = ""
    path = f"spec.jwt.providers[{index}]"
    if isinstance(provider.keys, LocalKeys):
        written["local"] = _write_local(provider.keys)
    else:
        written["remote"] = _write_remote(found, path, provider.keys, catalogue, findings)
    return written


def _write_sources(sources: TokenSources) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if sources.headers:
        written["headers"] = [
            {"name": one.name, **({"prefix": one.prefix} if one.prefix else {})} for one in sources.headers
        ]
    if sources.query:
        written["queryParams"] = list(sources.query)
    if sources.cookies:
        written["cookies"] = list(sources.cookies)
    return written


def _write_claim_header(header: ClaimHeader) -> dict[str, Any]:
    return {**_write_claim_name("claim", header.claim, header.path), "header": header.header, "append": header.append}


def _write_claim_name(key: str, claim: str, path: tuple[str, ...]) -> dict[str, Any]:
    return {key: claim} if len(path) == 1 else {"path": list(path)}


# --- keys -----------------------------------------------------------------------------------------------------------


def _write_local(keys: LocalKeys) -> dict[str, Any]:
    """``origin`` names the ConfigMap and the key that the reader settled on."""
    title, found, key = keys.origin.rpartition(" key ")
    kind, _, name = title.partition(" ")
    if not found or kind != "ConfigMap":
        return {"inline": keys.text}
    return {"configMapRef": {"name": name.partition("/")[2], "key": key}}


def _write_remote(
    found: Object, path: str, keys: RemoteKeys, catalogue: Catalogue, findings: Findings
) -> dict[str, Any]:
    written: dict[str, Any] = {"url": keys.url}
    if keys.addresses and keys.addresses != address_of(keys):
        reference = _find_service(found, path)
        if reference is None:
            message = (
                "our own kind reaches a JWKS server by its URL or through one Service; put what this leads to into the "
                "URL, or a Service in front of it"
            )
            findings.error(found, f"{path}.remoteJWKS.backendRefs", "not-sayable", message)
            return written
        written["destinationRef"] = reference
    if keys.ca is not None:
        written["caCertificate"] = _write_trust(found, path, keys.ca, catalogue, findings)
    if keys.server_name is not None and keys.server_name != urlsplit(keys.url).hostname:
        written["serverName"] = keys.server_name
    written["cacheDuration"] = write_duration(keys.cache_duration)
    written["timeout"] = write_duration(keys.timeout)
    written["failedRefetchDuration"] = write_duration(keys.failed_refetch)
    if keys.retry != Retry():
        written["retryPolicy"] = _write_retry(keys.retry)
    return written


def address_of(keys: RemoteKeys) -> tuple[tuple[str, int], ...]:
    """Where the URL itself leads."""
    url = urlsplit(keys.url)
    return ((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)),)


def _find_service(found: Object, path: str) -> dict[str, Any] | None:
    """The one Service of ``backendRefs``; whether our own kind reaches the same address there, the proof tells."""
    index = int(path.rpartition("[")[2].rstrip("]"))
    spec = found.document.get("spec")
    references = spec["jwt"]["providers"][index]["remoteJWKS"].get("backendRefs") or []
    if len(references) != 1 or references[0].get("kind") not in (None, "Service") or references[0].get("group"):
        return None
    one = references[0]
    name = {"name": one["name"], **({"namespace": one["namespace"]} if one.get("namespace") else {})}
    return {"ref": name, "port": {"number": one["port"]}}


def _write_trust(found: Object, path: str, ca: str, catalogue: Catalogue, findings: Findings) -> dict[str, Any]:
    for one in catalogue.of_kind("", "ConfigMap"):
        if one.namespace == found.namespace and one.document.get("data", "ca.crt") == ca:
            return {"configMapRef": {"name": one.name, "key": "ca.crt"}}
    message = "the CA certificate is written into the policy: it does not come from one ConfigMap of its namespace"
    findings.warning(found, f"{path}.remoteJWKS.backendRefs", "inlined", message)
    return {"inline": ca}


def _write_retry(retry: Retry) -> dict[str, Any]:
    written: dict[str, Any] = {"numRetries": retry.attempts}
    if retry.triggers != Retry().triggers:
        written["retryOn"] = list(retry.triggers)
    written["backoff"] = {
        "baseInterval": write_duration(retry.base_interval),
        "maxInterval": write_duration(retry.max_interval),
    }
    return written


def write_duration(seconds: float) -> str:
    """``300s``, ``1.5s``."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


# --- rules ----------------------------------------------------------------------------------------------------------


def _write_authorization(authorization: Authorization) -> dict[str, Any]:
    written: dict[str, Any] = {"defaultAction": authorization.default.value.capitalize()}
    if authorization.rules:
        written["rules"] = [_write_rule(one) for one in authorization.rules]
    return written


def _write_rule(rule: Rule) -> dict[str, Any]:
    # A name with a slash in it was not given by a person: Envoy Gateway makes it from that of the policy.
    written: dict[str, Any] = {} if "/" in rule.name else {"name": rule.name}
    written["action"] = rule.action.value.capitalize()
    if rule.methods:
        written["methods"] = list(rule.methods)
    paths = [_write_text(one) for one in rule.paths]
    paths += [{**_write_text(one), "invert": True} for one in rule.inverted_paths]
    if paths:
        written["paths"] = paths
    if rule.header_values:
        written["headers"] = [_write_header(one) for one in match_header_values(rule)]
    if rule.addresses:
        written["addresses"] = list(rule.addresses)
    if rule.token is not None:
        if rule.token.provider is not None:
            written["provider"] = rule.token.provider
        if rule.token.claims:
            written["claims"] = [_write_claim(one) for one in rule.token.claims]
        if rule.token.scopes:
            written["scopes"] = list(rule.token.scopes)
    return written


def match_header_values(rule: Rule) -> tuple[FieldMatch, ...]:
    """Envoy Gateway's lists of values as matches: one value as it is, several as a regular expression."""
    found = []
    for name, values in rule.header_values:
        if len(values) == 1 and values[0]:
            found.append(FieldMatch(name, StringMatch(Comparison.EXACT, values[0])))
        else:
            pattern = "|".join(re2.escape(value) for value in values)
            found.append(FieldMatch(name, StringMatch(Comparison.REGEX, f"(?:{pattern})")))
    return tuple(found)


def _write_header(match: FieldMatch) -> dict[str, Any]:
    regex = {"regex": True} if match.value.comparison is Comparison.REGEX else {}
    return {"name": match.name, "value": match.value.value, **regex}


def _write_text(match: StringMatch) -> dict[str, Any]:
    return {match.comparison.value: match.value}


def _write_claim(claim: ClaimCondition) -> dict[str, Any]:
    name = _write_claim_name("key", claim.claim, claim.path)
    return {**name, "valueType": _VALUE_TYPES[claim.type], "values": list(claim.values)}


KINDS = ((ENVOY_GROUP, "SecurityPolicy"),)
