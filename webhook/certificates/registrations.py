"""The webhook configurations: which entries lead to our Service, whom they trust, and the patch that makes it right.

Knows: ``MutatingWebhookConfiguration`` and ``ValidatingWebhookConfiguration`` of admissionregistration.k8s.io/v1 as
dicts. Must not know: the API, where the right bundle comes from. An entry is ours by the Service that it names, so
entries that somebody added or renamed are found, and those of others are left alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography import x509

from webhook.certificates.authority import AuthorityError
from webhook.certificates.holding import read_certificates


@dataclass(frozen=True, slots=True)
class Service:
    """The Service that our entries name."""

    name: str
    namespace: str


def find_entries(configuration: Mapping[str, object], service: Service) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Place and ``clientConfig`` of every entry that leads to ``service``."""
    webhooks = configuration.get("webhooks")
    for index, webhook in enumerate(webhooks if isinstance(webhooks, list) else ()):
        client = webhook.get("clientConfig") if isinstance(webhook, Mapping) else None
        named = client.get("service") if isinstance(client, Mapping) else None
        if not isinstance(client, Mapping) or not isinstance(named, Mapping):
            continue
        if (named.get("name"), named.get("namespace")) == (service.name, service.namespace):
            yield index, client


def count_drift(configuration: Mapping[str, object], service: Service, bundle: bytes) -> int:
    """How many of our entries have another ``caBundle``."""
    right = base64.b64encode(bundle).decode("ascii")
    return sum(client.get("caBundle") != right for _, client in find_entries(configuration, service))


def repair_bundle(configuration: Mapping[str, object], service: Service, bundle: bytes) -> list[dict[str, object]]:
    """RFC 6902 operations that give our entries this ``caBundle``; none where they have it.

    Entries are named by their place, so the patch holds for this version of the object only: it carries the version,
    and the API server answers 409 Conflict where the object has changed.
    """
    right = base64.b64encode(bundle).decode("ascii")
    operations: list[dict[str, object]] = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": right}
        for index, client in find_entries(configuration, service)
        if client.get("caBundle") != right
    ]
    if not operations:
        return []
    metadata = configuration.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    if isinstance(version, str):
        operations.insert(0, {"op": "replace", "path": "/metadata/resourceVersion", "value": version})
    return operations


def is_trusted(configuration: Mapping[str, object], service: Service, issuer: x509.Certificate) -> bool:
    """Whether a leaf of ``issuer`` is accepted by every one of our entries."""
    return all(issuer in _read_bundle(client) for _, client in find_entries(configuration, service))


def _read_bundle(client: Mapping[str, object]) -> tuple[x509.Certificate, ...]:
    value = client.get("caBundle")
    if not isinstance(value, str):
        return ()
    try:
        return read_certificates(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError, AuthorityError):
        return ()
