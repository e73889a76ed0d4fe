"""``eastgate sidecar run``: the policies are a bundle that kubelet mounts and keeps up to date.

Nothing is accepted before there are policies: a pod without a readable bundle waits, not ready and not dead, for the
next one that kubelet brings. From then on whatever cannot be used leaves the last good policies in force, and the log,
two metrics and ``/config`` say so. Where nothing changed but the annotation that announces a bundle, nothing is
compiled again.

Knows: what the pod's files mean for the service. Must not know: formats, or how anything is enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import replace

from eastgate.model.diagnostics import Severity
from eastgate.pods.authorities import Authorities
from eastgate.pods.bundles import BundleError, IncompleteBundle
from sidecar.admin import Handler
from sidecar.faults import describe_fault
from sidecar.loops import make_loop
from sidecar.options import PodOptions
from sidecar.policies.bundle import PodError, list_folders, read_pod
from sidecar.policies.mounts import LOOK_SECONDS, Fingerprint, MountError, take_fingerprint
from sidecar.policies.snapshot import Snapshot, compile_material
from sidecar.policies.trust import open_trust
from sidecar.policies.workload import PodMaterial
from sidecar.probes.prober import Prober
from sidecar.redirections.proof import find_gap
from sidecar.service import Service, refuse
from sidecar.sockets import claim_address, join_address

logger = logging.getLogger("eastgate.pod")

PATIENCE_SECONDS = 3.0
"""How long parts that do not fit together may be two volumes of which one is not updated yet. Kubelet does all volumes
of a pod in one go."""

RETRY_SECONDS = 1.0
"""What could not be used is read again, whether it changed or not: a volume may have been caught in the middle."""

MAX_COMPLAINTS = 100
"""Diagnostics of one bundle that are logged; ``/config`` shows all."""

REDIRECTION = "redirection"

PROVE_SECONDS = 0.5
PROVEN_SECONDS = 10.0
"""Between two proofs of redirection: until there is one, and after. Rules can be lost while a pod runs."""


def run(options: PodOptions) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when an address cannot be had."""
    with contextlib.ExitStack() as held:
        try:
            listen = held.enter_context(claim_address(*options.engine.listen))
        except OSError as error:
            return refuse(f"cannot listen on {join_address(*options.engine.listen)}", error)
        options = replace(options, engine=replace(options.engine, listen=listen))
        runner = held.enter_context(asyncio.Runner(loop_factory=make_loop))
        return runner.run(_serve(options))


async def _serve(options: PodOptions) -> int:
    return await PodService(options).run()


