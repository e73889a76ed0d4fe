"""The volumes that an injected pod has, and where the sidecar mounts them.

Every value that the API server would default is written out: a pod that comes back from it compares equal, and
server-side apply of an injected pod changes nothing. Pod Security ``restricted`` permits all of these types.
Files have the default mode 0644: they belong to root, and the sidecar, which is not root, reads them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from eastgate.pods import names

SIZE_LIMIT = "64Mi"
"""Of an emptyDir. A pod above it is evicted, so it is far above what is kept there (key sets of at most 1 MiB each)."""

_MODE = 0o644

_LABELS = "metadata.labels"
_ANNOTATIONS = "metadata.annotations"


@functools.cache
def make_volumes() -> Sequence[dict[str, Any]]:
    """All of them, in the order of ``names.VOLUMES``. Every pod gets the same: they are not to be changed."""
    return (
        {"name": names.BUNDLE_VOLUME, "configMap": {"name": names.BUNDLE_NAME, "defaultMode": _MODE}},
        {"name": names.SHARDS_VOLUME, "projected": {"sources": _make_shards(), "defaultMode": _MODE}},
        {
            "name": names.POD_VOLUME,
            "downwardAPI": {
                "items": [_field(names.LABELS_FILE, _LABELS), _field(names.ANNOTATIONS_FILE, _ANNOTATIONS)],
                "defaultMode": _MODE,
            },
        },
        {"name": names.TOKEN_VOLUME, "projected": {"sources": [_make_token()], "defaultMode": _MODE}},
        {"name": names.STATE_VOLUME, "emptyDir": {"sizeLimit": SIZE_LIMIT}},
        {"name": names.TEMPORARY_VOLUME, "emptyDir": {"sizeLimit": SIZE_LIMIT}},
    )


def make_mounts() -> list[dict[str, Any]]:
    """Those of the sidecar."""
    return [
        {"name": names.BUNDLE_VOLUME, "mountPath": names.BUNDLE_MOUNT, "readOnly": True},
        {"name": names.SHARDS_VOLUME, "mountPath": names.SHARDS_MOUNT, "readOnly": True},
        {"name": names.POD_VOLUME, "mountPath": names.POD_MOUNT, "readOnly": True},
        {"name": names.TOKEN_VOLUME, "mountPath": names.TOKEN_MOUNT, "readOnly": True},
        {"name": names.STATE_VOLUME, "mountPath": names.STATE_MOUNT},
        {"name": names.TEMPORARY_VOLUME, "mountPath": names.TEMPORARY_MOUNT},
    ]


def _make_shards() -> list[dict[str, Any]]:
    """The further parts of a large bundle, and the Secret: all optional, for a namespace need not have them."""
    parts = [
        {
            "configMap": {
                "name": f"{names.BUNDLE_NAME}-{number}",
                "items": [{"key": names.PART_KEY, "path": f"{number}/{names.PART_KEY}"}],
                "optional": True,
            }
        }
        for number in range(1, names.MAX_SHARDS + 1)
    ]
    secret = {
        "name": names.BUNDLE_NAME,
        "items": [{"key": names.SECRETS_KEY, "path": f"secrets/{names.SECRETS_KEY}"}],
        "optional": True,
    }
    return [*parts, {"secret": secret}]


def _make_token() -> dict[str, Any]:
    """Own audience: a token that the API server itself would not take. Works with ``automountServiceAccountToken:
    false``, which is about the default token only.
    """
    return {
        "serviceAccountToken": {
            "audience": names.TOKEN_AUDIENCE,
            "expirationSeconds": names.TOKEN_SECONDS,
            "path": names.TOKEN_FILE,
        }
    }


def _field(file: str, field: str) -> dict[str, Any]:
    return {"path": file, "fieldRef": {"apiVersion": "v1", "fieldPath": field}}
