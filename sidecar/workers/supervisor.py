"""Worker processes: started, supervised, told what to do, added up.

Every worker is a fresh interpreter (nothing is forked after threads exist) that binds the same port with SO_REUSEPORT,
so that the kernel spreads connections over them. One that dies is started again with a growing pause, one that is
stuck is made to die; what it had counted is kept, up to the last time it was asked. They talk by ``messages``; the
other end is ``process``.

Knows: processes. Must not know: files, the parent's signals, what a plan says; nor mitmproxy: only workers pay for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
import time

from sidecar.metrics import Metrics, Reading, add_readings, keep_counters
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import Material, Snapshot, demand_plan
from sidecar.workers.messages import read_answer, write_command

logger = logging.getLogger("eastgate.workers")

START_SECONDS = 60.0
"""How long a worker may take to accept: interpreter, imports, a large policy set, the first fetch of keys."""

ANSWER_SECONDS = 30.0
READ_SECONDS = 2.0
WATCH_SECONDS = 5.0
STUCK_SECONDS = 10.0
"""A worker is asked every 5 s and killed when it has not answered for 10 s: one that is stuck would go on getting its
share of the connections. (With a single worker that is the liveness probe's to find: the admin port is stuck too.)
"""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0
STABLE_SECONDS = 60.0
"""After this long a worker's death says nothing about the next one: the pause begins small again."""


class WorkerError(Exception):
    """A worker did not do what it was told; ``str()`` is its own short text."""


class WorkerProcess:
    """One process, from its start to its end."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.accepting = False
        self.reading: Reading = []
        self.sources: list[dict[str, object]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._numbers = itertools.count(1)

    async def start(self, options: ServeOptions, material: Material) -> tuple[str, int]:
        """Start the process and wait until it accepts; returns where. Raises ``WorkerError`` or ``OSError``."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *_command_line(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._listening = asyncio.get_running_loop().create_task(self._listen(reader), name=f"worker {self.number}")
        answer = await self.ask("start", options, material, seconds=START_SECONDS)
        match answer.get("address"):
            case [str() as host, int() as port]:
                self.accepting = True
                return host, port
        raise WorkerError("accepts nowhere")

    async def ask(self, command: str, *arguments: object, seconds: float = ANSWER_SECONDS) -> dict[str, object]:
        """Send a command and wait for its answer. Raises ``WorkerError``."""
        if self._writer is None or self._writer.is_closing():
            raise WorkerError("the process is gone")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            write_command(self._writer, number, command, arguments)
            async with asyncio.timeout(seconds):
                result = await answer
        except (TimeoutError, OSError):
            raise WorkerError(f"no answer to `{command}`") from None
        finally:
            self._answers.pop(number, None)
        if "error" in result:
            raise WorkerError(str(result["error"]))
        return result

    async def refresh(self) -> None:
        """Ask for counters and sources; without an answer the last ones stay."""
        if not self.accepting:
            return
        with contextlib.suppress(WorkerError):
            await self._read(READ_SECONDS)

    async def watch(self) -> None:
        """Ask now and then; kill it when it does not answer. Never ends otherwise."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self.accepting:
                continue
            try:
                await self._read(STUCK_SECONDS)
            except WorkerError as error:
                if self.accepting:
                    logger.error("worker %d is stuck, killing it: %s", self.number, error)
                    self._kill()

    async def _read(self, seconds: float) -> None:
        match await self.ask("read", seconds=seconds):
            case {"reading": list() as reading, "sources": list() as sources}:
                self.reading = [(str(metric), tuple(labels), float(value)) for metric, labels, value in reading]
                self.sources = sources

    async def wait(self) -> int:
        """Wait until the conversation ended; returns the exit code."""
        if self._listening is not None:
            await self._listening
        return await self.end(0.5)

    async def end(self, seconds: float) -> int:
        """End the process: in order within ``seconds``, else by force. Returns the exit code."""
        self.accepting = False
        if self._writer is not None:
            self._writer.close()  # a worker without its parent ends by itself
        if self._process is None:
            return 0
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hand answers to whoever waits, until there will be no more."""
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                message = await read_answer(reader)
                number = message.get("number")
                answer = self._answers.get(number) if isinstance(number, int) else None
                if answer is not None and not answer.done():
                    answer.set_result(message)
        self.accepting = False
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({"error": "the process died"})


class ProcessFleet:
    """All workers of ``serve --workers N``. ``start`` first, then anything, ``stop`` last."""

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._material: Material | None = None
        self._digest = ""
        self._ending = False
        self._processes = [WorkerProcess(number) for number in range(options.workers)]
        self._past: Reading = []
        self._supervisors: list[asyncio.Task[None]] = []

    async def start(self, snapshot: Snapshot) -> tuple[str, int]:
        """Start all; returns where they accept. Raises ``OSError`` or ``WorkerError``."""
        self._take(snapshot)
        try:
            addresses = await asyncio.gather(
                *(process.start(self._options, snapshot.material) for process in self._processes)
            )
        except BaseException:
            await asyncio.gather(*(process.end(0.0) for process in self._processes))
            raise
        loop = asyncio.get_running_loop()
        for number in range(len(self._processes)):
            self._supervisors.append(loop.create_task(self._supervise(number), name=f"supervise worker {number}"))
        return addresses[0]

    async def apply(self, snapshot: Snapshot) -> None:
        """Hand new policies to every worker. One that does not take them is replaced by one that starts with them."""
        self._take(snapshot)
        await asyncio.gather(
            *(self._renew(process, snapshot.material) for process in self._processes if process.accepting)
        )

    async def read(self) -> list[Reading]:
        """What all workers counted, those that are gone included."""
        await asyncio.gather(*(process.refresh() for process in self._processes))
        return [self._past, *(process.reading for process in self._processes)]

    async def describe(self) -> list[dict[str, object]]:
        """The sources of keys, worker by worker."""
        await asyncio.gather(*(process.refresh() for process in self._processes))
        return [{"worker": process.number, **source} for process in self._processes for source in process.sources]

    def find_missing(self) -> dict[str, str]:
        """What keeps this fleet from serving. One worker that accepts is enough."""
        if any(process.accepting for process in self._processes):
            return {}
        return {"listener": "no worker accepts connections"}

    async def drain(self, seconds: float) -> None:
        """Drain all workers at once."""
        self._ending = True
        await asyncio.gather(
            *(process.ask("drain", seconds, seconds=seconds + 5.0) for process in self._processes if process.accepting),
            return_exceptions=True,
        )

    async def stop(self) -> None:
        """End all workers."""
        self._ending = True
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await asyncio.gather(*(process.end(5.0) for process in self._processes))

    def _take(self, snapshot: Snapshot) -> None:
        self._digest = demand_plan(snapshot).digest
        self._material = snapshot.material

    async def _renew(self, process: WorkerProcess, material: Material) -> None:
        try:
            answer = await process.ask("apply", material)
            why = "" if answer.get("digest") == self._digest else "it has other ones in force"
        except WorkerError as error:
            why = str(error)
        if why:
            logger.error("worker %d did not take the policies, replacing it: %s", process.number, why)
            await process.end(0.0)

    async def _supervise(self, number: int) -> None:
        """Keep one worker alive until the fleet ends."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            process = self._processes[number]
            watching = asyncio.get_running_loop().create_task(process.watch(), name=f"watch worker {number}")
            try:
                code = await process.wait()
            finally:
                watching.cancel()
            if self._ending:
                return
            self._past = add_readings([self._past, keep_counters(process.reading)])
            process.reading, process.sources = [], []
            if time.monotonic() - began >= STABLE_SECONDS:
                pause = FIRST_PAUSE
            self._metrics.count("eastgate_worker_restarts_total")
            logger.error("worker %d ended with code %d, starting another in %.1f s", number, code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self._processes[number] = process = WorkerProcess(number)
            material = self._material
            if material is None:  # there are no supervisors before there are policies
                continue
            try:
                await process.start(self._options, material)
            except (WorkerError, OSError) as error:
                logger.error("worker %d did not start: %s", number, error)
                await process.end(0.0)
                continue
            latest = self._material
            if latest is not material and latest is not None:
                await self._renew(process, latest)
            logger.info("worker %d accepts again", number)


def _command_line(descriptor: int) -> list[str]:
    """A fresh interpreter with the optimisation of this one, talking over ``descriptor``."""
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [sys.executable, *optimize, "-m", "sidecar.workers.process", str(descriptor)]