class PodService(Service):
    """The service whose policies are mounted."""

    def __init__(self, options: PodOptions) -> None:
        super().__init__(options.engine, "bundle")
        self._pod = options
        self._trust = open_trust(options.engine.trusted_ca)
        self._watched = (*list_folders(options), *self._trust.paths)
        self._seen: Fingerprint | None = None
        self._compiled: PodMaterial | None = None
        self._expected = ""
        self._error = ""
        self._retry_at = 0.0
        self._incomplete_since = 0.0
        self._prober = Prober(options.probes, options.address)
        self.metrics.show("eastgate_bundle_unusable", lambda: [((), float(bool(self._error)))])
        self.metrics.show("eastgate_bundle_behind", lambda: [((), float(self._is_behind))])
        self._proving: asyncio.Task[None] | None = None
        if options.expect_redirection:
            self.readiness.lose(REDIRECTION, "not proven yet")

    def find_routes(self) -> Iterable[tuple[str, str, Handler]]:
        """The app's own probes and hooks."""
        return self._prober.find_routes()

    async def obtain(self) -> Snapshot:
        """The first bundle that can be put in force, however long it takes."""
        if self._pod.expect_redirection:
            self._proving = asyncio.get_running_loop().create_task(self._prove_redirection(), name="prove redirection")
        else:
            logger.info("redirection is not checked: /readyz speaks of the bundle and the listener only")
        while (snapshot := await self._look(asked=False)) is None:
            await self.pause(LOOK_SECONDS)
        return snapshot

    async def watch(self) -> None:
        """Look for changes, for ever."""
        while True:
            asked = await self.pause(LOOK_SECONDS)
            snapshot = await self._look(asked=asked)
            if snapshot is None:
                continue
            try:
                await self.change(snapshot)
            except Exception as error:
                self._compiled = None
                self._complain(describe_fault(error))

    async def describe(self) -> dict[str, object]:
        """What ``/config`` shows of the pod."""
        return {
            "pod": f"{self._pod.namespace}/{self._pod.name}",
            "bundle": {"digest": self.digest, "expected": self._expected, "current": not self._is_behind},
            "error": self._error or None,
            "not_checked": [] if self._pod.expect_redirection else [REDIRECTION],
            "app_probes": sorted(self._pod.probes),
        }

    @property
    def _is_behind(self) -> bool:
        return self._expected not in ("", self.digest)

    # --- looking ---

    async def _look(self, *, asked: bool) -> Snapshot | None:
        """Other policies than those in force, if there are any that can be used."""
        fingerprint = take_fingerprint(self._watched)
        if fingerprint == self._seen and not asked and not (self._retry_at and time.monotonic() >= self._retry_at):
            return None
        fresh, self._seen, self._retry_at = fingerprint != self._seen, fingerprint, 0.0
        try:
            reading = await asyncio.to_thread(read_pod, self._pod)
            self._expected = reading.expected
            material = replace(reading.material, authorities=await self._read_authorities())
            if material == self._compiled and not asked:
                self._recover()
                return None
            snapshot = await asyncio.to_thread(compile_material, material, self.snapshot)
        except IncompleteBundle as error:
            self._wait_for_the_rest(str(error), fresh)
        except (BundleError, MountError, PodError) as error:
            self._complain(str(error), fresh)
        except Exception as error:
            self._complain(describe_fault(error), fresh)
        else:
            self._compiled = material
            self._recover()
            self._report(snapshot)
            return snapshot
        return None

    async def _read_authorities(self) -> Authorities:
        """Those of the command line; from a file that cannot be used, the last good ones."""
        if self._trust.paths:
            for problem in await asyncio.to_thread(self._trust.refresh):
                self.metrics.count("eastgate_reloads_total", "failed")
                logger.error("authorities not reloaded, those in force stay: %s", problem)
        return self._trust.authorities

    async def _prove_redirection(self) -> None:
        """Keep readiness' condition true to the kernel's rules, for ever."""
        while True:
            gap, known = await find_gap(), self.readiness.missing.get(REDIRECTION)
            if gap:
                self.readiness.lose(REDIRECTION, gap)
                if gap != known:
                    logger.error("%s", gap)
            elif known is not None:
                self.readiness.meet(REDIRECTION)
                logger.info("redirection is proven")
            await asyncio.sleep(PROVE_SECONDS if gap else PROVEN_SECONDS)

    def _wait_for_the_rest(self, why: str, fresh: bool) -> None:
        """Parts of two generations: complain when that lasts."""
        now = time.monotonic()
        self._incomplete_since = self._incomplete_since or now
        if now - self._incomplete_since >= PATIENCE_SECONDS:
            self._complain(why, fresh)
            return
        self._retry_at = now + LOOK_SECONDS
        if self.snapshot is None:
            self.readiness.lose("bundle", why)

    def _complain(self, why: str, fresh: bool = True) -> None:
        """What is mounted cannot be used; said once, until it is something else."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        known, self._error = self._error == why, why
        if self.snapshot is None:
            self.readiness.lose("bundle", why)
        if known and not fresh:
            return
        fields = {"why": why, "digest": self.digest, "expected": self._expected}
        if self.snapshot is None:
            logger.error("no bundle that can be used yet: nothing is accepted", extra={"fields": fields})
        else:
            self.metrics.count("eastgate_reloads_total", "failed")
            logger.error("the bundle cannot be used, the policies in force stay", extra={"fields": fields})

    def _recover(self) -> None:
        self._incomplete_since = 0.0
        if self._error:
            self._error = ""
            logger.info("the bundle can be used again")

    def _report(self, snapshot: Snapshot) -> None:
        """Log what is wrong with policies, and was not before. They refuse by themselves; here one can see why."""
        known = set(self.snapshot.diagnostics) if self.snapshot is not None else set()
        fresh = [found for found in snapshot.diagnostics if found not in known]
        if len(fresh) > MAX_COMPLAINTS:
            logger.warning("%d of %d complaints follow, /config shows all", MAX_COMPLAINTS, len(fresh))
        for found in fresh[:MAX_COMPLAINTS]:
            level = logging.ERROR if found.severity is Severity.ERROR else logging.WARNING
            fields = {"object": found.subject, "field": found.field, "code": found.code}
            logger.log(level, "%s", found.message, extra={"fields": fields})
