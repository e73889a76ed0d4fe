"""``eastgate serve`` as a process of its own: started as a user would, its ready line awaited, its log read.

Knows: the ready line, the log's decision records, SIGTERM. Must not know: what is behind them.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

START_SECONDS = 60.0
"""A second or two on an idle machine. Generous: seven start at once, and a machine may be busy with other things."""
STOP_SECONDS = 5.0
RECORD_SECONDS = 3.0
"""How long a decision's record may be behind its answer."""


class ServeError(RuntimeError):
    """It did not start; the text is what it said."""


class Serving:
    """One ``eastgate serve``; ``address`` is known after ``wait``. Start several, then wait for each."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = tuple(arguments)
        self.address = ("", 0)
        self._records: queue.Queue[dict[str, object]] = queue.Queue()
        self._said: list[str] = []
        self._ready: queue.Queue[str | None] = queue.Queue()
        package = Path(__file__).resolve().parent.parent.parent
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EASTGATE_")}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package), environment.get("PYTHONPATH"))))
        self._process = subprocess.Popen(  # noqa: S603 (our own program, our own arguments)
            [sys.executable, "-m", "eastgate", "serve", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        for target, stream in ((self._read_output, self._process.stdout), (self._read_log, self._process.stderr)):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    def wait(self) -> Self:
        """Wait for the ready line."""
        try:
            line = self._ready.get(timeout=START_SECONDS)
        except queue.Empty:
            line = None
        if line is None:
            self.stop()
            raise ServeError("\n".join(self._said[-20:]) or "it said nothing")
        host, _, port = line.removeprefix("ready http://").rpartition(":")
        self.address = (host.strip("[]"), int(port))
        return self

    def next_decision(self) -> dict[str, object] | None:
        """The next decision record of the log, or None when none comes in time."""
        try:
            return self._records.get(timeout=RECORD_SECONDS)
        except queue.Empty:
            return None

    def forget_decisions(self) -> None:
        """Drop records that nobody asked for."""
        while not self._records.empty():
            self._records.get_nowait()

    def stop(self) -> int:
        """SIGTERM, then wait; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._process.poll() is None:
            self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_output(self, stream: IO[str]) -> None:
        for line in stream:
            if line.startswith("ready http://"):
                self._ready.put(line.strip())
        self._ready.put(None)

    def _read_log(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict) and record.get("event") == "decision":
                self._records.put(record)
            else:
                self._said.append(line.rstrip())
