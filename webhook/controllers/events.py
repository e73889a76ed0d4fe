"""Kubernetes Events: what people see with ``kubectl describe`` and ``kubectl get events``. Warnings only, each once.

Knows: how an Event looks, and that one that was said is not said again: its name is made of what it is about, so that
neither a restart nor another replica repeats it while the API server remembers it (an hour, by default). Must not know:
what leads to one. Rules: core/v1 Event.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from webhook.cluster import Cluster, ClusterError, Conflict
from webhook.resources import EVENTS

COMPONENT: Final = "eastgate-controller"
REMEMBERED: Final = 10_000
"""As many as are not even asked about again; beyond that the API server refuses the second by its name."""
REPEAT_SECONDS: Final = 3600.0
"""What is still so is said again when the API server has forgotten it (``--event-ttl``, an hour)."""
_MESSAGE: Final = 1024
"""The API's own bound."""

log = logging.getLogger("eastgate.controller.events")


class EventRecorder:
    """Says each thing once. ``check`` raises when this process may not write."""

    def __init__(self, cluster: Cluster, check: Callable[[], None], count: Callable[[str, str], None]) -> None:
        self._cluster = cluster
        self._check = check
        self._count = count
        self._said: OrderedDict[str, float] = OrderedDict()

    def warn(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        """An Event about an object: its ``apiVersion``, ``kind`` and ``metadata``. Never raises for the API server."""
        metadata = about["metadata"]
        namespace = str(metadata.get("namespace") or metadata["name"])  # of a Namespace: in that namespace
        identity = f"{about['kind']}/{metadata.get('uid')}/{reason}"
        mark = hashlib.sha256(identity.encode()).hexdigest()[:16]
        if time.monotonic() - self._said.get(mark, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": namespace, "name": f"{metadata['name'][:200]}.{mark}"},
            "involvedObject": {
                "apiVersion": about.get("apiVersion", "v1"),
                "kind": about["kind"],
                "namespace": namespace,
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:_MESSAGE],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._check()
        try:
            self._cluster.create(EVENTS, body)
            self._count(EVENTS.kind, "create")
        except Conflict:
            pass  # said before
        except ClusterError as error:
            log.warning("no Event %s for %s %s/%s: %s", reason, about["kind"], namespace, metadata["name"], error)
            return
        self._said[mark] = time.monotonic()
        self._said.move_to_end(mark)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
