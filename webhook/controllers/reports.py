"""What people are told: conditions on policies and routes, Events on pods and namespaces. After bundles, and slowly.

Knows: when to say something again (a bundle was made, pods have come or gone, somebody overwrote it), and that it is
only written when it is something else than what stands there. Must not know: what to say (``conditions``), or how it
looks (``statuses``). Nothing here can hold up a bundle: one thread, its own queue, a longer settling time.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eastgate.dialects.catalogue import Reference
from eastgate.pods.names import BUNDLE
from webhook.cluster import Cluster, ClusterError, Conflict, NotFound, Object
from webhook.controllers.conditions import Judgement, Progress, judge
from webhook.controllers.events import EventRecorder
from webhook.controllers.informers import Informer
from webhook.controllers.leader import NotLeading
from webhook.controllers.projections import is_ending, is_injected, opts_out
from webhook.controllers.queue import WorkQueue
from webhook.controllers.state import BuiltBundle
from webhook.controllers.statuses import render_status

SETTLE_SECONDS: Final = 0.3
MOST_SECONDS: Final = 1.0
SPACING_SECONDS: Final = 1.0
"""A roll-out of 200 pods changes the counts 400 times; once a second is often enough to read."""

NOT_PROTECTED: Final = (
    "the pod asks for policies (annotation eastgate.dev/policies) and has no sidecar: it was made before its namespace "
    "was labelled eastgate.dev/injection, or while the webhook was not installed; make it anew"
)

log = logging.getLogger("eastgate.controller.reports")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a bundle. ``digest`` is in force also while a newer one is in ``trouble``."""

    digest: str | None = None
    trouble: str = ""


