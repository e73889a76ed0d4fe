"""The controller as a whole: what is followed, what an event leads to, and what is done for a namespace.

Knows: which parts there are and how they are joined: informers tell the state, the state says which namespaces may have
changed, these wait in the queue, a worker makes the bundle, writes what differs, and has the pods told.
Must not know: what is in an object that carries policy (``state``), or how anything is written (``writer``, ``nudges``,
``statuses``).

Every replica follows the cluster and makes bundles; only the leader writes. So a replica that takes over finds
everything in memory, and what is in the cluster already is not written again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from eastgate.dialects.catalogue import Reference
from eastgate.pods.bundles import BundleTooLarge, pack
from eastgate.pods.names import ENABLED, ENFORCED, INJECTION_LABEL, POLICIES
from webhook.cluster import Cluster, ClusterError, Conflict, Object
from webhook.controllers.backoff import spread
from webhook.controllers.events import EventRecorder
from webhook.controllers.informers import Discovery, Informer, key_of
from webhook.controllers.leader import AlwaysLeading, LeaderElection, NotLeading
from webhook.controllers.metrics import Metrics
from webhook.controllers.nudges import Nudger
from webhook.controllers.options import ControllerOptions
from webhook.controllers.projections import (
    is_injected,
    project_part,
    project_pod,
    project_policy,
)
from webhook.controllers.queue import WorkQueue
from webhook.controllers.references import References
from webhook.controllers.reports import Reporter
from webhook.controllers.state import ClusterState
from webhook.controllers.trust import TrustWatch
from webhook.controllers.writer import SELECTOR, BundleWriter
from webhook.resources import CONFIG_MAPS, NAMESPACES, PODS, POLICY_KINDS, SECRETS, SERVICES, Resource

STOP_SECONDS: Final = 15.0
"""For a namespace that is being worked on. Kubelet kills after 30."""
PENDING_SECONDS: Final = 1.0
"""Between two looks whether a namespace that waits for references may go on, should nobody have said so."""

log = logging.getLogger("eastgate.controller")


class Controller:
    """``start`` returns at once; ``wait_until_synced`` when everything there is has been seen."""

    def __init__(self, cluster: Cluster, options: ControllerOptions, metrics: Metrics, identity: str) -> None:
        self._cluster = cluster
        self._options = options
        self._metrics = metrics
        self._state = ClusterState()
        self._state_lock = threading.Lock()
        self._queue = WorkQueue()
        self._concerned: set[str] = set()  # namespaces that were ever looked at
        self._unseen: set[str] = set()  # those of them that were not since this replica leads
        self._pods_by_namespace: dict[str, dict[str, Object]] = {}
        self._pods_lock = threading.Lock()
        self._stop = threading.Event()
        self._leader: LeaderElection | AlwaysLeading = AlwaysLeading()
        if options.leader_elect:
            self._leader = LeaderElection(
                cluster,
                options.namespace,
                options.lease,
                identity,
                on_start=self._look_at_everything,
                lease_seconds=options.lease_seconds,
            )
        self._discovery = Discovery(cluster)
        self._follow()
        check, count = self._leader.check, metrics.count_write
        self._references = References(cluster, self._on_policy, self._look_at)
        self._writer = BundleWriter(cluster, self._config_maps, self._secrets, check, count)
        self._nudger = Nudger(cluster, self._pods, check, count, threads=options.nudge_threads)
        self._events = EventRecorder(cluster, check, count)
        self._reporter = Reporter(
            cluster,
            self._events,
            check,
            count,
            find_object=self._find_object,
            pods_of=self._pods_of,
            is_labelled=lambda namespace: _is_labelled(self._namespaces.get("", namespace)),
            is_settled=lambda: not self._unseen,
        )
        self._workers = [
            threading.Thread(target=self._work, name=f"worker {number}", daemon=True)
            for number in range(options.workers)
        ]
        self._resync = threading.Thread(target=self._look_again, name="resync", daemon=True)
        self._trust = TrustWatch(options.trusted_ca, self._on_trust)
        self._expose()

    def _follow(self) -> None:
        cluster = self._cluster
        self._policies = {
            (resource.group, resource.kind): Informer(
                cluster, resource, self._on_policy, project=project_policy, discovery=self._discovery
            )
            for resource in POLICY_KINDS
        }
        self._services = Informer(cluster, SERVICES, self._on_policy, project=project_policy)
        self._namespaces = Informer(cluster, NAMESPACES, self._on_namespace, metadata_only=True, project=project_policy)
        self._pods = Informer(cluster, PODS, self._on_pod, metadata_only=True, project=project_pod)
        self._config_maps = Informer(cluster, CONFIG_MAPS, self._on_part, selector=SELECTOR, project=project_part)
        self._secrets = Informer(
            cluster, SECRETS, self._on_part, selector=SELECTOR, project=project_part, may_be_denied=True
        )
        self._informers = [
            *self._policies.values(),
            *(self._services, self._namespaces, self._pods, self._config_maps, self._secrets),
        ]

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow the cluster."""
        for informer in self._informers:
            informer.start()

    def wait_until_synced(self, stop: threading.Event) -> bool:
        """Then begin to work. False when ``stop`` came first.

        Nothing is written before everything was seen: a bundle of half the policies would open what the others close.
        """
        while not all(informer.synced for informer in self._informers):
            if stop.wait(0.02):
                return False
        self._look_at_everything()
        for thread in (*self._workers, self._resync):
            thread.start()
        self._nudger.start()
        self._reporter.start()
        self._trust.start()
        if isinstance(self._leader, LeaderElection):
            self._leader.start()
        return True

    def stop(self) -> None:
        """Finish what was begun, give the Lease back, follow nothing more."""
        self._stop.set()
        self._trust.stop()
        self._queue.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._workers:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._nudger.stop()
        self._reporter.stop()
        if isinstance(self._leader, LeaderElection):
            self._leader.stop()
        self._references.stop()
        for informer in self._informers:
            informer.stop()

    def list_faults(self) -> list[str]:
        """Why this process should be restarted; nothing: it should not."""
        if not self._resync.is_alive():  # not yet begun
            return []
        dead = [thread.name for thread in (*self._workers, self._resync) if not thread.is_alive()]
        dead += [part.name for part in (self._nudger, self._reporter, self._trust, self._leader) if not part.is_alive]
        return [f"thread `{name}` has ended" for name in dead]

    def list_lags(self) -> list[str]:
        """Why it is not ready; nothing: it is."""
        waiting = [one for one in self._informers if not one.synced]
        return [f"{one.resource} is not synced{f': {one.problem}' if one.problem else ''}" for one in waiting]

    # --- events: from the informers' threads ------------------------------------------------------------------------

    def _on_policy(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        """A kind that bundles are made of. The state says whether, and whom, it concerns."""
        with self._state_lock:
            affected = self._state.put(new) if new is not None else self._state.remove(old or {})
        self._look_at(affected)
        if new is not None and not affected and (resource.group, resource.kind) in self._policies:
            self._reporter.reconsider(key_of(new)[0])  # perhaps somebody changed what we had said

    def _on_namespace(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        self._on_policy(resource, old, new)
        self._look_at([key_of(new or old or {})[1]])

    def _on_pod(self, _resource: Resource, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        namespace, name = key_of(pod)
        with self._pods_lock:
            pods = self._pods_by_namespace.setdefault(namespace, {})
            had = _any_injected(pods)
            if new is None:
                pods.pop(name, None)
            else:
                pods[name] = new
            has = _any_injected(pods)
            if not pods:
                del self._pods_by_namespace[namespace]
        if had != has:
            self._look_at([namespace])  # a bundle is needed now, or none any more
        if not _differ(old, new):
            return  # kubelet's news, of which there is a lot
        if _policies_of(old) != _policies_of(new):
            with self._state_lock:
                affected = self._state.put(pod) if new is not None else self._state.remove(pod)
            self._look_at(affected)
        if new is not None:
            self._nudger.consider(new)
        self._reporter.reconsider(namespace)

    def _on_part(self, _resource: Resource, old: Object | None, new: Object | None) -> None:
        """Somebody else wrote a bundle, or it is gone: look again. Our own writes are no news."""
        self._look_at([key_of(new or old or {})[0]])

    def _on_trust(self) -> None:
        """Every bundle carries the authorities."""
        self._look_at(list(self._concerned))

    def _look_at(self, namespaces: Iterable[str]) -> None:
        for namespace in namespaces:
            self._concerned.add(namespace)
            self._queue.add(namespace)

    def _look_at_everything(self) -> None:
        self._unseen = set(self._concerned)
        self._look_at(list(self._concerned))

    def _look_again(self) -> None:
        """Every namespace once in the resync time, evenly spread."""
        while not self._stop.is_set():
            known = sorted(self._concerned)
            for namespace in known:
                if self._stop.wait(spread(self._options.resync_seconds / len(known))):
                    return
                self._queue.add(namespace)
            if not known:
                self._stop.wait(PENDING_SECONDS)

    # --- work: from the workers' threads ----------------------------------------------------------------------------

    def _work(self) -> None:
        while (namespace := self._queue.take()) is not None:
            begun = time.monotonic()
            failed = True
            try:
                result = self._reconcile(namespace)
                failed = False
            except NotLeading:
                result, failed = "follows", False
            except Conflict as error:
                result = "failed"
                log.info("namespace %s: %s; looking again", namespace, error)
            except ClusterError as error:
                result = "failed"
                log.warning("namespace %s: %s; trying again", namespace, error)
                self._reporter.note(namespace, trouble=str(error))
            except Exception:
                result = "failed"
                log.exception("namespace %s; trying again", namespace)
            if result not in ("waiting", "follows"):
                self._unseen.discard(namespace)
            self._queue.done(namespace, failed=failed)
            self._metrics.observe_reconcile(result, time.monotonic() - begun)

    def _reconcile(self, namespace: str) -> str:
        """Bring one namespace's bundle, pods and conditions to what the state says; a word for the metric."""
        found = self._namespaces.get("", namespace)
        if found is None:
            return self._forget(namespace)
        with self._state_lock:
            built = self._state.build(namespace)
        wanted = [(reference.kind, reference.namespace, reference.name) for reference in built.wanted]
        if not self._references.want(namespace, wanted):
            return "waiting"  # they say so when they are there
        self._reporter.take(namespace, built)
        if not self._needs_bundle(found):
            return self._clear(found)
        try:
            bundle = pack(namespace, built.documents, built.secrets, self._trust.authorities)
        except BundleTooLarge as error:
            self._reporter.note(namespace, trouble=str(error))
            if self._leader.holds():
                log.error("namespace %s: the bundle is too large, the old one stays: %s", namespace, error)
                self._events.warn(found, "BundleTooLarge", f"the old bundle stays in force: {error}")
            return "too_large"
        self._leader.check()
        writes = self._writer.write(bundle)
        self._reporter.note(namespace, digest=bundle.digest)
        self._nudger.announce(namespace, bundle.digest, self._pods_of(namespace))
        if writes:
            log.info("namespace %s: bundle %s written", namespace, bundle.digest[:12])
        return "written" if writes else "unchanged"

    def _needs_bundle(self, namespace: Object) -> bool:
        """Pods mount it, and do not start without: it is there before the first, until after the last."""
        if namespace["metadata"].get("deletionTimestamp"):
            return False
        return _is_labelled(namespace) or any(map(is_injected, self._pods_of(namespace["metadata"]["name"])))

    def _clear(self, namespace: Object) -> str:
        name = namespace["metadata"]["name"]
        self._nudger.withdraw(name)
        self._reporter.withdraw(name)
        if namespace["metadata"].get("deletionTimestamp") or not self._writer.exists(name):
            return "unchanged"  # it goes with its namespace, or was never there
        self._leader.check()
        self._writer.remove(name)
        log.info("namespace %s: bundle removed, nobody needs it any more", name)
        return "written"

    def _forget(self, namespace: str) -> str:
        """The namespace is no more."""
        self._concerned.discard(namespace)
        with self._state_lock:
            self._state.forget(namespace)
        self._references.want(namespace, ())
        self._reporter.forget(namespace)
        self._nudger.withdraw(namespace)
        return "unchanged"

    # --- what is known ----------------------------------------------------------------------------------------------

    def _pods_of(self, namespace: str) -> list[Object]:
        with self._pods_lock:
            return list(self._pods_by_namespace.get(namespace, {}).values())

    def _find_object(self, reference: Reference) -> tuple[Informer, Object] | None:
        informer = self._policies.get((reference.group, reference.kind))
        found = None if informer is None else informer.get(reference.namespace, reference.name)
        return None if informer is None or found is None else (informer, found)

    def _expose(self) -> None:
        metrics, now = self._metrics, time.monotonic
        metrics.ask_gauge("queue_depth", "Namespaces that wait to be looked at.", "", lambda: {"": self._queue.depth})
        metrics.ask_gauge("nudges_waiting", "Pods that wait to be told.", "", lambda: {"": self._nudger.depth})
        metrics.ask_gauge(
            "reports_waiting", "Namespaces whose conditions wait to be written.", "", lambda: {"": self._reporter.depth}
        )
        trust = self._trust
        metrics.ask_gauge(
            "trusted_authorities", "Certificates of --trusted-ca.", "", lambda: {"": float(len(trust.authorities))}
        )
        metrics.ask_gauge(
            "trusted_ca_unusable",
            "1 while a file of --trusted-ca cannot be used and what it said before stays.",
            "",
            lambda: {"": float(trust.is_behind)},
        )
        metrics.ask_gauge("leader", "1 while this replica leads.", "", lambda: {"": float(self._leader.holds())})
        metrics.ask_gauge(
            "informer_age_seconds",
            "Since the API server last said anything about a kind (a bookmark a minute).",
            "resource",
            lambda: {str(one.resource): now() - one.heard for one in self._informers},
        )
        metrics.ask_gauge(
            "informer_synced",
            "1 when all objects of a kind are known.",
            "resource",
            lambda: {str(one.resource): float(one.synced) for one in self._informers},
        )
        metrics.ask_counter("requests", "Requests to the API server.", "verb", lambda: dict(self._cluster.calls))


def _is_labelled(namespace: Object | None) -> bool:
    labels: dict[str, Any] = (namespace or {"metadata": {}})["metadata"].get("labels") or {}
    return labels.get(INJECTION_LABEL) in (ENABLED, ENFORCED)


def _any_injected(pods: dict[str, Object]) -> bool:
    return any(map(is_injected, pods.values()))


def _differ(old: Object | None, new: Object | None) -> bool:
    """In anything but how often it was written."""
    if old is None or new is None:
        return old is not new
    return {**old["metadata"], "resourceVersion": ""} != {**new["metadata"], "resourceVersion": ""}


def _policies_of(pod: Object | None) -> object:
    return None if pod is None else pod["metadata"]["annotations"].get(POLICIES)
