"""One node: etcd, the control plane, containerd, kubelet and kube-proxy, as processes in a network namespace.

Everything is real and built from its Go modules by ``hack/kubernetes/build``; pods get addresses from the bridge
plugin, IPv4 and IPv6, Services work through kube-proxy's nftables mode, and their names through ``nameserver``. Needs
root, runc, nftables, conntrack and iproute2. State is below one folder; ``stop`` ends every process and takes the
namespace away. Where the tests are killed the processes end with them: a kubelet that nobody knows of would end the
pods of the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from e2e.cluster.configuration import API_SERVER, IPV4, IPV6, Family, find_families, write_configuration
from e2e.cluster.kubectl import SECONDS, run_kubectl
from e2e.cluster.locks import hold

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ("runc", "nft", "conntrack", "ip", "nsenter", "setpriv", "openssl")
NEEDED_BYTES = 3 * 1024**3
"""Of disk. A node with all of its images takes about 1 GB; a kubelet that runs out of disk evicts pods."""
START_SECONDS = 300.0
"""It takes 4 s. A machine that does nothing else for a while is no reason to fail."""
LOCK = Path("/run/eastgate-node.lock")
"""Held while a node runs: two kubelets on one machine take each other's pods for orphans, and end them."""


class NodeError(Exception):
    """The node did not come up; the text says what is missing, or has the last words of its logs."""


