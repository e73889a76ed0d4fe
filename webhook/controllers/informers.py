"""A copy of one kind's objects in memory, kept fresh: listed once, then watched.

Knows: list and watch with resource versions, bookmarks, what a 410 means, that a kind may not be installed (yet).
Must not know: what the objects are for. Rules: "Efficient detection of changes" in Kubernetes API Concepts; client-go's
reflector. One thread an informer: watches wait, they do not compute.

An informer keeps what it has while the API server is away or says that the kind is gone without meaning it (it may say
so while it starts): policies that vanish by mistake would open what they protect. Only when discovery says twice that
the kind is not served are its objects taken away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from webhook.cluster import Cluster, ClusterError, Forbidden, Gone, NotFound, Object, Watch
from webhook.controllers.backoff import Backoff, spread
from webhook.resources import Resource

DISCOVERY_SECONDS: Final = 5.0
"""How often a kind that is not installed is looked for. One call serves all kinds."""
FIRST_RETRY_SECONDS: Final = 0.2
MOST_RETRY_SECONDS: Final = 30.0
"""client-go's reflector: 0.8 to 30 s."""

type Key = tuple[str, str]
"""(namespace, name); no namespace is an empty one."""
type Projection = Callable[[Object], Object | None]
"""What to keep of an object; None: nothing."""

type Sink = Callable[[Resource, Object | None, Object | None], None]
"""Is told what changed, in order, from the informer's thread: the object before and after, as projected; None where
there was or is nothing."""

log = logging.getLogger("eastgate.controller.informer")


def keep_all(found: Object) -> Object | None:
    """Everything but the bookkeeping of server-side apply, which may be larger than the rest."""
    found.get("metadata", {}).pop("managedFields", None)
    return found


