"""One worker: the gate, the keys and the proxy of one event loop, with those who watch them.

``serve`` runs one in its own process, or several in processes of their own (``supervisor``). Knows: what a worker is
made of and in which order it starts, changes plans and ends. Must not know: signals, files, other workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict

from sidecar.connections.proxy import Proxy
from sidecar.gate import Gate, Outcome
from sidecar.jwks.store import KeyStore, read_settings
from sidecar.log import DecisionLog, Journal
from sidecar.metrics import Metrics, Reading
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import Snapshot, demand_plan

START_PREFETCH_SECONDS = 2.0
"""How long the listener waits for the first fetch of its keys (Envoy: until it ended). Requests wait after that."""

RELOAD_PREFETCH_SECONDS = 0.3
"""The same before a new plan comes into force: a change of policy shall be live within a second."""


class Worker:
    """Made inside a running loop. ``journal`` and ``metrics`` are the process's own."""

    def __init__(self, options: ServeOptions, journal: Journal, metrics: Metrics) -> None:
        self._options = options
        self._journal = journal
        self._metrics = metrics
        self._keys = KeyStore(
            read_settings(options), lambda source, result: metrics.count("eastgate_jwks_fetch_total", source, result)
        )
        self._gate: Gate | None = None
        self._proxy: Proxy | None = None
        self._log = DecisionLog(journal, options.log, "")
        self._name = ""

    async def start(self, snapshot: Snapshot) -> tuple[str, int]:
        """Fetch keys, then listen; returns where. Raises ``OSError`` when the address cannot be had."""
        plan = demand_plan(snapshot)
        self._journal.attach(asyncio.get_running_loop())
        self._keys.trust(snapshot.authorities)
        await self._keys.prefetch(plan.sources, START_PREFETCH_SECONDS)
        count, write = self._metrics.observe, self._log.observe

        def observe(outcome: Outcome) -> None:
            count(outcome)
            write(outcome)

        self._gate = Gate(
            plan,
            self._keys,
            observe,
            count_upstream_error=lambda reason: self._metrics.count("eastgate_upstream_errors_total", reason),
        )
        self._proxy = proxy = Proxy(self._gate, self._keys, self._options, inbound=self._options.upstream is None)
        self._take(snapshot)
        self._metrics.show("eastgate_connections", lambda: [((), float(proxy.connections))])
        self._metrics.show("eastgate_connections_capacity", lambda: [((), float(proxy.capacity))])
        self._metrics.show("eastgate_connections_turned_away_total", lambda: [((), float(proxy.turned_away))])
        self._metrics.show("eastgate_connections_displaced_total", lambda: [((), float(proxy.displaced))])
        self._metrics.show("eastgate_workers", lambda: [((), 1.0)])
        self._metrics.show("eastgate_bundle_info", lambda: [((self._name,), 1.0)])
        self._metrics.show("eastgate_jwks_keys", lambda: self._show("keys"))
        self._metrics.show("eastgate_jwks_age_seconds", lambda: self._show("age"))
        self._metrics.show("eastgate_jwks_stale", lambda: self._show("stale"))
        return await proxy.start()

    @property
    def digest(self) -> str:
        """The digest of the plan in force, empty before there is one."""
        return self._gate.plan.digest if self._gate is not None else ""

    async def apply(self, snapshot: Snapshot) -> None:
        """Put another plan in force. Its keys are asked for before; keys that only the old one needed are dropped."""
        if self._gate is None:
            raise RuntimeError("not started")
        plan = demand_plan(snapshot)
        self._keys.trust(snapshot.authorities)
        await self._keys.prefetch(plan.sources, RELOAD_PREFETCH_SECONDS)
        self._gate.swap(plan)
        self._take(snapshot)
        await self._keys.retain(plan.sources)

    def _take(self, snapshot: Snapshot) -> None:
        """What of a snapshot is not the gate's."""
        plan = demand_plan(snapshot)
        self._name = snapshot.digest
        self._log.mode = str(plan.workload.mode)
        if self._proxy is not None and snapshot.opaque_ports is not None:
            self._proxy.opaque_ports = snapshot.opaque_ports

    def read(self) -> Reading:
        """What was counted."""
        return self._metrics.read()

    def describe_sources(self) -> list[dict[str, object]]:
        """The remote sources of keys, for ``/config``."""
        return [asdict(state) for state in self._keys.describe()]

    async def drain(self, seconds: float) -> None:
        """Accept no more; return when everything in flight ended, or after ``seconds``."""
        if self._proxy is not None:
            await self._proxy.drain(seconds)

    async def stop(self) -> None:
        """End everything at once."""
        if self._proxy is not None:
            await self._proxy.stop()
        await self._keys.close()
        self._journal.attach(None)

    def _show(self, field: str) -> Iterable[tuple[tuple[str, ...], float]]:
        for state in self._keys.describe():
            value = getattr(state, field)
            if value is not None:
                yield (state.source,), float(value)


class LocalFleet:
    """The one worker of a process that needs no others. The fleet that ``serve`` uses without ``--workers``."""

    def __init__(self, options: ServeOptions, journal: Journal, metrics: Metrics) -> None:
        self._worker = Worker(options, journal, metrics)
        self._accepting = False

    async def start(self, snapshot: Snapshot) -> tuple[str, int]:
        """Start; returns where it accepts. Raises ``OSError``."""
        address = await self._worker.start(snapshot)
        self._accepting = True
        return address

    async def apply(self, snapshot: Snapshot) -> None:
        """Put new policies in force."""
        await self._worker.apply(snapshot)

    async def read(self) -> list[Reading]:
        """Nothing beyond what the process itself counts."""
        return []

    async def describe(self) -> list[dict[str, object]]:
        """The sources of keys."""
        return self._worker.describe_sources()

    def find_missing(self) -> dict[str, str]:
        """What keeps it from serving."""
        return {} if self._accepting else {"listener": "does not accept connections"}

    async def drain(self, seconds: float) -> None:
        """Finish what is in flight."""
        self._accepting = False
        await self._worker.drain(seconds)

    async def stop(self) -> None:
        """End it."""
        self._accepting = False
        await self._worker.stop()
