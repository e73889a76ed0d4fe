"""``eastgate serve``: from options to a running proxy, and back to an exit code.

The order is: read the policies, compile them, refuse on any error; claim the address; start the workers; say
``ready``; then reload on SIGHUP or a changed file, until SIGTERM or SIGINT drains. A second signal ends at once. Only
here are there signals, standard output and exit codes. Knows: the order. Must not know: how anything is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from dataclasses import replace
from typing import Protocol

from sidecar.admin import AdminServer, Readiness, build_admin
from sidecar.log import Journal, install_log
from sidecar.loops import make_loop, tune_memory
from sidecar.metrics import Metrics, Reading, add_readings
from sidecar.options import ServeOptions
from sidecar.snapshot import POLL_SECONDS, Snapshot, Watcher, take_snapshot, write_diagnostics
from sidecar.workers import ProcessFleet, WorkerError

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


def run(options: ServeOptions) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it could not start."""
    try:
        stdin = sys.stdin.read() if "-" in options.policies else None
    except UnicodeDecodeError:
        sys.stderr.write("<stdin>:1: error: not UTF-8 text\n")
        return 1
    watcher = Watcher(options.policies)
    snapshot = take_snapshot(options.policies, stdin, options.workload)
    write_diagnostics(snapshot.diagnostics)
    if snapshot.plan is None:
        return 1
    try:
        options = replace(options, listen=claim_address(*options.listen))
    except OSError as error:
        return _refuse(f"cannot listen on {_join(*options.listen)}", error)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(Service(options, stdin, watcher).run(snapshot))


class Service:
    """Everything of the main process that lives in its event loop."""

    def __init__(self, options: ServeOptions, stdin: str | None, watcher: Watcher) -> None:
        self._options = options
        self._stdin = stdin
        self._watcher = watcher
        self._metrics = Metrics()
        self._journal = Journal(on_drop=lambda: self._metrics.count("eastgate_log_dropped_total"))
        self._fleet = _make_fleet(options, self._journal, self._metrics)
        self._readiness = Readiness("plan", "listener")
        self._snapshot: Snapshot | None = None
        self._reload = asyncio.Event()
        self._quit = asyncio.Event()

    async def run(self, snapshot: Snapshot) -> int:
        """Start, serve, drain. Returns the exit code."""
        install_log(self._options.log, self._journal, lambda fault: self._metrics.count("eastgate_faults_total", fault))
        self._listen_to_signals()
        admin = build_admin(self._find_missing, self._read_metrics, self._read_config, self._quit.set)
        try:
            if not await self._start(snapshot, admin):
                return 1
            watching = asyncio.get_running_loop().create_task(self._watch(), name="watch policies")
            await self._quit.wait()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._drain()
        finally:
            await self._fleet.stop()
            await admin.stop()
            self._journal.attach(None)
        return 0

    async def _start(self, snapshot: Snapshot, admin: AdminServer) -> bool:
        """True when everything accepts; otherwise the reason has been said."""
        if self._options.admin is not None:
            try:
                host, port = await admin.start(*self._options.admin)
            except OSError as error:
                _refuse(f"cannot listen on {_join(*self._options.admin)} (admin)", error)
                return False
            logger.info("admin port open", extra={"fields": {"address": _join(host, port)}})
        self._put_in_force(snapshot)
        try:
            host, port = await self._fleet.start(snapshot)
        except (OSError, WorkerError) as error:
            _refuse(f"cannot serve on {_join(*self._options.listen)}", error)
            return False
        if self._quit.is_set():
            return True
        self._readiness.meet("listener")
        tune_memory()
        sys.stdout.write(f"ready http://{_join(host, port)}\n")
        sys.stdout.flush()
        return True

    async def _drain(self) -> None:
        seconds = self._options.drain_seconds
        self._readiness.lose("listener", "draining")
        logger.info("draining", extra={"fields": {"seconds": seconds}})
        await self._fleet.drain(seconds)
        logger.info("drained")

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _take_signal(self, number: int) -> None:
        if self._quit.is_set():
            # Asked twice: whoever asks does not want to wait.
            self._journal.flush()
            os._exit(128 + number)
        self._quit.set()

    # --- reload ---

    async def _watch(self) -> None:
        """Reload on SIGHUP or when a file changed, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._reload.wait()
            asked = self._reload.is_set()
            self._reload.clear()
            try:
                if await asyncio.to_thread(self._watcher.has_changed) or asked:
                    await self._reload_policies(asked)
            except Exception as error:
                self._metrics.count("eastgate_reloads_total", "failed")
                logger.error("reload failed, the policies in force stay", exc_info=error)

    async def _reload_policies(self, asked: bool) -> None:
        """Compile the files as they are now; put them in force, or keep what is in force and say so."""
        options, present = self._options, self._snapshot
        snapshot = await asyncio.to_thread(take_snapshot, options.policies, self._stdin, options.workload)
        if present is not None and snapshot.sources == present.sources and snapshot.plan is not None and not asked:
            return
        write_diagnostics(snapshot.diagnostics)
        if snapshot.plan is None:
            self._metrics.count("eastgate_reloads_total", "failed")
            logger.error("policies not reloaded, those in force stay", extra={"fields": {"digest": self._digest}})
            return
        await self._fleet.apply(snapshot)
        self._put_in_force(snapshot)
        self._metrics.count("eastgate_reloads_total", "success")
        logger.info("policies reloaded", extra={"fields": {"digest": self._digest}})

    def _put_in_force(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._readiness.meet("plan")

    @property
    def _digest(self) -> str:
        plan = self._snapshot.plan if self._snapshot is not None else None
        return plan.digest if plan is not None else ""

    # --- what the admin port shows ---

    def _find_missing(self) -> dict[str, str]:
        missing = self._readiness.missing
        return missing or self._fleet.find_missing()

    async def _read_metrics(self) -> Reading:
        return add_readings([self._metrics.read(), *await self._fleet.read()])

    async def _read_config(self) -> dict[str, object]:
        plan = self._snapshot.plan if self._snapshot is not None else None
        return {
            "digest": self._digest,
            "workers": self._options.workers,
            "plan": plan.summary() if plan is not None else None,
            "sources": await self._fleet.describe(),
        }


def claim_address(host: str, port: int) -> tuple[str, int]:
    """A numeric address and a port that nobody listens on. Raises ``OSError``.

    The workers share the port (SO_REUSEPORT), which by itself would also let a second ``serve`` slip in beside a first
    one; so it is bound once without sharing.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        bound = probe.getsockname()
    return bound[0], bound[1]


def _make_fleet(options: ServeOptions, journal: Journal, metrics: Metrics) -> Fleet:
    if options.workers > 1:
        return ProcessFleet(options, metrics)
    from sidecar.worker import LocalFleet  # brings mitmproxy, which a parent of workers does without

    return LocalFleet(options, journal, metrics)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse(what: str, error: Exception) -> int:
    """Say why there is no serving. Returns the exit code."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    sys.stderr.write(f"error: {what}: {why[:1].lower() + why[1:]}\n")
    sys.stderr.flush()
    return 1
