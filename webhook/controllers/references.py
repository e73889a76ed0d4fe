"""ConfigMaps and Secrets that policies refer to: watched where they are referred to, and nowhere else.

Knows: which of them each namespace's bundle wants, and so which namespaces have to be watched for which of the two
kinds; of what it sees there it keeps what is wanted by name. Must not know: what is in them. The role may leave Secrets
out: they count as missing then, and the policies that want them are not accepted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from webhook.cluster import Cluster, Object
from webhook.controllers.informers import Informer, Sink, key_of
from webhook.resources import CONFIG_MAPS, SECRETS, Resource

KINDS: Final = {CONFIG_MAPS.kind: CONFIG_MAPS, SECRETS.kind: SECRETS}

type Wanted = tuple[str, str, str]
"""(kind, namespace, name)"""
type _Place = tuple[str, str]
"""(kind, namespace)"""


class References:
    """Follows what is wanted. ``sink`` is told of it as of any other kind; ``on_synced`` who may go on: namespaces."""

    def __init__(self, cluster: Cluster, sink: Sink, on_synced: Callable[[Iterable[str]], None]) -> None:
        self._cluster = cluster
        self._sink = sink
        self._on_synced = on_synced
        self._lock = threading.RLock()
        self._wanted: dict[str, frozenset[Wanted]] = {}
        self._names: dict[_Place, frozenset[str]] = {}
        self._informers: dict[_Place, Informer] = {}

    def want(self, namespace: str, wanted: Iterable[Wanted]) -> bool:
        """What the bundle of a namespace refers to, there or not. True when all of it has been told to the sink."""
        mine = frozenset(one for one in wanted if one[0] in KINDS)
        with self._lock:
            if mine != self._wanted.get(namespace, frozenset()):
                self._wanted[namespace] = mine
                self._adjust()
            informers = [self._informers[kind, place] for kind, place, _ in mine]
        return all(informer.synced for informer in informers)

    def stop(self) -> None:
        """End all of it."""
        with self._lock:
            for informer in self._informers.values():
                informer.stop()

    @property
    def informers(self) -> list[Informer]:
        """Those that run now."""
        with self._lock:
            return list(self._informers.values())

    def _adjust(self) -> None:
        """Watch what is wanted now, and no more."""
        names: dict[_Place, frozenset[str]] = {}
        for wanted in self._wanted.values():
            for kind, namespace, name in wanted:
                names[kind, namespace] = names.get((kind, namespace), frozenset()) | {name}
        for gone in self._informers.keys() - names.keys():
            self._end(gone)
        for place, found in names.items():
            before = self._names.get(place, frozenset())
            self._names[place] = found
            if place not in self._informers:
                self._begin(place)
            elif found - before:
                self._informers[place].relist()
            self._forget(place, before - found)

    def _begin(self, place: _Place) -> None:
        kind, namespace = place
        resource = KINDS[kind]

        def project(found: Object) -> Object | None:
            if key_of(found)[1] not in self._names.get(place, frozenset()):
                return None
            metadata = {key: found["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion")}
            data = found.get("data") or {}
            return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "data": data}

        informer = Informer(
            self._cluster,
            resource,
            self._tell,
            namespace=namespace,
            project=project,
            may_be_denied=resource is SECRETS,
            on_synced=lambda: self._announce(place),
        )
        self._informers[place] = informer
        informer.start()

    def _end(self, place: _Place) -> None:
        self._informers[place].stop()
        self._forget(place, self._names.pop(place))
        del self._informers[place]

    def _forget(self, place: _Place, names: Iterable[str]) -> None:
        kind, namespace = place
        for name in names:
            dropped = self._informers[place].forget(namespace, name)
            if dropped is not None:
                self._sink(KINDS[kind], dropped, None)

    def _tell(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        found = new or old
        if found is not None:
            namespace, name = key_of(found)
            if name in self._names.get((resource.kind, namespace), frozenset()):
                self._sink(resource, old, new)

    def _announce(self, place: _Place) -> None:
        with self._lock:
            waiting = [one for one, wanted in self._wanted.items() if any(place == each[:2] for each in wanted)]
        self._on_synced(waiting)
