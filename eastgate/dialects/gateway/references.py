"""References between Gateway API objects: what they name, whether it is there, and whether they may.

Knows: the API groups, the envelope every object has, "refers to what is not there", and ReferenceGrant, which lets one
namespace use what is in another. Must not know: what the referred object is for.
Rules: Gateway API v1 (``ReferenceGrant``, ``BackendObjectReference``); ConfigMap and Secret as the core API has them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.values import Fields, Reporter, Value, list_names, show

GATEWAY_GROUP = "gateway.networking.k8s.io"
ENVOY_GROUP = "gateway.envoyproxy.io"
CORE_GROUP = ""

LONGEST_NAME = 253
"""Longest object name: that of a DNS name (RFC 1035), as Kubernetes has it."""

MOST_GRANTED = 16
"""Entries of each list of a ReferenceGrant, as the CRD has it; what is beyond grants nothing."""


def open_spec(found: Object, report: Reporter, versions: Iterable[str]) -> Fields:
    """The object's ``spec`` for reading, after its version and top level were checked. Close it."""
    accepted = tuple(versions)
    document = found.document
    if found.version not in accepted:
        data = document.data if isinstance(document.data, dict) else {}
        said = f"{found.group}/{found.version}"
        known = [f"{found.group}/{version}" for version in accepted]
        report.error(
            data.get("apiVersion", document),
            "unsupported-version",
            f"unsupported version {show(said)} of {found.kind}; accepted: {', '.join(known)}",
        )
    with Fields(document, report) as top:
        # ``status`` is written by controllers; the other three are the object's identity, read by the catalogue.
        top.ignore("apiVersion", "kind", "metadata", "status")
        if not top.has("spec"):
            report.error(top.at("spec"), "missing-field", "`spec` is required and must not be empty")
    return Fields(found.spec(), report)


def say_missing(
    catalogue: Catalogue, at: Value, report: Reporter, group: str, kind: str, namespace: str, name: str
) -> str:
    """Report a reference to an object that was not read; the message is also returned."""
    near = report.suggest(name, catalogue.names(group, kind, namespace))
    elsewhere = catalogue.ask(_find_namespaces, group, kind, name)[:3]
    hint = near or (f" (there is one in namespace {', '.join(f'`{one}`' for one in elsewhere)})" if elsewhere else "")
    message = f"refers to what is not there: {kind} `{namespace}/{name}`{hint}"
    report.error(at, "not-there", message)
    return message


def is_granted(
    catalogue: Catalogue, source: tuple[str, str, str], group: str, kind: str, namespace: str, name: str
) -> bool:
    """True when ``source`` (group, kind, namespace) may refer to the object: same namespace, or a ReferenceGrant
    beside the object says so. A grant that cannot be read grants nothing.
    """
    return source[2] == namespace or catalogue.ask(_find_grant, source, group, kind, namespace, name)


def _find_grant(
    catalogue: Catalogue, source: tuple[str, str, str], group: str, kind: str, namespace: str, name: str
) -> bool:
    grants = catalogue.prepared("grants", _read_grants)
    return any((namespace, source, group, kind, one) in grants for one in (None, name))


def has_grants(catalogue: Catalogue, group: str, kind: str, namespace: str) -> bool:
    """Whether some ReferenceGrant of the namespace is about objects of a kind: then the others need one, too."""
    return catalogue.ask(_find_granted_kind, group, kind, namespace)


def _find_granted_kind(catalogue: Catalogue, group: str, kind: str, namespace: str) -> bool:
    return (group, kind, namespace) in catalogue.prepared("granted kinds", _read_granted_kinds)


def _read_granted_kinds(catalogue: Catalogue) -> frozenset[tuple[object, ...]]:
    grants = catalogue.prepared("grants", _read_grants)
    return frozenset((group, kind, namespace) for namespace, _, group, kind, _ in grants)


