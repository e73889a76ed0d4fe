"""``python -m sidecar.workers.process FD``: one worker in a process of its own, told what to do over a socket pair.

Every command is answered once, in order of completion. The worker ignores the signals a terminal or a container runtime
sends to everyone: its parent decides. Without its parent it drains and ends. Knows: the conversation. Must not know:
files, or other workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys

from sidecar.log import Journal, install_log
from sidecar.loops import make_loop, tune_memory
from sidecar.metrics import Metrics
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import Material, Snapshot, compile_material
from sidecar.workers.messages import read_command, write_answer
from sidecar.workers.worker import Worker

logger = logging.getLogger("eastgate.worker")


class _Conversation:
    """Carries out the parent's commands."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._metrics = Metrics()
        self._journal = Journal(on_drop=lambda: self._metrics.count("eastgate_log_dropped_total"))
        self._worker: Worker | None = None
        self._options: ServeOptions | None = None
        self._changing = asyncio.Lock()
        self._snapshot: Snapshot | None = None

    async def carry_out(self, number: int, command: str, arguments: tuple[object, ...]) -> None:
        """One command, and its answer."""
        try:
            answer = await self._dispatch(command, arguments)
        except OSError as error:
            answer = {"error": error.strerror or type(error).__name__}
        except Exception as error:
            logger.error("command %s failed", command, exc_info=error)
            answer = {"error": type(error).__name__}
        with contextlib.suppress(OSError):
            write_answer(self._writer, number, answer)
            await self._writer.drain()

    async def _dispatch(self, command: str, arguments: tuple[object, ...]) -> dict[str, object]:
        match command, arguments:
            case "start", (ServeOptions() as options, Material() as material):
                return await self._start(options, material)
            case "apply", (Material() as material,):
                async with self._changing:
                    return await self._apply(material)
            case "read", ():
                if self._worker is None:
                    return {"reading": [], "sources": []}
                return {"reading": self._worker.read(), "sources": self._worker.describe_sources()}
            case "drain", (float() | int() as seconds,):
                await self.end(seconds)
                return {}
        raise ValueError(command)

    async def _start(self, options: ServeOptions, material: Material) -> dict[str, object]:
        self._options = options
        install_log(options.log, self._journal, lambda fault: self._metrics.count("eastgate_faults_total", fault))
        self._snapshot = snapshot = compile_material(material)
        worker = Worker(options, self._journal, self._metrics)
        address = await worker.start(snapshot)
        self._worker = worker
        tune_memory()
        return {"address": address, "digest": worker.digest}

    async def _apply(self, material: Material) -> dict[str, object]:
        if self._worker is None:
            raise ValueError("not started")
        snapshot = await asyncio.to_thread(compile_material, material, self._snapshot)
        await self._worker.apply(snapshot)
        self._snapshot = snapshot
        return {"digest": self._worker.digest}

    async def end(self, seconds: float) -> None:
        """Drain, then let go of everything."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.drain(seconds)
            await worker.stop()

    @property
    def drain_seconds(self) -> float:
        """How long to drain when the parent cannot say."""
        return self._options.drain_seconds if self._options is not None else 0.0


async def _converse(ours: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=ours)
    conversation = _Conversation(writer)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    with contextlib.suppress(EOFError, OSError):
        while True:
            number, command, arguments = await read_command(reader)
            task = loop.create_task(conversation.carry_out(number, command, arguments), name=command)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await conversation.end(conversation.drain_seconds)


def main(descriptor: int) -> int:
    """Run until the parent is gone."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(_converse(socket.socket(fileno=descriptor)))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
