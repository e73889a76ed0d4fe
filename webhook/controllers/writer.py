"""Bundles into the cluster: their ConfigMaps and the Secret, so that a reader never meets half of a change.

Knows: in which order the parts are written (the one with the manifest last, what is left over after it), and that
nothing is written that is there already. Must not know: what a bundle says, or why it changed.

Every write carries the resource version it is based on: of two writers that take themselves for the leader, the second
gets a conflict and looks again. An object by our name that somebody else made is taken over, for pods mount that name;
one that somebody made immutable is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from eastgate.pods.bundles import Bundle
from eastgate.pods.names import BUNDLE_NAME, MANAGER, MAX_SHARDS
from webhook.cluster import Cluster, Conflict, Forbidden, NotFound, Object
from webhook.controllers.informers import Informer
from webhook.controllers.projections import CONTENT, FIXED, checksum, project_part
from webhook.resources import CONFIG_MAPS, SECRETS, Resource

SELECTOR: Final = f"app.kubernetes.io/managed-by={MANAGER}"
WRITE_SECONDS: Final = 10.0
_TRIES: Final = 3
"""A conflict means that the copy in memory was old: look, and write again. Three in a row is somebody else's fight."""

log = logging.getLogger("eastgate.controller.writer")


class BundleWriter:
    """Writes what differs. ``config_maps`` and ``secrets`` follow the objects labelled as ours.

    ``check`` raises when this process may not write; ``count`` is told of each write: kind and verb.
    """

    def __init__(
        self,
        cluster: Cluster,
        config_maps: Informer,
        secrets: Informer,
        check: Callable[[], None],
        count: Callable[[str, str], None],
    ) -> None:
        self._cluster = cluster
        self._informers = {CONFIG_MAPS.kind: config_maps, SECRETS.kind: secrets}
        self._check = check
        self._count = count

    def write(self, bundle: Bundle) -> int:
        """Bring the cluster to this bundle; how many writes that took."""
        *parts, main = bundle.config_maps()
        secret = bundle.secret()
        writes = sum(self._put(CONFIG_MAPS, part) for part in parts)
        if secret is not None:
            writes += self._put(SECRETS, secret)
        writes += self._put(CONFIG_MAPS, main)
        kept = {part["metadata"]["name"] for part in (*parts, main)}
        writes += sum(self._drop(CONFIG_MAPS, bundle.namespace, name) for name in _NAMES if name not in kept)
        if secret is None:
            writes += self._drop(SECRETS, bundle.namespace, BUNDLE_NAME)
        return writes

    def remove(self, namespace: str) -> int:
        """Take the bundle of a namespace away, the manifest first; how many writes that took."""
        writes = sum(self._drop(CONFIG_MAPS, namespace, name) for name in _NAMES)
        return writes + self._drop(SECRETS, namespace, BUNDLE_NAME)

    def exists(self, namespace: str) -> bool:
        """There is anything of a bundle in this namespace."""
        return any(
            informer.get(namespace, name) is not None for informer in self._informers.values() for name in _NAMES
        )

    # --- one object -------------------------------------------------------------------------------------------------

    def _put(self, resource: Resource, wanted: Object) -> int:
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        informer = self._informers[resource.kind]
        found = informer.get(namespace, name)
        if found is None and informer.denied:
            found = self._look(resource, namespace, name)
        for _ in range(_TRIES):
            if found is not None and _is_equal(found, wanted):
                return 0
            self._check()
            try:
                if found is not None and found[FIXED]:
                    self._delete(resource, found)
                    found = None
                if found is None:
                    written = self._cluster.create(resource, wanted, timeout=WRITE_SECONDS)
                else:
                    version = found["metadata"]["resourceVersion"]
                    body = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
                    written = self._cluster.replace(resource, body, timeout=WRITE_SECONDS)
            except (Conflict, NotFound) as error:
                if isinstance(error, NotFound) and found is None:
                    raise  # the namespace is gone
                found = self._look(resource, namespace, name)
            else:
                self._count(resource.kind, "create" if found is None else "update")
                informer.absorb(written)
                return 1
        raise Conflict(409, "Conflict", f"{resource.kind} {namespace}/{name}: somebody else keeps writing it")

    def _look(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return project_part(self._cluster.get(resource, namespace, name))
        except NotFound:
            return None

    def _drop(self, resource: Resource, namespace: str, name: str) -> int:
        found = self._informers[resource.kind].get(namespace, name)
        if found is None:
            return 0
        self._check()
        try:
            self._delete(resource, found)
        except NotFound:
            return 0
        except Forbidden as error:
            log.warning("%s %s/%s is left over and may not be deleted: %s", resource.kind, namespace, name, error)
            return 0
        return 1

    def _delete(self, resource: Resource, found: Object) -> None:
        """This one, as it was when it was seen last."""
        metadata = found["metadata"]
        self._cluster.delete(
            resource,
            metadata["namespace"],
            metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )
        self._count(resource.kind, "delete")


_NAMES: Final = (BUNDLE_NAME, *(f"{BUNDLE_NAME}-{number}" for number in range(1, MAX_SHARDS + 1)))


def _is_equal(found: Object, wanted: Object) -> bool:
    """What we would write is there. Labels and annotations of others may be there, too."""
    metadata: dict[str, Any] = found["metadata"]
    return found[CONTENT] == checksum(wanted) and all(
        (wanted["metadata"].get(field) or {}).items() <= (metadata.get(field) or {}).items()
        for field in ("labels", "annotations")
    )
