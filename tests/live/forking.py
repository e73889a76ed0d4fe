"""Processes of ``eastgate`` that start in milliseconds: forked off a process that has imported the product already.

Most tests want a served workload and not its start, and importing is nearly all of a start. What a fork cannot show (the
command line as the shell runs it, stdin, worker processes' own start) is tested with fresh processes in
``tests/unit/sidecar/test_serve.py``. The process forked off has no threads and no event loop, so nothing is inherited
that a fresh one would not have.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.live.preloaded"])


class ForkedProcess:
    """``eastgate ARGUMENTS`` with its output in files. What tests need of ``subprocess.Popen``."""

    def __init__(self, arguments: Sequence[str], folder: Path, output: Path, errors: Path) -> None:
        # Not waited for when the tests end: whoever started it ends it.
        self._process = _PROCESSES.Process(target=_run, args=(list(arguments), folder, output, errors), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """``returncode``."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("eastgate", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_forked(arguments: Sequence[str], folder: Path, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """``eastgate ARGUMENTS`` until it ends by itself, as ``subprocess.run`` has it."""
    with tempfile.TemporaryDirectory() as written:
        output, errors = Path(written) / "output", Path(written) / "errors"
        output.touch()
        errors.touch()
        process = ForkedProcess(arguments, folder, output, errors)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(arguments), code, output.read_text(), errors.read_text())


def _run(arguments: list[str], folder: Path, output: Path, errors: Path) -> None:
    from eastgate.cli.main import main

    for path, descriptor in ((output, 1), (errors, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout = os.fdopen(1, "w", 1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    sys.argv = ["eastgate", *arguments]
    os.chdir(folder)
    sys.exit(main(arguments))
