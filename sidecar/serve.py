"""``eastgate serve``: the policies are files, and whoever starts it is there to read what is wrong with them.

So an error in a file keeps it from starting, and a reload with one keeps what is in force. A changed file or SIGHUP
reloads; policies and trusted authorities do not wait for each other to be right.

Knows: what errors mean to ``serve``. Must not know: how anything is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import replace

from eastgate.pods.authorities import TrustedFiles
from sidecar.loops import make_loop
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import (
    POLL_SECONDS,
    PolicyFiles,
    Snapshot,
    Watcher,
    compile_material,
    demand_plan,
    take_snapshot,
    write_diagnostics,
)
from sidecar.policies.trust import open_trust
from sidecar.service import Service, refuse
from sidecar.sockets import claim_address, join_address

logger = logging.getLogger("eastgate.serve")


def run(options: ServeOptions) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it could not start."""
    try:
        stdin = sys.stdin.read() if "-" in options.policies else None
    except UnicodeDecodeError:
        sys.stderr.write("<stdin>:1: error: not UTF-8 text\n")
        return 1
    watcher, trust = Watcher((*options.policies, *options.trusted_ca)), open_trust(options.trusted_ca)
    if problems := trust.refresh():
        return refuse("--trusted-ca", ValueError("; ".join(problems)))
    snapshot = take_snapshot(options.policies, stdin, options.workload, trust.authorities)
    write_diagnostics(snapshot.diagnostics)
    if snapshot.plan is None:
        return 1
    with contextlib.ExitStack() as held:
        try:
            options = replace(options, listen=held.enter_context(claim_address(*options.listen)))
        except OSError as error:
            return refuse(f"cannot listen on {join_address(*options.listen)}", error)
        runner = held.enter_context(asyncio.Runner(loop_factory=make_loop))
        return runner.run(_serve(options, stdin, watcher, trust, snapshot))


async def _serve(
    options: ServeOptions, stdin: str | None, watcher: Watcher, trust: TrustedFiles, snapshot: Snapshot
) -> int:
    return await FileService(options, stdin, watcher, trust, snapshot).run()


class FileService(Service):
    """The service whose policies are files. ``first`` was read from them already."""

    def __init__(
        self, options: ServeOptions, stdin: str | None, watcher: Watcher, trust: TrustedFiles, first: Snapshot
    ) -> None:
        super().__init__(options, "plan")
        self._stdin = stdin
        self._watcher = watcher
        self._trust = trust
        self._first = first

    async def obtain(self) -> Snapshot:
        """What was read before there was a loop."""
        return self._first

    def _put_in_force(self, snapshot: Snapshot) -> None:
        """Say so where a slip in --policies or --service refuses everything, or protects nothing."""
        super()._put_in_force(snapshot)
        plan = demand_plan(snapshot)
        if plan.refusal is not None:
            logger.warning("every request is refused: %s", plan.refusal.detail)
        elif not any(guard.names for guard in plan.guards):
            logger.warning("no policy holds here: no request needs a token")

    async def watch(self) -> None:
        """Reload on SIGHUP or when a file changed, for ever."""
        while True:
            asked = await self.pause(POLL_SECONDS)
            try:
                if await asyncio.to_thread(self._watcher.has_changed) or asked:
                    await self._reload_policies(asked)
            except Exception as error:
                self.metrics.count("eastgate_reloads_total", "failed")
                logger.error("reload failed, the policies in force stay", exc_info=error)

    async def _reload_policies(self, asked: bool) -> None:
        """Compile the files as they are now; put them in force, or keep what is in force and say so."""
        options, present = self.options, self.snapshot
        for problem in await asyncio.to_thread(self._trust.refresh):
            self.metrics.count("eastgate_reloads_total", "failed")
            logger.error("authorities not reloaded, those in force stay: %s", problem)
        trusted = self._trust.authorities
        snapshot = await asyncio.to_thread(take_snapshot, options.policies, self._stdin, options.workload, trusted)
        if present is not None and snapshot.material == present.material and snapshot.plan is not None and not asked:
            return
        write_diagnostics(snapshot.diagnostics)
        if snapshot.plan is None:
            self.metrics.count("eastgate_reloads_total", "failed")
            logger.error("policies not reloaded, those in force stay", extra={"fields": {"digest": self.digest}})
            if present is None or not isinstance(present.material, PolicyFiles) or present.authorities == trusted:
                return
            snapshot = await asyncio.to_thread(compile_material, replace(present.material, authorities=trusted))
        await self.change(snapshot)
