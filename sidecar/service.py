"""The main process of a sidecar: from options to a running proxy, and back to an exit code.

The order is: open the admin port; get the first policies; start the workers; say ``ready``; watch for others, until
SIGTERM, SIGINT or ``POST /quit`` drains. A second signal ends at once. Where policies come from, and what becomes of
ones that are no good, is the business of ``serve`` (files) and ``pod`` (a mounted bundle).

Only here are there signals and standard output. Knows: the order. Must not know: how anything is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol

from eastgate.pods.authorities import describe_authorities
from sidecar.admin import AdminServer, Handler, Readiness, build_admin
from sidecar.log import Journal, install_log
from sidecar.loops import tune_memory
from sidecar.metrics import Metrics, Reading, add_readings
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import Snapshot
from sidecar.sockets import join_address
from sidecar.workers.supervisor import ProcessFleet, WorkerError

logger = logging.getLogger("eastgate.serve")


class Fleet(Protocol):
    """One worker in this process (``worker.LocalFleet``) or several in their own (``workers.ProcessFleet``)."""

    async def start(self, snapshot: Snapshot) -> tuple[str, int]:
        """Start; returns where it accepts. Raises ``OSError`` or ``WorkerError``."""
        ...

    async def apply(self, snapshot: Snapshot) -> None:
        """Put new policies in force."""
        ...

    async def read(self) -> list[Reading]:
        """What other processes counted."""
        ...

    async def describe(self) -> list[dict[str, object]]:
        """The remote sources of keys."""
        ...

    def find_missing(self) -> dict[str, str]:
        """What keeps it from serving, by name."""
        ...

    async def drain(self, seconds: float) -> None:
        """Accept no more, finish what is in flight, for at most ``seconds``."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class Service(ABC):
    """Everything of the main process that lives in its event loop. ``condition`` is readiness' name for policies."""

    def __init__(self, options: ServeOptions, condition: str) -> None:
        self.options = options
        self.metrics = Metrics()
        self.readiness = Readiness(condition, "listener")
        self.snapshot: Snapshot | None = None
        self.reload = asyncio.Event()
        """Set by SIGHUP."""
        self._condition = condition
        self._journal = Journal(on_drop=lambda: self.metrics.count("eastgate_log_dropped_total"))
        self._fleet = _make_fleet(options, self._journal, self.metrics)
        self._quit = asyncio.Event()

    @abstractmethod
    async def obtain(self) -> Snapshot:
        """The policies to start with. May take its time: nothing is accepted before it returns."""

    @abstractmethod
    async def watch(self) -> None:
        """Call ``change`` whenever there are others, for ever."""

    async def describe(self) -> dict[str, object]:
        """What ``/config`` shows besides."""
        return {}

    def find_routes(self) -> Iterable[tuple[str, str, Handler]]:
        """Further routes of the admin port, method, path and handler, that bound their own time."""
        return ()

    async def run(self) -> int:
        """Start, serve, drain. Returns the exit code."""
        install_log(self.options.log, self._journal, lambda fault: self.metrics.count("eastgate_faults_total", fault))
        self._listen_to_signals()
        admin = build_admin(self._find_missing, self._read_metrics, self._read_config, self._quit.set)
        for route in self.find_routes():
            admin.route(*route, patient=True)
        try:
            if not await self._start(admin):
                return 1
            if not self._quit.is_set():
                await self._watch_until_told()
            await self._drain()
        finally:
            await self._fleet.stop()
            await admin.stop()
            self._journal.attach(None)
        return 0

    async def change(self, snapshot: Snapshot) -> None:
        """Put other policies in force, and say so."""
        await self._fleet.apply(snapshot)
        self._put_in_force(snapshot)
        self.metrics.count("eastgate_reloads_total", "success")
        logger.info("policies reloaded", extra={"fields": {"digest": self.digest}})

    @property
    def digest(self) -> str:
        """Of the policies in force, empty before there are any."""
        return self.snapshot.digest if self.snapshot is not None else ""

    def _put_in_force(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.readiness.meet(self._condition)

    # --- from start to end ---

    async def _start(self, admin: AdminServer) -> bool:
        """True when everything accepts, or it was told to quit first; otherwise the reason has been said."""
        if self.options.admin is not None:
            try:
                host, port = await admin.start(*self.options.admin)
            except OSError as error:
                refuse(f"cannot listen on {join_address(*self.options.admin)} (admin)", error)
                return False
            logger.info("admin port open", extra={"fields": {"address": join_address(host, port)}})
        snapshot = await self._obtain_unless_told()
        if snapshot is None:
            return True
        self._put_in_force(snapshot)
        try:
            host, port = await self._fleet.start(snapshot)
        except (OSError, WorkerError) as error:
            refuse(f"cannot serve on {join_address(*self.options.listen)}", error)
            return False
        if self._quit.is_set():
            return True
        self.readiness.meet("listener")
        tune_memory()
        sys.stdout.write(f"ready http://{join_address(host, port)}\n")
        sys.stdout.flush()
        return True

    async def _obtain_unless_told(self) -> Snapshot | None:
        """The first policies; None when it was told to quit before there were any."""
        loop = asyncio.get_running_loop()
        obtaining = loop.create_task(self.obtain(), name="first policies")
        quitting = loop.create_task(self._quit.wait(), name="quit")
        try:
            await asyncio.wait((obtaining, quitting), return_when=asyncio.FIRST_COMPLETED)
            return obtaining.result() if obtaining.done() else None
        finally:
            obtaining.cancel()
            quitting.cancel()
            await asyncio.gather(obtaining, quitting, return_exceptions=True)

    async def _watch_until_told(self) -> None:
        watching = asyncio.get_running_loop().create_task(self.watch(), name="watch policies")
        await self._quit.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def _drain(self) -> None:
        seconds = self.options.drain_seconds
        self.readiness.lose("listener", "draining")
        logger.info("draining", extra={"fields": {"seconds": seconds}})
        await self._fleet.drain(seconds)
        logger.info("drained")

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def _take_signal(self, number: int) -> None:
        if self._quit.is_set():
            # Asked twice: whoever asks does not want to wait.
            self._journal.flush()
            os._exit(128 + number)
        self._quit.set()

    async def pause(self, seconds: float) -> bool:
        """Wait, but not on when SIGHUP asks; True when it did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reload.wait()
        asked = self.reload.is_set()
        self.reload.clear()
        return asked

    # --- what the admin port shows ---

    def _find_missing(self) -> dict[str, str]:
        return self.readiness.missing or self._fleet.find_missing()

    async def _read_metrics(self) -> Reading:
        return add_readings([self.metrics.read(), *await self._fleet.read()])

    async def _read_config(self) -> dict[str, object]:
        plan = self.snapshot.plan if self.snapshot is not None else None
        return {
            "digest": self.digest,
            "workers": self.options.workers,
            **await self.describe(),
            "trusted_ca": describe_authorities(self.snapshot.authorities if self.snapshot is not None else ()),
            "plan": plan.summary() if plan is not None else None,
            "sources": await self._fleet.describe(),
        }


def _make_fleet(options: ServeOptions, journal: Journal, metrics: Metrics) -> Fleet:
    if options.workers > 1:
        return ProcessFleet(options, metrics)
    from sidecar.workers.worker import LocalFleet  # brings mitmproxy, which a parent of workers does without

    return LocalFleet(options, journal, metrics)


def refuse(what: str, error: Exception) -> int:
    """Say why there is no serving. Returns the exit code."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    sys.stderr.write(f"error: {what}: {why[:1].lower() + why[1:]}\n")
    sys.stderr.flush()
    return 1
