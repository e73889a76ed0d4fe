"""``eastgate serve`` as a real process, ready before the test goes on, drained after it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.live.forking import ForkedProcess

ROOT = Path(__file__).parent.parent.parent
_READY = re.compile(r"ready http://(.+):(\d+)\n")

type Process = ForkedProcess | subprocess.Popen[bytes]


class Served:
    """A running ``eastgate serve``. ``log`` is everything it has written to stderr so far."""

    def __init__(self, process: Process, port: int, log_file: Path) -> None:
        self.process = process
        self.port = port
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it said on stderr."""
        return self._log_file.read_text()


@contextlib.contextmanager
def serve(policies: Sequence[Path | str], upstream_port: int, *flags: str, fresh: bool = False) -> Iterator[Served]:
    """Start it, wait for ``ready``, yield it, end it by SIGTERM. Fails with its stderr if it does not come up.

    ``fresh``: as the shell would start it, and not forked off a process that has imported everything.
    """
    command = ["serve", "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream_port}"]
    for policy in policies:
        command += ["--policy", str(policy)]
    with tempfile.TemporaryDirectory() as folder:
        output, log_file = Path(folder) / "output", Path(folder) / "log"
        output.touch()
        log_file.touch()
        process: Process
        if fresh:
            with output.open("w") as out, log_file.open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "eastgate", *command, *flags], cwd=ROOT, stdout=out, stderr=log
                )
        else:
            process = ForkedProcess([*command, *flags], ROOT, output, log_file)
        try:
            yield Served(process, _wait_until_ready(process, output, log_file), log_file)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise AssertionError("serve did not end within 20 s of SIGTERM") from None


def _wait_until_ready(process: Process, output: Path, log_file: Path) -> int:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if match := _READY.match(output.read_text()):
            return int(match[2])
        if ended:
            break
        time.sleep(0.005)
    raise AssertionError(f"serve did not come up: {output.read_text()!r}\n{log_file.read_text()}")
