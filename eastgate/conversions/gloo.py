"""Gloo's JWTPolicy and RouteTable, which ours grew out of: taken over as they are written.

Knows: the few fields that are spelled otherwise, and that a table of ours is delegated to from another namespace only
with a ReferenceGrant, where Gloo asks no leave. Whether ours then says the same is not decided here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from eastgate.conversions.drafts import Draft, Findings, begin_document
from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.references import MOST_GRANTED, has_grants, is_granted
from eastgate.dialects.kinds import GATEWAY_GROUP, GLOO_NETWORK_GROUP, GLOO_POLICY_GROUP, OWN_GROUP

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


def draft_grants(foreign: Iterable[Object], catalogue: Catalogue, findings: Findings) -> list[Draft]:
    """The leave that tables need to delegate to tables of other namespaces, where they do so now."""
    tables = [found for found in foreign if (found.group, found.kind) == KINDS[1]]
    wanted: defaultdict[tuple[str, str], dict[Object, None]] = defaultdict(dict)
    for above in tables:
        for below in _list_delegates(above, tables):
            if below.namespace != above.namespace and _may_delegate(above, below, catalogue):
                wanted[below.namespace, above.namespace][below] = None
    grants = []
    for namespace, origin in sorted(wanted):
        found = sorted(wanted[namespace, origin], key=lambda one: one.name)
        for number, start in enumerate(range(0, len(found), MOST_GRANTED), 1):
            name = f"delegation-from-{origin}" + (f"-{number}" if number > 1 else "")
            grants.append(_draft_grant(name, namespace, origin, found[start : start + MOST_GRANTED]))
        message = (
            f"namespace `{origin}` delegates here, and of our own kind that needs a ReferenceGrant: "
            f"`{namespace}/delegation-from-{origin}` is added"
        )
        findings.warning(found[0], "", "grant-added", message)
    return grants


def _draft_grant(name: str, namespace: str, origin: str, below: list[Object]) -> Draft:
    table = {"group": OWN_GROUP, "kind": "RouteTable"}
    document = {
        "apiVersion": f"{GATEWAY_GROUP}/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"from": [{**table, "namespace": origin}], "to": [{**table, "name": one.name} for one in below]},
    }
    return Draft(tuple(below), document)


def _list_delegates(above: Object, tables: list[Object]) -> Iterator[Object]:
    """The tables that some entry selects. What it holds was read without an error."""
    for entry in above.document.get("spec", "http") or ():
        for selector in (entry.get("delegate") or {}).get("routeTables") or ():
            name, namespace = selector.get("name") or None, selector.get("namespace") or None
            labels = set((selector.get("labels") or {}).items())
            for below in tables:
                named = name in (None, below.name) and namespace in (None, below.namespace)
                if named and labels <= set(below.labels) and not below.document.get("spec", "hosts"):
                    yield below


def _may_delegate(above: Object, below: Object, catalogue: Catalogue) -> bool:
    """Gloo asks no leave, but where a namespace gives it to some, the others have none."""
    group, kind = KINDS[1]
    if not has_grants(catalogue, group, kind, below.namespace):
        return True
    return is_granted(catalogue, (group, kind, above.namespace), group, kind, below.namespace, below.name)