def _read_grants(catalogue: Catalogue) -> frozenset[tuple[object, ...]]:
    """Namespace, origin, group, kind, and the name or None for every one."""
    found = set()
    for grant in catalogue.of_kind(GATEWAY_GROUP, "ReferenceGrant"):
        origins, targets = grant.document.get("spec", "from"), grant.document.get("spec", "to")
        if not isinstance(origins, list) or not isinstance(targets, list):
            continue
        for origin in origins[:MOST_GRANTED]:
            for target in targets[:MOST_GRANTED]:
                if isinstance(origin, dict) and isinstance(target, dict):
                    source = _texts(origin, "group", "kind", "namespace")
                    wanted = _texts(target, "group", "kind")
                    name = target.get("name")
                    if source is not None and wanted is not None and (name is None or isinstance(name, str)):
                        found.add((grant.namespace, source, *wanted, name or None))
    return frozenset(found)


def _texts(entry: dict[str, object], *names: str) -> tuple[object, ...] | None:
    """These fields, if all of them are texts."""
    values = tuple(entry.get(name) for name in names)
    return values if all(isinstance(value, str) for value in values) else None


def _find_namespaces(catalogue: Catalogue, group: str, kind: str, name: str) -> list[str]:
    """Where there is an object of this name."""
    return sorted(catalogue.prepared("namespaces by name", _namespaces_by_name).get((group, kind, name), ()))


def _namespaces_by_name(catalogue: Catalogue) -> dict[tuple[str, str, str], set[str]]:
    found: dict[tuple[str, str, str], set[str]] = {}
    for one in catalogue.objects:
        found.setdefault((one.group, one.kind, one.name), set()).add(one.namespace)
    return found


def say_not_granted(
    at: Value, report: Reporter, source: tuple[str, str, str], group: str, kind: str, namespace: str, name: str
) -> str:
    """Report a reference across namespaces that no ReferenceGrant permits; the message is also returned."""
    message = (
        f"{kind} `{namespace}/{name}` is in another namespace and no ReferenceGrant there permits it; accepted: a "
        f"ReferenceGrant in namespace `{namespace}` from {source[0]} {source[1]} in `{source[2]}` to "
        f"{f'{group} ' if group else ''}{kind}"
    )
    report.error(at, "not-granted", message)
    return message


def config_values(found: Object) -> dict[str, str]:
    """The text values of a ConfigMap or Secret, by sorted key. What is not text is left out."""
    values: dict[str, str] = {}
    data = found.document.get("data")
    for key, value in data.items() if isinstance(data, dict) else ():
        if not isinstance(value, str):
            continue
        if found.kind != "Secret":
            values[key] = value
            continue
        try:
            values[key] = base64.b64decode(value, validate=False).decode()
        except (binascii.Error, ValueError):
            continue
    plain = found.document.get("stringData") if found.kind == "Secret" else None
    if isinstance(plain, dict):
        values.update({key: value for key, value in plain.items() if isinstance(value, str)})
    return dict(sorted(values.items()))


def check_service(
    at: Value, namespace: str, name: str, port: int | str | None, catalogue: Catalogue, report: Reporter
) -> None:
    """Warn of a Service or a port of it that is not there. Services are often read without being complete, so this is
    only said where others of the namespace were read, or one of the name elsewhere.
    """
    service = catalogue.find(CORE_GROUP, "Service", namespace, name)
    if service is None:
        elsewhere = catalogue.ask(_find_namespaces, CORE_GROUP, "Service", name)
        if elsewhere or catalogue.names(CORE_GROUP, "Service", namespace):
            message = say_missing(catalogue, at, Reporter([], ""), CORE_GROUP, "Service", namespace, name)
            report.warning(at, "not-there", message)
        return
    ports = service.document.get("spec", "ports")
    entries = [one for one in ports if isinstance(one, dict)] if isinstance(ports, list) else []
    if port is not None and not any(port in (one.get("port"), one.get("name")) for one in entries):
        listed = list_names(str(one.get("port")) for one in entries)
        report.warning(at, "not-there", f"{service.title} has no port {show(str(port))}; its ports: {listed}")
