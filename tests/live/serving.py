"""``eastgate serve`` as a real process, ready before the test goes on, drained after it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_READY = re.compile(r"ready http://(.+):(\d+)")


class Served:
    """A running ``eastgate serve``. ``log`` is everything it has written to stderr so far."""

    def __init__(self, process: subprocess.Popen[str], port: int, log_file: Path) -> None:
        self.process = process
        self.port = port
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it said on stderr."""
        return self._log_file.read_text()


@contextlib.contextmanager
def serve(
    policies: Sequence[Path | str], upstream_port: int, *flags: str, environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """Start it, wait for ``ready``, yield it, end it by SIGTERM. Fails with its stderr if it does not come up."""
    command = [sys.executable, "-m", "eastgate", "serve", "--listen", "127.0.0.1:0"]
    command += ["--upstream", f"http://127.0.0.1:{upstream_port}"]
    for policy in policies:
        command += ["--policy", str(policy)]
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [*command, *flags],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        timer = threading.Timer(30, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = _READY.match(line)
            if match is None:
                process.wait(10)
                raise AssertionError(f"serve did not come up: {line!r}\n{log_file.read_text()}")
            timer.cancel()
            yield Served(process, int(match[2]), log_file)
        finally:
            timer.cancel()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise AssertionError("serve did not end within 20 s of SIGTERM") from None
