"""Gloo's JWTPolicy and RouteTable, which ours grew out of: taken over as they are written.

Knows: the few fields that are spelled otherwise. Whether ours then says the same is not decided here.
"""

from __future__ import annotations

from typing import Any

from eastgate.conversions.drafts import Draft, Findings, begin_document
from eastgate.dialects.catalogue import Object
from eastgate.dialects.kinds import GLOO_NETWORK_GROUP, GLOO_POLICY_GROUP

KINDS = ((GLOO_POLICY_GROUP, "JWTPolicy"), (GLOO_NETWORK_GROUP, "RouteTable"))


def draft_object(found: Object, findings: Findings) -> Draft:
    """A policy or table under our own name. What it holds was read without an error."""
    document = begin_document(found.kind, found, findings)
    spec = found.document.get("spec")
    document["spec"] = spec if found.kind == "RouteTable" else _respell_policy(spec)
    return Draft((found,), document)


def _respell_policy(spec: dict[str, Any]) -> dict[str, Any]:
    config = dict(spec.get("config") or {})
    loose = config.pop("allowMissingOrFailed", None)
    if loose and config.get("validationPolicy") in (None, "REQUIRE_VALID"):
        config["validationPolicy"] = "ALLOW_MISSING_OR_FAILED"
    providers = config.get("providers")
    if isinstance(providers, dict):
        config["providers"] = {name: _respell_provider(provider) for name, provider in providers.items()}
    return {**spec, "config": config} if "config" in spec else spec


def _respell_provider(provider: dict[str, Any]) -> dict[str, Any]:
    """``queryParameters`` is how Gloo's guides spell ``queryParams``."""
    source = provider.get("tokenSource")
    if isinstance(source, dict) and "queryParameters" in source:
        source = dict(source)
        names = [*(source.get("queryParams") or ()), *(source.pop("queryParameters") or ())]
        provider = {**provider, "tokenSource": {**source, "queryParams": names}}
    # An empty delimiter is a comma in Gloo; in our own kind it says that there is none.
    if provider.get("customDelimiter") == "":
        provider = {key: value for key, value in provider.items() if key != "customDelimiter"}
    return provider