class Reporter:
    """``find_object`` gives an object as it is and the informer that has it; ``pods_of`` the pods of a namespace;
    ``is_labelled`` whether pods made there now are injected; ``is_settled`` whether every namespace was looked at since
    this replica leads: before that, what is in force elsewhere is not known, and nothing is said that would be taken
    back a moment later.
    """

    name = "reports"

    def __init__(
        self,
        cluster: Cluster,
        events: EventRecorder,
        check: Callable[[], None],
        count: Callable[[str, str], None],
        *,
        find_object: Callable[[Reference], tuple[Informer, Object] | None],
        pods_of: Callable[[str], list[Object]],
        is_labelled: Callable[[str], bool],
        is_settled: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._events = events
        self._check = check
        self._count = count
        self._find_object = find_object
        self._pods_of = pods_of
        self._is_labelled = is_labelled
        self._is_settled = is_settled
        self._queue = WorkQueue(settle=SETTLE_SECONDS, most=MOST_SECONDS, spacing=SPACING_SECONDS)
        self._built: dict[str, BuiltBundle] = {}
        self._reaches: dict[str, frozenset[str]] = {}
        self._outcomes: dict[str, _Outcome] = {}
        self._judged: dict[str, tuple[object, dict[Reference, Judgement]]] = {}
        self._pruned: set[tuple[str, str]] = set()  # kinds whose CRD keeps nothing of what is said
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin to say things."""
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more."""
        self._queue.stop()
        if self._thread.is_alive():
            self._thread.join(5.0)

    @property
    def is_alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Namespaces of which something may have to be said."""
        return self._queue.depth

    def take(self, namespace: str, built: BuiltBundle) -> None:
        """A bundle was made: it is to be judged."""
        self._reaches[namespace] = _reach(built)
        self._built[namespace] = built
        self._queue.add(namespace)

    def note(self, namespace: str, *, digest: str | None = None, trouble: str = "") -> None:
        """How far the bundle of a namespace got: written with this digest, or not, for this reason."""
        before = self._outcomes.get(namespace, _Outcome())
        after = _Outcome(digest or before.digest, trouble)
        self._outcomes[namespace] = after
        if after != before:
            self.reconsider(namespace)

    def withdraw(self, namespace: str) -> None:
        """The namespace needs no bundle (any more)."""
        if self._outcomes.pop(namespace, None) is not None:
            self.reconsider(namespace)

    def forget(self, namespace: str) -> None:
        """The namespace is no more."""
        for known in (self._built, self._reaches, self._judged):
            known.pop(namespace, None)
        self.withdraw(namespace)

    def reconsider(self, namespace: str) -> None:
        """Something that is not in the bundle has changed: pods, how far it got, or what stands in a status."""
        for one, reach in list(self._reaches.items()):
            if one == namespace or namespace in reach:
                self._queue.add(one)
        self._queue.add(namespace)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (namespace := self._queue.take()) is not None:
            failed = False
            try:
                failed = not self._report(namespace)
            except NotLeading:
                pass  # the leader says it
            except ClusterError as error:
                failed = True
                log.warning("namespace %s: %s; trying again", namespace, error)
            except Exception:
                failed = True
                log.exception("namespace %s; trying again", namespace)
            self._queue.done(namespace, failed=failed)

    def _report(self, namespace: str) -> bool:
        """Say what is new. False when something could not be said yet."""
        self._check()
        if not self._is_settled():
            return False
        pods = self._pods_of(namespace)
        if self._is_labelled(namespace):
            for pod in pods:
                if not is_injected(pod) and not is_ending(pod) and not opts_out(pod):
                    self._events.warn(pod, "NotProtected", NOT_PROTECTED)
        built = self._built.get(namespace)
        said = [] if built is None else [self._say(*each) for each in self._judge(built).items()]
        return all(said)

    def _judge(self, built: BuiltBundle) -> dict[Reference, Judgement]:
        """The conditions, as they were last time where nothing that they depend on has changed since."""
        concerned = {built.namespace, *self._reaches.get(built.namespace, ())}
        progress = {one: self._measure(one) for one in sorted(concerned) if one in self._outcomes}
        basis = (built, progress, [one.generation for one in built.own])
        last = self._judged.get(built.namespace)
        if last is None or last[0] != basis:
            self._judged[built.namespace] = last = (basis, judge(built, progress))
        return last[1]

    def _measure(self, namespace: str) -> Progress:
        outcome = self._outcomes.get(namespace, _Outcome())
        pods = [pod for pod in self._pods_of(namespace) if is_injected(pod) and not is_ending(pod)]
        announced = sum(pod["metadata"]["annotations"].get(BUNDLE) == outcome.digest for pod in pods)
        return Progress(outcome.digest, announced, len(pods), outcome.trouble)

    def _say(self, reference: Reference, judgement: Judgement) -> bool:
        kind = (reference.group, reference.kind)
        found = self._find_object(reference)
        if found is None or kind in self._pruned:
            return True
        informer, held = found
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = render_status(*kind, held, judgement.conditions, now)
        if status is None:
            return True
        self._check()
        # With the version it is based on: a list is replaced as a whole, and other controllers have their part in it.
        body = {"metadata": {"resourceVersion": held["metadata"]["resourceVersion"]}, "status": status}
        resource = informer.resource.at(str(held["apiVersion"]).rpartition("/")[2])
        namespace, name = reference.namespace, reference.name
        try:
            written = self._cluster.patch(resource, namespace, name, body, subresource="status")
        except NotFound:  # the object, or a CRD without a status
            return True
        except Conflict:
            return False
        except ClusterError as error:
            if error.status not in (400, 403, 422):
                raise
            log.warning("%s %s/%s: its status cannot be written: %s", resource, namespace, name, error)
            return True
        self._count(resource.kind, "status")
        log.debug("%s %s/%s: %s", resource, namespace, name, [dict(one) for one in judgement.conditions])
        if render_status(*kind, written, judgement.conditions, now) is not None:
            log.info("%s: its CRD keeps no such status; none is written any more", resource)
            self._pruned.add(kind)
        informer.absorb(written)
        return True


def _reach(built: BuiltBundle) -> frozenset[str]:
    """The namespaces that the policies and routes of one may act in; what is said of them depends on those, too."""
    found = {one.namespace for route in built.policy_set.routes for one in route.destinations}
    for policy in built.policy_set.policies:
        found |= {one.namespace for one in policy.routes if one.namespace}
        found |= {one.namespace for one in policy.destinations if one.namespace}
    return frozenset(found)
