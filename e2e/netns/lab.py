"""Three network namespaces: a node with a bridge, a pod and a client on it, with addresses of both families.

As on a node with the bridge plugin: the pod's packets to a Service's address are translated in the *node's* namespace
and come back over the bridge. A process starts inside a namespace as a user of one's choice; a function can be run
there, too, in a thread of its own. Traffic stays inside these namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
"""It takes one or two; nothing waits for it but a machine that is busy."""

NODE4, POD4, CLIENT4 = "10.78.0.1", "10.78.0.10", "10.78.0.20"
NODE6, POD6, CLIENT6 = "fd78::1", "fd78::10", "fd78::20"
SERVICE4, SERVICE_PORT = "10.98.0.10", 80
APP_ID = 1000

SERVICE_RULES = f"""table ip service {{
  chain translate {{
    type nat hook prerouting priority dstnat;
    ip daddr {SERVICE4} tcp dport {SERVICE_PORT} dnat to {POD4}:8080;
  }}
  chain hairpin {{
    type nat hook postrouting priority srcnat;
    ip saddr {POD4} ip daddr {POD4} masquerade;
  }}
}}
"""


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout + done.stderr


def _become(user: int) -> list[str]:
    """The prefix that makes a command another user's, without rights but to read the checkout, whoever owns it."""
    rights = "-all,+dac_read_search"
    identity = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return identity + [f"--{name}={rights}" for name in ("inh-caps", "ambient-caps", "bounding-set")]


@dataclass
class Lab:
    """``namespaces``: node, pod, client, by those names."""

    namespaces: dict[str, str]
    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def enter(self, where: str) -> list[str]:
        """Prefix of a command inside a namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespaces[where]}"]

    def run(self, where: str, *command: str, text: str = "") -> None:
        """Run a command to its end, as root. Raises ``RuntimeError`` with its words."""
        _run(*self.enter(where), *command, text=text)

    def output(self, where: str, *command: str | Path, user: int = 0) -> str:
        """Run a command to its end; returns what it printed. Raises ``RuntimeError`` with its words."""
        return _run(*self.enter(where), *(_become(user) if user else ()), *map(str, command))

    def start(self, where: str, *command: str | Path, user: int = 0, name: str = "process") -> subprocess.Popen[str]:
        """Start a process and wait for its line ``ready…``. It may read every file, whoever owns the checkout. Raises
        ``RuntimeError`` with the last words of its log where that does not come.
        """
        log = (self.folder / f"{name}.log").open("a")
        process = subprocess.Popen(
            [*self.enter(where), *(_become(user) if user else ()), *map(str, command)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        patience = threading.Timer(START_SECONDS, process.kill)
        patience.start()
        try:
            for line in process.stdout:
                if line.startswith("ready"):
                    return process
        finally:
            patience.cancel()
            log.close()
        said = (self.folder / f"{name}.log").read_text()[-2000:]
        raise RuntimeError(f"{name} was not ready, and ended with {process.wait()}: {said}")

    def call[Result](self, where: str, function: Callable[[], Result]) -> Result:
        """Run a function inside a namespace: sockets that it makes belong there."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                descriptor = os.open(f"/run/netns/{self.namespaces[where]}", os.O_RDONLY)
                # A thread has a network namespace of its own (setns, CLONE_NEWNET).
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(descriptor)
                results.append(function())
            except BaseException as error:  # handed to the caller
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


@contextlib.contextmanager
def make_lab(folder: Path) -> Iterator[Lab]:
    """The namespaces for the block; every process that was started in them ends with it."""
    prefix = f"eastgate-{os.getpid()}"
    lab = Lab({name: f"{prefix}-{name}" for name in ("node", "pod", "client")}, folder)
    try:
        _build(lab)
        yield lab
    finally:
        for process in lab.processes:
            process.kill()
            process.wait()
        for name in lab.namespaces.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _build(lab: Lab) -> None:
    for name in lab.namespaces.values():
        _run("ip", "netns", "add", name)
    lab.run("node", "ip", "link", "set", "lo", "up")
    lab.run("node", "ip", "link", "add", "br0", "type", "bridge")
    lab.run("node", "ip", "address", "add", f"{NODE4}/24", "dev", "br0")
    lab.run("node", "ip", "address", "add", f"{NODE6}/64", "dev", "br0", "nodad")
    lab.run("node", "ip", "link", "set", "br0", "up")
    lab.run("node", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    for name, four, six in (("pod", POD4, POD6), ("client", CLIENT4, CLIENT6)):
        link = f"v{name}"
        _run("ip", "-n", lab.namespaces["node"], "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns",
             lab.namespaces[name])  # fmt: skip
        lab.run("node", "ip", "link", "set", link, "master", "br0", "up")
        lab.run("node", "bridge", "link", "set", "dev", link, "hairpin", "on")
        lab.run(name, "ip", "link", "set", "lo", "up")
        lab.run(name, "ip", "address", "add", f"{four}/24", "dev", "eth0")
        lab.run(name, "ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")
        lab.run(name, "ip", "link", "set", "eth0", "up")
        lab.run(name, "ip", "route", "add", "default", "via", NODE4)
    # A Service as kube-proxy makes it: its address becomes the pod's, and hairpin traffic comes from the node.
    lab.run("node", "nft", "-f", "-", text=SERVICE_RULES)


PYTHON = Path(sys.executable)
