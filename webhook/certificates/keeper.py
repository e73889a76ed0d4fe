"""Keeps the Secret, the leaf and the configurations as they should be. One in every replica, and none leads.

One thread goes through the same steps whenever something was seen to change, and now and then for the clock's sake:

1. The Secret holds what it should (``holding``): created by whoever is first, changed only as it was read.
2. This replica has a leaf of an authority that the API server trusts, renewed before it ends.
3. Our entries in the configurations carry the Secret's bundle, once the server accepts connections.

A next authority is first put into the Secret, then into the configurations, and only when it was seen there for a
while a leaf of it is shown; until then the old leaf is. So at no time is there a leaf that is not trusted. All replicas
write the same, so it does not matter who is first: a conflict means that somebody was.

Whatever fails is tried again, loudly; the last leaf stays in use. A leaf that ended makes the replica not ready.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from webhook.certificates.authority import AuthorityError, fingerprint, make_authority
from webhook.certificates.holding import Holding, read_holding, render_secret, salvage_certificates, want_holding
from webhook.certificates.leaf import Leaf, make_leaf
from webhook.certificates.options import KeeperOptions
from webhook.certificates.registrations import count_drift, is_trusted, repair_bundle
from webhook.certificates.serving import ServedLeaf
from webhook.certificates.sighting import Sighting
from webhook.cluster import Cluster, ClusterError, Conflict, Object
from webhook.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS

LOG = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 10.0)
"""The first wait after a failure, doubled up to the last. Word of a change cuts it short."""

REPAIR_SECONDS = 0.5
"""Between two repairs of one configuration: somebody who keeps writing another bundle gets no race out of us."""

SERVING_SECONDS = 0.1
"""Between two looks whether the server accepts."""


@dataclass(frozen=True, slots=True)
class KeeperState:
    """For the metrics. Times are Unix times, 0 where there is nothing yet."""

    ready: bool
    leaf_expires: float
    leaf_renewals: int
    authority_expires: float
    repairs: int
    """Configurations that this replica has corrected."""
    drift: int
    """Entries that carry another bundle right now."""
    failures: int
    last_failure: str


class CertificateKeeper:
    """``start`` it, ``wait`` for the first leaf, serve with ``context``, ask ``ready``, ``stop`` it.

    ``serving`` says whether the server accepts connections: nothing is written into the configurations before.
    """

    def __init__(
        self,
        cluster: Cluster,
        options: KeeperOptions | None = None,
        *,
        serving: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._options = options = options or KeeperOptions()
        self._serving = serving
        self._clock = clock
        self._jitter = jitter
        self._served = ServedLeaf()
        self._listeners: list[Callable[[], None]] = []
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._has_leaf = threading.Event()
        self._thread = threading.Thread(target=self._run, name="certificates", daemon=True)
        self._secret = Sighting(cluster, SECRETS, options.namespace, options.secret, self._woken.set)
        self._configurations = [
            Sighting(cluster, resource, None, name, self._woken.set)
            for resource, names in ((MUTATING_WEBHOOKS, options.mutating), (VALIDATING_WEBHOOKS, options.validating))
            for name in names
        ]
        self._leaf: Leaf | None = None
        self._remembered: Holding | None = None
        self._trusted: tuple[x509.Certificate, float] | None = None
        """The authority that the configurations were seen to trust without a break, and since when (monotonic)."""
        self._confirmed: frozenset[x509.Certificate] = frozenset()
        """The authorities that they have trusted for long enough."""
        self._next_repair: dict[Sighting, float] = {}
        self._renewals = self._repairs = self._failures = 0
        self._last_failure = ""

    # --- what others see --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch and to keep. Returns at once."""
        for sighting in (self._secret, *self._configurations):
            sighting.start()
        self._thread.start()

    def stop(self) -> None:
        """End the threads. The Secret and the configurations stay as they are."""
        self._ended.set()
        self._woken.set()
        self._thread.join(20.0)
        for sighting in (self._secret, *self._configurations):
            sighting.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there is a leaf to serve with."""
        return self._has_leaf.wait(seconds)

    @property
    def context(self) -> ssl.SSLContext:
        """For the server: connections from now on get the leaf that is current when they come."""
        return self._served.context

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call it after every new leaf, from the keeper's thread."""
        self._listeners.append(callback)

    @property
    def ready(self) -> bool:
        """Whether the API server would accept this replica: its leaf is valid, and its authority trusted."""
        leaf = self._leaf
        return leaf is not None and leaf.span.covers(self._clock()) and leaf.issuer in self._confirmed

    @property
    def expires(self) -> float:
        """When the leaf ends; 0 where there is none."""
        leaf = self._leaf
        return 0.0 if leaf is None else leaf.span.ends

    @property
    def state(self) -> KeeperState:
        """A look at everything, for the metrics."""
        remembered = self._remembered
        bundle = remembered.bundle() if remembered is not None else b""
        service = self._options.registered
        return KeeperState(
            ready=self.ready,
            leaf_expires=self.expires,
            leaf_renewals=self._renewals,
            authority_expires=remembered.authority.span.ends if remembered is not None else 0.0,
            repairs=self._repairs,
            drift=sum(count_drift(one.seen or {}, service, bundle) for one in self._configurations),
            failures=self._failures,
            last_failure=self._last_failure,
        )

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retry = RETRY_SECONDS[0]
        while not self._ended.is_set():
            self._woken.clear()
            try:
                pause = self._step()
                retry = RETRY_SECONDS[0]
            except Conflict as conflict:  # another replica was first: what it wrote is on its way to us
                LOG.debug("%s", conflict)
                pause = RETRY_SECONDS[0]
            except Exception as error:
                self._failures += 1
                self._last_failure = str(error)
                known = isinstance(error, ClusterError)
                LOG.error("certificates: %s; trying again in %.1f s", error, retry, exc_info=None if known else error)
                pause, retry = retry, min(2 * retry, RETRY_SECONDS[1])
            self._woken.wait(pause)

    def _step(self) -> float:
        """Go through all once; returns the seconds until the next time, if nobody wakes us before."""
        if not self._secret.known:
            return self._options.tick
        now = self._clock()
        try:
            holding, version = self._keep_secret(self._secret.seen, now)
        except Conflict:
            self._secret.refresh()
            self._woken.set()
            raise
        except ClusterError:
            if self._remembered is not None:  # a Secret that cannot be written is no reason to let the leaf end
                self._renew_leaf(self._remembered, now)
            raise
        self._renew_leaf(holding, now)
        pause = self._take_over(holding, now)
        if not self._serving():
            return min(pause, SERVING_SECONDS)
        return min(pause, self._keep_configurations(holding, version))

    def _keep_secret(self, seen: Object | None, now: float) -> tuple[Holding, object]:
        """Make the Secret hold what it should, if what was ``seen`` does not. Returns what it holds, and the version.

        What was seen is looked at once and passed on: the watch goes on while this runs, and to write over a version
        that was not looked at would be to undo what another replica did.
        """
        found: Holding | None = None
        salvaged: tuple[x509.Certificate, ...] = ()
        why = "there was none"
        if seen is not None:
            try:
                found = read_holding(seen)
                why = "its content was due for a change"
            except AuthorityError as error:
                why, salvaged = str(error), salvage_certificates(seen)
        self._remembered = found or self._remembered
        served = self._leaf.issuer if self._leaf is not None else None
        lifetime = self._options.authority_lifetime
        wanted = want_holding(found, self._remembered, served, salvaged, now, lambda: make_authority(now, lifetime))
        if seen is None or wanted != found:
            seen = self._write_secret(wanted, seen, why)
        self._remembered = wanted
        return wanted, seen["metadata"]["resourceVersion"]

    def _write_secret(self, wanted: Holding, seen: Object | None, why: str) -> Object:
        options = self._options
        body = render_secret(wanted, options.secret, options.namespace, seen)
        written = self._cluster.create(SECRETS, body) if seen is None else self._cluster.replace(SECRETS, body)
        self._secret.note(written)
        LOG.warning(
            "secret %s/%s written (%s): authority %s, valid for %.0f days, %d trusted",
            options.namespace,
            options.secret,
            why,
            fingerprint(wanted.authority.certificate)[:16],
            (wanted.authority.span.ends - self._clock()) / 86400,
            len(wanted.trusted),
        )
        return written

    def _renew_leaf(self, holding: Holding, now: float) -> None:
        """A new leaf of the authority that signed the last one, when it is time; or the first one."""
        leaf, authority = self._leaf, holding.authority
        if not authority.span.covers(now):
            return
        if leaf is None or (leaf.issuer == authority.certificate and now >= leaf.due):
            self._use_new_leaf(holding, now)

    def _take_over(self, holding: Holding, now: float) -> float:
        """Sign with the authority of the Secret as soon as it was trusted for long enough."""
        issuer, service, moment = holding.authority.certificate, self._options.registered, time.monotonic()
        # A configuration that is not there calls nobody. One that was never seen may not trust us.
        trusted = all(
            one.known and ((seen := one.seen) is None or is_trusted(seen, service, issuer))
            for one in self._configurations
        )
        if not trusted:
            self._trusted = None
        elif self._trusted is None or self._trusted[0] != issuer:
            self._trusted = issuer, moment
        left = self._options.settle
        if self._trusted is not None:
            left -= moment - self._trusted[1]
            if left <= 0:
                self._confirmed |= {issuer}
        leaf = self._leaf
        if leaf is not None and leaf.issuer != issuer and (left <= 0 or now >= leaf.span.ends):
            self._use_new_leaf(holding, now)
        return self._options.tick if left <= 0 else max(0.01, left)

    def _use_new_leaf(self, holding: Holding, now: float) -> None:
        options = self._options
        leaf = make_leaf(holding.authority, options.names, now, options.leaf_lifetime, self._jitter())
        self._served.use(leaf)
        self._leaf = leaf
        self._renewals += 1
        LOG.info(
            "new certificate for %s, serial %x, by authority %s, valid until %s",
            options.names[0],
            leaf.certificate.serial_number,
            fingerprint(leaf.issuer)[:16],
            leaf.certificate.not_valid_after_utc.isoformat(),
        )
        self._has_leaf.set()
        for callback in self._listeners:
            try:
                callback()
            except Exception:  # a listener's trouble is no reason to stop keeping certificates
                LOG.exception("certificates: a listener failed")

    def _keep_configurations(self, holding: Holding, version: object) -> float:
        """Give our entries the bundle of the Secret where they have another; returns when to look again."""
        bundle, service, pause = holding.bundle(), self._options.registered, self._options.tick
        failed: ClusterError | None = None
        for sighting in self._configurations:
            operations = repair_bundle(sighting.seen or {}, service, bundle)
            if not operations:
                continue
            moment = time.monotonic()
            wait = self._next_repair.get(sighting, 0.0) - moment
            if wait > 0:
                pause = min(pause, wait)
                continue
            if not self._is_secret_at(version):
                self._woken.set()
                return pause
            self._next_repair[sighting] = moment + REPAIR_SECONDS
            pause = min(pause, REPAIR_SECONDS)
            try:
                self._cluster.patch(sighting.resource, None, sighting.name, operations, "json")
            except Conflict:  # it was changed, perhaps by another replica to what we want: the watch will tell
                continue
            except ClusterError as error:  # one that cannot be written is no reason to leave the others
                failed = error
                continue
            self._repairs += 1
            LOG.warning("caBundle written into %s", sighting)
        if failed is not None:
            raise failed
        return pause

    def _is_secret_at(self, version: object) -> bool:
        """Ask whether the Secret is still as it was looked at.

        Another replica may have put the next authority there and into the configuration, and we would take it out of
        the configuration again, if only for a moment.
        """
        self._secret.refresh()
        current = self._secret.seen
        return current is not None and current["metadata"]["resourceVersion"] == version