def key_of(found: Object) -> Key:
    """Namespace and name of an object."""
    metadata = found.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def version_of(found: Object) -> int:
    """Its resource version. Versions of one kind can be compared as numbers (KEP-5504); what is no number is oldest."""
    text = str((found.get("metadata") or {}).get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


class Discovery:
    """Which of the optional kinds are served. Asks at most once in ``seconds``, whoever wants to know."""

    def __init__(self, cluster: Cluster, seconds: float = DISCOVERY_SECONDS) -> None:
        self.seconds = seconds
        self._cluster = cluster
        self._lock = threading.Lock()
        self._asked = -seconds
        self._groups: frozenset[str] = frozenset()
        self._served: dict[str, frozenset[tuple[str, str]]] = {}

    def find(self, resource: Resource) -> Resource | None:
        """The kind in the best version that is served and can be read; None when none is."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked >= self.seconds:
                self._cluster.require_ready()  # while it starts, it does not know yet what it serves
                self._groups = self._cluster.groups()
                self._served = {}
                self._asked = now
            if resource.group not in self._groups:
                return None
            served = self._served.get(resource.group)
            if served is None:
                served = self._served[resource.group] = self._cluster.served(resource.group)
        for version in resource.versions:
            if (version, resource.plural) in served:
                return resource.at(version)
        return None


class Informer:
    """The objects of one kind. ``discovery``: for kinds that need not be installed. ``may_be_denied``: for kinds that
    the role may leave out; they count as having no objects, until the role has them.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str | None = None,
        selector: str | None = None,
        metadata_only: bool = False,
        project: Projection = keep_all,
        discovery: Discovery | None = None,
        may_be_denied: bool = False,
        on_synced: Callable[[], None] | None = None,
        watch_seconds: float | None = None,
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self._cluster = cluster
        self._sink = sink
        self._selector = selector
        self._metadata_only = metadata_only
        self._project = project
        self._discovery = discovery
        self._may_be_denied = may_be_denied
        self._on_synced = on_synced
        self._watch_seconds = watch_seconds
        self._objects: dict[Key, Object] = {}
        self._passed = 0  # the newest version that the server has told of
        self._lock = threading.RLock()  # over the objects, and over telling the sink in order
        self._watch: Watch | None = None
        self._relist = False
        self._stop = threading.Event()
        self._synced = threading.Event()
        self._absences = 0
        self.denied = False
        self.heard = time.monotonic()
        """When the API server last said anything about this kind."""
        self.problem = ""
        """Why it is not synced, or not connected."""
        self.denied = False
        """The role does not have this kind."""
        self._thread = threading.Thread(target=self._run, name=f"informer {resource}", daemon=True)

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. The thread is not waited for: it may be in a connection that answers nothing."""
        self._stop.set()
        self._interrupt()

    @property
    def synced(self) -> bool:
        """True once everything there was has been told to the sink, or the kind is known not to be installed."""
        return self._synced.is_set()

    def get(self, namespace: str, name: str) -> Object | None:
        """One object as kept. Not to be changed."""
        return self._objects.get((namespace, name))

    def snapshot(self) -> list[Object]:
        """All of them, as they are now."""
        with self._lock:
            return list(self._objects.values())

    def absorb(self, found: Object, *, tell: bool = False) -> None:
        """Take in the answer to a write of ours, which the watch tells sooner or later. ``tell``: news to the sink."""
        with self._lock:
            if key_of(found) in self._objects or version_of(found) > self._passed:
                self._put(found, quiet=not tell)

    def forget(self, namespace: str, name: str) -> Object | None:
        """Drop an object that the projection drops from now on; what was kept of it. No news to the sink."""
        with self._lock:
            return self._objects.pop((namespace, name), None)

    def relist(self) -> None:
        """List anew: what the projection drops may have changed."""
        self._synced.clear()
        self._relist = True
        self._interrupt()

    def _interrupt(self) -> None:
        watch = self._watch
        if watch is not None:
            watch.close()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS)
        while not self._stop.is_set():
            wait = 0.0
            try:
                resource = self._find()
                if resource is None:
                    wait = self._note_absence()
                else:
                    self._follow(resource, self._list(resource), backoff)
            except Gone:
                log.info("%s: the resource version is too old, listing again", self.resource)
                wait = spread(FIRST_RETRY_SECONDS)
            except NotFound:
                wait = self._note_absence()
            except Forbidden as error:
                wait = self._note_denial(error, backoff)
            except ClusterError as error:
                wait = self._note_problem(error, backoff)
            except Exception as error:  # a sink's fault must not end the informer
                log.exception("%s", self.resource)
                wait = self._note_problem(error, backoff)
            if wait:
                self._stop.wait(wait)

    def _find(self) -> Resource | None:
        return self.resource if self._discovery is None else self._discovery.find(self.resource)

    def _note_absence(self) -> float:
        """The kind is not served. Believed the second time in a row where it was served before."""
        self.heard = time.monotonic()
        self._absences += 1
        if not self._objects or self._absences > 1:
            self._replace([])
            self.problem = ""
            self._note_sync()
        else:
            self.problem = "the kind is not served any more"
            log.warning("%s: %s; its objects are kept until that is certain", self.resource, self.problem)
        return spread(self._discovery.seconds * 1.2 if self._discovery else DISCOVERY_SECONDS)

    def _note_problem(self, error: Exception, backoff: Backoff) -> float:
        wait = backoff.fail()
        said = str(error)
        if said != self.problem:
            log.warning("%s: %s; trying again", self.resource, said)
        self.problem = said
        return wait

    def _note_denial(self, error: Forbidden, backoff: Backoff) -> float:
        wait = self._note_problem(error, backoff)
        if self._may_be_denied and not self._objects:
            try:
                self._cluster.require_ready()  # while it starts, it does not know all roles yet
            except ClusterError:
                return wait
            self.denied = True
            self._note_sync()
        return wait

    def _note_sync(self) -> None:
        if not self._synced.is_set():
            self._synced.set()
            if self._on_synced is not None:
                self._on_synced()

    def _list(self, resource: Resource) -> str:
        self._relist = False
        found = self._cluster.list(resource, self.namespace, selector=self._selector, metadata_only=self._metadata_only)
        self._absences = 0
        self.denied = False
        self.heard = time.monotonic()
        version = found.resource_version
        self._passed = int(version) if version.isdigit() else 0
        self._replace(found)
        self.problem = ""
        if not self._relist:
            self._note_sync()
        return version

    def _follow(self, resource: Resource, version: str, backoff: Backoff) -> None:
        """Watch, and watch again from where it ended, until everything has to be listed again."""
        while not self._stop.is_set() and not self._relist:
            begun = time.monotonic()
            try:
                self._watch = watch = self._cluster.watch(
                    resource,
                    self.namespace,
                    resource_version=version,
                    selector=self._selector,
                    metadata_only=self._metadata_only,
                    seconds=self._watch_seconds,
                )
                if self._stop.is_set() or self._relist:  # asked for before there was a watch to interrupt
                    watch.close()
                for event in watch:
                    backoff.succeed()
                    self.problem = ""
                    self.heard = time.monotonic()
                    self._apply(event.type, event.object)
                    version = event.resource_version or version
            except (Gone, NotFound, Forbidden):
                raise
            except ClusterError as error:
                self._stop.wait(self._note_problem(error, backoff))
            else:
                if time.monotonic() - begun < 1.0 and not self._relist:  # client-go: "very short watch"
                    self._stop.wait(spread(FIRST_RETRY_SECONDS))
            finally:
                self._watch = None

    # --- the objects ------------------------------------------------------------------------------------------------

    def _apply(self, kind: str, found: Object) -> None:
        with self._lock:
            self._passed = max(self._passed, version_of(found))
            if kind in ("ADDED", "MODIFIED"):
                self._put(found)
            elif kind == "DELETED":
                self._remove(key_of(found), version_of(found))

    def _put(self, found: Object, *, quiet: bool = False) -> None:
        key, version = key_of(found), version_of(found)
        kept = self._project(found)
        with self._lock:
            old = self._objects.get(key)
            if old is not None and version_of(old) >= version > 0:
                return  # known, or overtaken by an answer that was absorbed
            if kept is None:
                self._objects.pop(key, None)
            else:
                self._objects[key] = kept
            if old is not kept and not quiet:
                self._sink(self.resource, old, kept)

    def _remove(self, key: Key, version: int | None = None) -> None:
        with self._lock:
            old = self._objects.get(key)
            if old is None or (version is not None and version_of(old) > version):
                return
            del self._objects[key]
            self._sink(self.resource, old, None)

    def _replace(self, found: list[Object]) -> None:
        """The objects are these and no others."""
        with self._lock:
            for key in self._objects.keys() - {key_of(one) for one in found}:
                self._remove(key)
            for one in found:
                self._put(one)
