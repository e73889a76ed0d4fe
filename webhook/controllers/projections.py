"""What of an object is kept in memory. Ten thousand pods are there, and of each a few lines matter.

Knows: which fields the controller reads. Must not know: where objects come from. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from eastgate.pods.names import BUNDLE_NAME, INJECT_LABEL, POLICIES, PREFIX, STATUS

type Object = dict[str, Any]

_POD_FIELDS: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "ownerReferences",
)
CONTENT: Final = "contentChecksum"
"""In place of the content of a bundle's ConfigMap or Secret: up to a megabyte each, and only ever compared."""

FIXED: Final = "immutable"
"""Somebody said that this ConfigMap or Secret never changes; the API server takes no other content then."""


def project_pod(found: Object) -> Object | None:
    """Pods that ask for a sidecar or have one, without other people's annotations."""
    metadata = found.get("metadata") or {}
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if str(key).startswith(PREFIX)
    }
    if POLICIES not in annotations and STATUS not in annotations:
        return None
    kept = {field: metadata[field] for field in _POD_FIELDS if field in metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**kept, "annotations": annotations}}


def project_part(found: Object) -> Object | None:
    """A ConfigMap or Secret of a bundle, its content as a checksum. Others of ours are none of it."""
    metadata = found.get("metadata") or {}
    name = str(metadata.get("name") or "")
    if name != BUNDLE_NAME and not name.startswith(f"{BUNDLE_NAME}-"):
        return None
    kept = {
        field: metadata[field]
        for field in ("name", "namespace", "uid", "resourceVersion", "labels", "annotations")
        if field in metadata
    }
    return {
        "kind": found.get("kind"),
        "metadata": kept,
        CONTENT: checksum(found),
        FIXED: found.get("immutable") is True,
    }


def checksum(found: Mapping[str, Any]) -> str:
    """Of everything that a ConfigMap or Secret says."""
    content = [found.get(field) or None for field in ("data", "binaryData", "stringData", "type", "immutable")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def project_policy(found: Object) -> Object | None:
    """A policy or route kind, without the bookkeeping. Its status stays: ours is compared with what is to be said."""
    metadata = found.get("metadata") or {}
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return found


def without_status(found: Object) -> Object:
    """What of an object can matter to a bundle: neither its status nor how often it was written."""
    metadata = {key: value for key, value in found["metadata"].items() if key != "resourceVersion"}
    return {key: value for key, value in found.items() if key != "status"} | {"metadata": metadata}


def is_injected(pod: Mapping[str, Any]) -> bool:
    """It carries our sidecar."""
    return STATUS in pod["metadata"]["annotations"]


def is_ending(pod: Mapping[str, Any]) -> bool:
    """Somebody has deleted it; it is on its way out."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def opts_out(pod: Mapping[str, Any]) -> bool:
    """It says that it wants no sidecar, whatever its annotations say."""
    return (pod["metadata"].get("labels") or {}).get(INJECT_LABEL) == "false"
