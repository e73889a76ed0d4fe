"""One object of the cluster, as it was last seen, and word when it changes.

A thread lists and watches a single name: a role that names the object (``resourceNames``) allows that with a field
selector, and no more than that is asked for. When the watch ends or breaks it begins again with a look at the whole
object, so nothing is missed, only late.

Knows: list and watch. Must not know: what the object is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from webhook.cluster import Cluster, ClusterError, NotFound, Object, Watch
from webhook.resources import Resource

LOG = logging.getLogger(__name__)

WATCH_SECONDS = 60.0
"""Much shorter than client-go's five minutes: a connection that died silently is noticed when its watch should have
ended, and what is watched here has to be repaired soon. It is one object, so beginning again costs nothing."""

RETRY_SECONDS = (0.2, 5.0)
"""The first wait after a failure, doubled up to the last."""


class Sighting:
    """``known`` tells whether there was an answer yet; ``seen`` is the object, None where there is none."""

    def __init__(
        self, cluster: Cluster, resource: Resource, namespace: str | None, name: str, wake: Callable[[], None]
    ) -> None:
        self.resource = resource
        self.name = name
        self._namespace = namespace
        self._cluster = cluster
        self._wake = wake
        self._lock = threading.Lock()
        self._known = False
        self._seen: Object | None = None
        self._watch: Watch | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"watch {resource.plural}/{name}", daemon=True)

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.name}"

    @property
    def known(self) -> bool:
        """Whether the API server has answered since the last failure to reach it at the start."""
        return self._known

    @property
    def seen(self) -> Object | None:
        """The object as last seen. Not to be changed."""
        return self._seen

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch and its thread."""
        self._ended.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()
        self._thread.join(5.0)

    def note(self, found: Object | None) -> None:
        """Take what a write answered with, so that nobody acts on what was there before it."""
        with self._lock:
            self._known, self._seen = True, found

    def refresh(self) -> None:
        """Ask now. Raises ``ClusterError``."""
        try:
            self.note(self._cluster.get(self.resource, self._namespace, self.name))
        except NotFound:
            self.note(None)

    def _follow(self) -> None:
        wait = RETRY_SECONDS[0]
        while not self._ended.is_set():
            try:
                self._watch_once()
                wait = RETRY_SECONDS[0]
            except Exception as error:  # a thread that ended would leave everything as it is for ever
                if self._ended.is_set():
                    return
                known = isinstance(error, ClusterError)
                LOG.warning("watch of %s: %s", self, error, exc_info=None if known else error)
                self._ended.wait(wait)
                wait = min(2 * wait, RETRY_SECONDS[1])

    def _watch_once(self) -> None:
        fields = f"metadata.name={self.name}"
        listed = self._cluster.list(self.resource, self._namespace, fields=fields)
        self.note(listed[0] if listed else None)
        self._wake()
        watch = self._cluster.watch(
            self.resource,
            self._namespace,
            resource_version=listed.resource_version,
            fields=fields,
            seconds=WATCH_SECONDS,
        )
        with self._lock:
            self._watch = watch
        if self._ended.is_set():  # stopped before there was a watch to close
            watch.close()
        for event in watch:
            if event.type in ("ADDED", "MODIFIED"):
                self.note(event.object)
            elif event.type == "DELETED":
                self.note(None)
            else:
                continue
            self._wake()