def build(what: str) -> Path:
    """A folder of programs, built where they are not there yet."""
    done = subprocess.run([ROOT / "hack" / "kubernetes" / "build", what], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


@dataclass
class Node:
    """A running one-node cluster."""

    folder: Path
    programs: Path
    runtime: Path
    namespace: str
    aliases: tuple[str, ...] = ()
    """``NAME=SERVICE.NAMESPACE``: names of the internet that a Service here has, too."""
    families: tuple[Family, ...] = field(default_factory=find_families)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """An administrator's; it works inside the network namespace only."""
        return self.folder / "admin.conf"

    def enter(self, *command: str | Path) -> list[str]:
        """A command inside the node's network. Not ``ip netns exec``: that would hide the cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *map(str, command)]

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = SECONDS) -> str:  # noqa: A002
        """As ``run_kubectl``."""
        program = self.enter(self.programs / "kubectl", "--kubeconfig", self.kubeconfig)
        return run_kubectl(program, arguments, input, check, timeout, {"HOME": str(self.folder)})

    def run_script(self, script: Path) -> None:
        """Run one that calls ``kubectl``."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        subprocess.run([script], env={**os.environ, "PATH": path}, check=True, stdout=subprocess.DEVNULL)

    def call[T](self, function: Callable[[], T]) -> T:
        """Run a function inside the node's network, where pods and Services have their addresses: in a thread, which
        has a network namespace of its own; sockets that it makes stay there.
        """

        def work() -> T:
            with Path(f"/run/netns/{self.namespace}").open() as namespace:
                os.setns(namespace.fileno(), os.CLONE_NEWNET)
            return function()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()

    def load_images(self, archive: IO[bytes]) -> None:
        """Make the images of an archive available to pods (``imagePullPolicy: Never`` or ``IfNotPresent``)."""
        command = [str(self.runtime / "ctr"), "-a", str(self.folder / "containerd.sock"), "-n", "k8s.io"]
        done = subprocess.run([*command, "images", "import", "-"], stdin=archive, capture_output=True, check=False)
        if done.returncode:
            raise NodeError(f"the images could not be loaded: {done.stderr.decode(errors='replace')[-2000:]}")

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self, name: str, *command: str | Path) -> None:
        """Start a process of the node; its log is ``NAME.log``. It ends with the thread that calls this."""
        path = f"{self.runtime}:{self.programs}:{os.environ['PATH']}"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.enter(*command)], cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def start(self) -> None:
        """Bring everything up; returns when the node is Ready."""
        self._make_network()
        self._write_kubectl()
        write_configuration(self.folder, self.runtime, self.families)
        folder = self.folder
        self.run(
            "etcd", self.programs / "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn"
        )
        self.run(
            "kube-apiserver",
            self.programs / "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--secure-port=6443",
            f"--bind-address={IPV4.address}",
            f"--advertise-address={IPV4.address}",
            f"--cert-dir={folder / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            f"--service-cluster-ip-range={','.join(one.services for one in self.families)}",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self.await_true(
            lambda: "ok" in self.kubectl("get", "--raw", "/readyz", check=False), f"no answer at {API_SERVER}"
        )
        self.run(
            "kube-controller-manager",
            self.programs / "kube-controller-manager",
            "--kubeconfig=admin.conf",
            "--service-account-private-key-file=accounts.key",
            f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
        )
        self.run("kube-scheduler", self.programs / "kube-scheduler", "--kubeconfig=admin.conf", "--leader-elect=false")
        program = (sys.executable, "-m", "e2e.cluster.nameserver")
        self.run("nameserver", *program, IPV4.address, self.kubeconfig, *self.aliases)
        self.run("containerd", self.runtime / "containerd", "-c", "containerd.toml")
        self.await_true((folder / "containerd.sock").exists, "containerd")
        self.start_kubelet()
        self.run("kube-proxy", self.programs / "kube-proxy", "--config=kube-proxy.yaml")
        self.await_true(lambda: " Ready " in self.kubectl("get", "nodes", check=False), "the node is not Ready")

    def start_kubelet(self) -> None:
        """Apart, because tests restart it."""
        self.run(
            "kubelet",
            self.programs / "kubelet",
            "--config=kubelet.yaml",
            "--kubeconfig=admin.conf",
            "--hostname-override=node0",
            f"--node-ip={','.join(one.address for one in self.families)}",
            f"--root-dir={self.folder / 'kubelet'}",
        )

    def end(self, name: str, *, kill: bool = False) -> None:
        """End one process of the node."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End everything that was started, and what it left behind: shims, mounts, the namespace."""
        for name in [one for one in self.processes if one.startswith("kubelet") or one == "kube-proxy"]:
            self.end(name)  # first: it would start what ends
        if "containerd" in self.processes:
            self._end_pods()
        for name in reversed(list(self.processes)):
            self.end(name, kill=name in ("kube-apiserver", "etcd"))
        for shim in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError, ValueError):
                if f"{self.folder}/containerd.sock".encode() in shim.read_bytes():
                    os.kill(int(shim.parent.name), signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        for _ in range(10):  # What was killed a moment ago may still be in one.
            for name in self._pod_networks():
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            if not list(Path("/run/netns").glob("cni-*")):
                break
            time.sleep(0.3)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False, capture_output=True)

    def _end_pods(self) -> None:
        """While containerd still runs: containers would outlive it and their shims."""
        command = [str(self.runtime / "ctr"), "-a", str(self.folder / "containerd.sock"), "-n", "k8s.io", "tasks"]
        with contextlib.suppress(subprocess.TimeoutExpired):  # The rest is to be ended all the same.
            listed = subprocess.run([*command, "list", "-q"], capture_output=True, text=True, timeout=60, check=False)
            for task in listed.stdout.split():
                subprocess.run([*command, "kill", "-s", "SIGKILL", task], capture_output=True, timeout=60, check=False)

    def _pod_networks(self) -> list[str]:
        """The network plugin's namespaces in which nothing runs any more: another node may have some, too."""

        def ask(*words: str) -> str:
            return subprocess.run(["ip", "netns", *words], capture_output=True, text=True, check=False).stdout

        names = [line.split()[0] for line in ask("list").splitlines() if line.startswith("cni-")]
        return [name for name in names if not ask("pids", name).strip()]

    def await_true(self, condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
        """Wait for something of the node. Raises ``NodeError`` with the last words of its programs' logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if (ended := self.ended) or time.monotonic() > deadline:
                said = "\n".join(f"{name}: {self._last_words(name)}" for name in ended or self.processes)
                raise NodeError(f"{what}; ended: {', '.join(ended) or 'none'}\n{said}")
            time.sleep(0.25)

    @property
    def ended(self) -> list[str]:
        """Programs that ended by themselves."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def _last_words(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-1500:].strip()

    # --- what it is made of ------------------------------------------------------------------------------------------

    def _make_network(self) -> None:
        def run(*command: str) -> None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NodeError(f"{' '.join(command)}: {done.stderr.strip()}")

        run("ip", "netns", "add", self.namespace)
        commands = ["ip link set lo up", "ip link add br-node type bridge", "ip link set br-node up"]
        for one in self.families:
            if one is IPV6:  # In a namespace that inherits a host's settings both may be off.
                commands += ["sysctl -qw net.ipv6.conf.all.disable_ipv6=0", "sysctl -qw net.ipv6.conf.all.forwarding=1"]
            commands.append(f"ip addr add {one.address}/{one.length} dev br-node {'nodad' if one is IPV6 else ''}")
            commands.append(f"ip route add {one.everywhere} dev br-node")
        for command in [*commands, "sysctl -qw net.ipv4.ip_forward=1"]:
            run(*self.enter(*command.split()))

    def _write_kubectl(self) -> None:
        """For scripts and people: kubectl of this node."""
        wrapper = self.folder / "bin" / "kubectl"
        wrapper.parent.mkdir()
        command = " ".join(self.enter(self.programs / "kubectl", "--kubeconfig", self.kubeconfig))
        wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        wrapper.chmod(0o755)


@contextlib.contextmanager
def run_node(folder: Path, namespace: str = "eastgate-node", aliases: tuple[str, ...] = ()) -> Iterator[Node]:
    """A node for the block. Raises ``NodeError`` where something is missing or it does not come up."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise NodeError(f"missing: {', '.join(missing)} (apt-get install runc nftables conntrack iproute2 openssl)")
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < NEEDED_BYTES:
        raise NodeError(f"{folder} has {free / 1024**3:.1f} GB free, and a node needs {NEEDED_BYTES // 1024**3}")
    node = Node(folder.resolve(), build("node"), build("runtime"), namespace, aliases)
    with hold(LOCK, "another node runs on this machine"):
        try:
            node.start()
            yield node
        finally:
            node.stop()
