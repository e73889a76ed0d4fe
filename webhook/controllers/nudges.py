"""Word to the pods that their bundle has changed: one annotation with its digest.

Kubelet looks at a pod's volumes again as soon as the pod itself changes, and only every minute or so when it does not;
so this is what makes a change live at once. Knows: which pods carry our sidecar, and which digest they should have.
Must not know: what the digest stands for. At most one write a pod a change: the answer to the write goes into the
informer's copy, and a pod that waits for its turn while the next change comes is told of that one only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from eastgate.pods.names import BUNDLE
from webhook.cluster import Cluster, ClusterError, Conflict, NotFound
from webhook.controllers.informers import Informer
from webhook.controllers.leader import NotLeading
from webhook.controllers.projections import is_ending, is_injected
from webhook.controllers.queue import WorkQueue
from webhook.resources import PODS

THREADS: Final = 8
"""A patch takes the API server some 5 to 20 ms: 200 pods in well under a second, without crowding others out."""
NUDGE_SECONDS: Final = 10.0

log = logging.getLogger("eastgate.controller.nudges")


class Nudger:
    """Patches pods, several at a time. ``check`` raises when this process may not write."""

    name = "nudges"

    def __init__(
        self,
        cluster: Cluster,
        pods: Informer,
        check: Callable[[], None],
        count: Callable[[str, str], None],
        *,
        threads: int = THREADS,
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._check = check
        self._count = count
        self._queue = WorkQueue(settle=0.0, most=0.0, spacing=0.0)
        self._digests: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"nudges {number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin to patch."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        self._queue.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(NUDGE_SECONDS)

    @property
    def depth(self) -> int:
        """Pods that wait for their turn."""
        return self._queue.depth

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return self._queue.is_idle

    @property
    def is_alive(self) -> bool:
        """All threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def announce(self, namespace: str, digest: str, pods: list[dict[str, Any]]) -> None:
        """The bundle of a namespace is written and has this digest: tell those of its pods that do not know."""
        self._digests[namespace] = digest
        for pod in pods:
            self.consider(pod)

    def withdraw(self, namespace: str) -> None:
        """There is no bundle any more: nobody is told anything."""
        self._digests.pop(namespace, None)

    def consider(self, pod: dict[str, Any]) -> None:
        """Tell a pod what is in force, if it does not know."""
        if self._find_digest(pod) is not None:
            self._queue.add(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")

    def _find_digest(self, pod: dict[str, Any]) -> str | None:
        """The digest that a pod should be told; None when it knows, or is none that is told."""
        digest = self._digests.get(pod["metadata"]["namespace"])
        if digest is None or not is_injected(pod) or is_ending(pod):
            return None
        return None if pod["metadata"]["annotations"].get(BUNDLE) == digest else digest

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            failed = False
            try:
                self._nudge(*key.split("/"))
            except (NotFound, Conflict, NotLeading):
                pass  # gone, another pod by this name by now, or another's job
            except ClusterError as error:
                failed = error.status != 422  # as for an unknown uid: another pod by this name, told on its own account
                log.warning("pod %s was not told of its bundle: %s", key, error)
            except Exception:
                failed = True
                log.exception("pod %s", key)
            self._queue.done(key, failed=failed)

    def _nudge(self, namespace: str, name: str) -> None:
        pod = self._pods.get(namespace, name)
        digest = None if pod is None else self._find_digest(pod)
        if pod is None or digest is None:
            return
        self._check()
        body = {"metadata": {"uid": pod["metadata"]["uid"], "annotations": {BUNDLE: digest}}}
        told = self._cluster.patch(PODS, namespace, name, body, metadata_only=True, timeout=NUDGE_SECONDS)
        self._count(PODS.kind, "patch")
        self._pods.absorb(told, tell=True)
