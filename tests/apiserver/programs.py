"""The webhook and the controller as processes, with the rights that their manifests give and behind their Services."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.apiserver.environment import ROOT, Environment

SYSTEM = "eastgate-system"
SERVICE = f"{SYSTEM}/eastgate-webhook"
WAIT_SECONDS = 60.0


@dataclass
class Program:
    """A running ``eastgate`` command. ``port`` is where it said it accepts (0 where it said no address)."""

    process: subprocess.Popen[str]
    log: Path
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def stop(self) -> int:
        """SIGTERM, and what it exited with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """As a node that loses its power."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)


def start_program(folder: Path, name: str, *arguments: str) -> Program:
    """Start ``eastgate ARGUMENTS`` and wait for its ``ready`` line."""
    log = folder / f"{name}.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "eastgate", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    program = Program(process, log)
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pump, args=(process, said), daemon=True).start()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            line = said.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            process.kill()
            raise AssertionError(f"{name} was not ready in {WAIT_SECONDS:.0f} s:\n{log.read_text()[-3000:]}") from None
        if not line:
            raise AssertionError(f"{name} ended with {process.wait()}:\n{log.read_text()[-3000:]}")
        program.lines.append(line)
        if line.startswith("ready"):
            address = line.strip().rpartition(":")[2]
            program.port = int(address) if address.isdigit() else 0
            return program


def _pump(process: subprocess.Popen[str], said: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        said.put(line)
    said.put("")


def install(environment: Environment) -> None:
    """What a person applies: the foreign kinds where they are absent, then everything of ours."""
    environment.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "compat"))
    environment.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "install"))
    environment.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def start_webhook(environment: Environment, folder: Path, name: str = "webhook", *arguments: str) -> Program:
    """One replica of the webhook, reached through its Service."""
    kubeconfig = environment.make_kubeconfig(SYSTEM, "eastgate-webhook", folder)
    program = start_program(
        folder,
        name,
        *("webhook", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--kubeconfig", str(kubeconfig)),
        *("--sidecar-image", "eastgate-sidecar:test", *arguments),
    )
    environment.connect(SERVICE, program.port)
    return program


def start_controller(environment: Environment, folder: Path, name: str = "controller", *arguments: str) -> Program:
    """One replica of the controller."""
    kubeconfig = environment.make_kubeconfig(SYSTEM, "eastgate-controller", folder)
    return start_program(
        folder,
        name,
        *("controller", "--health-listen", "127.0.0.1:0", "--kubeconfig", str(kubeconfig), "--namespace", SYSTEM),
        *("--identity", name, *arguments),
    )


@contextlib.contextmanager
def running(*programs: Program) -> Iterator[None]:
    """End them with the block, whatever happens."""
    try:
        yield
    finally:
        for program in programs:
            if program.process.poll() is None:
                program.kill()


def await_true(condition: object, what: str, seconds: float = 45.0, pause: float = 0.05) -> float:
    """Wait until a callable says something true; returns the seconds that it took."""
    begun = time.monotonic()
    assert callable(condition)
    while not condition():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return time.monotonic() - begun
