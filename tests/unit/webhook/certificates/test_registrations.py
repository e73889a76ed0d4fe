from __future__ import annotations

import base64
import copy
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from webhook.certificates.authority import make_authority
from webhook.certificates.registrations import Service, count_drift, is_trusted, repair_bundle

NOW = 1_800_000_000.0
OURS = Service("eastgate-webhook", "eastgate-system")
ISSUER, OTHER = make_authority(NOW).certificate, make_authority(NOW).certificate
BUNDLE = ISSUER.public_bytes(Encoding.PEM) + OTHER.public_bytes(Encoding.PEM)
RIGHT = base64.b64encode(BUNDLE).decode()


def entry(service: Service | None, bundle: str | None = None) -> dict[str, Any]:
    client: dict[str, Any] = {"url": "https://elsewhere.example"} if service is None else {}
    if service is not None:
        client["service"] = {"name": service.name, "namespace": service.namespace, "path": "/mutate"}
    if bundle is not None:
        client["caBundle"] = bundle
    return {"name": "x.eastgate.dev", "clientConfig": client}


def configuration(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "eastgate", "resourceVersion": "12"}, "webhooks": list(entries)}


def apply(document: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902 ``add`` and ``replace`` of members of objects, by somebody who does not know what they are for."""
    result = copy.deepcopy(document)
    for operation in operations:
        at: Any = result
        *parents, last = operation["path"].split("/")[1:]
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        at[last] = operation["value"]
    return result


def test_only_our_entries_that_differ_are_changed() -> None:
    before = configuration(
        entry(OURS), entry(OURS, RIGHT), entry(Service("other", "eastgate-system")), entry(None), entry(OURS, "eA==")
    )

    operations = repair_bundle(before, OURS, BUNDLE)

    assert [operation["path"] for operation in operations] == [
        "/metadata/resourceVersion",
        "/webhooks/0/clientConfig/caBundle",
        "/webhooks/4/clientConfig/caBundle",
    ]
    assert operations[0]["value"] == "12"
    after = apply(before, operations)
    assert repair_bundle(after, OURS, BUNDLE) == []
    assert [one["clientConfig"].get("caBundle") for one in after["webhooks"]] == [RIGHT, RIGHT, None, None, RIGHT]
    assert (count_drift(before, OURS, BUNDLE), count_drift(after, OURS, BUNDLE)) == (2, 0)


def test_a_configuration_without_entries_of_ours_needs_nothing() -> None:
    for found in ({}, {"webhooks": None}, configuration(), configuration(entry(None)), {"webhooks": [None, {}, 7]}):
        assert repair_bundle(found, OURS, BUNDLE) == []
        assert is_trusted(found, OURS, ISSUER)


def test_an_authority_is_trusted_when_every_entry_has_it() -> None:
    assert is_trusted(configuration(entry(OURS, RIGHT), entry(OURS, RIGHT)), OURS, OTHER)
    assert not is_trusted(configuration(entry(OURS, RIGHT), entry(OURS)), OURS, OTHER)
    assert not is_trusted(configuration(entry(OURS, RIGHT)), OURS, make_authority(NOW).certificate)
    for nonsense in ("", "%%%", "eA==", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"):
        assert not is_trusted(configuration(entry(OURS, nonsense)), OURS, ISSUER)
