"""Who writes: one replica, by a Lease.

Knows: the protocol of client-go's ``leaderelection``: whoever finds the Lease free, released, or unchanged for its
duration by their own clock takes it, and renews it; resource versions decide between two who try at once. Must not
know: what a leader does.

The fence: ``holds`` is false as soon as the last renewal began longer ago than the renew deadline, by a monotonic clock
and without anybody having to notice; the others wait for the lease's duration, which is longer. So a leader that was
stopped, suspended or cut off finds itself not leading before anybody else leads.

The client library's own ``leaderelection`` is not used: it reckons with the wall clock, cannot be stopped, does not
release, and gives no such fence (docs/decisions/0006-controller.md).
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from webhook.cluster import Cluster, ClusterError, Conflict, NotFound, Object
from webhook.controllers.backoff import spread
from webhook.resources import LEASES

LEASE_SECONDS: Final = 15.0
RENEW_SHARE: Final = 10 / 15
RETRY_SHARE: Final = 2 / 15
"""The defaults of kube-controller-manager and of controller-runtime: 15 s, renewed within 10 s, tried every 2 s."""

log = logging.getLogger("eastgate.controller.leader")


class NotLeading(Exception):  # noqa: N818 (the condition's name)
    """A write was attempted by who may not write (any more)."""


class LeaderElection:
    """One candidate. ``on_start`` and ``on_stop`` are called from its thread, and must return soon."""

    name = "leader"

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_start: Callable[[], None] = lambda: None,
        on_stop: Callable[[], None] = lambda: None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._on_start, self._on_stop = on_start, on_stop
        self._lease_seconds = lease_seconds
        self._renew_seconds = lease_seconds * RENEW_SHARE
        self._retry_seconds = lease_seconds * RETRY_SHARE
        self._renewed: float | None = None  # when the last renewal that succeeded was begun
        self._leading = False  # whether ``on_start`` was called
        self._seen: Object | None = None  # the Lease as last read or written
        self._seen_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to try."""
        self._thread.start()

    def stop(self) -> None:
        """Give the Lease back, so that another need not wait for its end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._renew_seconds)

    @property
    def is_alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    def holds(self) -> bool:
        """True while nobody else can hold the Lease."""
        renewed = self._renewed
        return renewed is not None and time.monotonic() < renewed + self._renew_seconds

    def check(self) -> None:
        """Raise ``NotLeading`` unless it holds. To be called right before every write."""
        if not self.holds():
            raise NotLeading(f"{self.identity} does not hold lease {self._namespace}/{self._name}")

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._try()
            except ClusterError as error:
                log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            except Exception:
                log.exception("lease %s/%s", self._namespace, self._name)
            self._tell()
            # A leader comes in time; followers spread, for they all wait for the same end.
            self._stop.wait(self._retry_seconds if self._leading else spread(self._retry_seconds))
        self._release()

    def _tell(self) -> None:
        """Call back when leading began or ended."""
        leads = self.holds()
        if leads == self._leading:
            return
        self._leading = leads
        log.info("%s %s", self.identity, "leads" if leads else "does not lead any more")
        (self._on_start if leads else self._on_stop)()

    def _try(self) -> None:
        """Renew or take the Lease, where that may be done."""
        begun = time.monotonic()
        if not self.holds() or self._seen is None:
            self._read()
        elif self._write(begun):  # the Lease as it was left; nobody else may have touched it
            return
        else:
            self._read()
        if self._may_take(time.monotonic()):
            self._write(begun)

    def _read(self) -> None:
        try:
            found = self._cluster.get(LEASES, self._namespace, self._name, timeout=self._retry_seconds * 2)
        except NotFound:
            self._seen = None
            return
        if self._seen is None or _version(found) != _version(self._seen):
            self._seen_at = time.monotonic()
        self._seen = found
        if _spec(found).get("holderIdentity") != self.identity:
            self._renewed = None  # somebody else was faster, or took it by hand

    def _may_take(self, now: float) -> bool:
        if self._seen is None:
            return True
        spec = _spec(self._seen)
        holder = spec.get("holderIdentity")
        if not holder or holder == self.identity:
            return True
        lasts = spec.get("leaseDurationSeconds")
        return now >= self._seen_at + (float(lasts) if isinstance(lasts, int | float) else self._lease_seconds)

    def _write(self, begun: float, *, release: bool = False) -> bool:
        """Write the Lease with us as its holder. False when somebody else was faster."""
        body = self._render(release=release)
        timeout = max(0.5, self._renew_seconds / 2)
        try:
            if self._seen is None:
                self._seen = self._cluster.create(LEASES, body, timeout=timeout)
            else:
                self._seen = self._cluster.replace(LEASES, body, timeout=timeout)
        except (Conflict, NotFound):
            return False
        self._seen_at = time.monotonic()
        self._renewed = None if release else begun
        return True

    def _render(self, *, release: bool) -> Object:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        seen = self._seen or {}
        before = _spec(seen)
        own = before.get("holderIdentity") == self.identity
        transitions = int(before.get("leaseTransitions") or 0)
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": seen.get("metadata") or {"namespace": self._namespace, "name": self._name},
            "spec": {
                **before,
                "holderIdentity": "" if release else self.identity,
                "leaseDurationSeconds": 1 if release else max(1, round(self._lease_seconds)),
                "acquireTime": before.get("acquireTime") if own else now,
                "renewTime": now,
                "leaseTransitions": transitions if own or not seen else transitions + 1,
            },
        }

    def _release(self) -> None:
        held, self._renewed = self.holds(), None
        self._tell()
        if not held:
            return
        try:
            self._write(time.monotonic(), release=True)
        except ClusterError as error:
            log.warning("lease %s/%s was not released: %s", self._namespace, self._name, error)


def _spec(lease: Object) -> dict[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}


def _version(lease: Object) -> str:
    return str(lease.get("metadata", {}).get("resourceVersion", ""))


class AlwaysLeading:
    """For one replica that is known to be alone (``--no-leader-elect``)."""

    name = "leader"
    identity = "alone"
    is_alive = True

    def holds(self) -> bool:
        """True."""
        return True

    def check(self) -> None:
        """Nothing to check."""
