"""A real API server for tests: etcd, kube-apiserver, and a way from Services to processes of this machine.

The API server reaches a webhook through its Service. There is no network here that would carry a Service's address,
so the server is told to reach the cluster through an HTTP CONNECT proxy (its egress selector, made for control planes
outside of their cluster), and ``Environment.connect`` says which process a Service means. The published manifests
apply as they are.

A *keeper* process owns everything that runs and ends with the process that started it, however that ends.
``python -m tests.apiserver.environment FOLDER PID`` is the keeper.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("kube-apiserver", "etcd", "kubectl")
START_SECONDS = 90.0
ADMIN = "tests-admin"


class NotAvailableError(Exception):
    """There is no API server here; the text says why and what would help."""


def find_assets() -> Path:
    """The folder with the programs. Builds nothing: ``make test`` did, where Go is there."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        missing = [name for name in PROGRAMS if not os.access(Path(given) / name, os.X_OK)]
        if missing:
            raise NotAvailableError(f"KUBEBUILDER_ASSETS={given} has no {', '.join(missing)}")
        return Path(given)
    listed = subprocess.run(
        [ROOT / "hack" / "kubernetes" / "build", "--where", "apiserver"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise NotAvailableError(
            "no kube-apiserver: set KUBEBUILDER_ASSETS, or install Go and run `hack/kubernetes/build apiserver`"
        )
    return Path(listed.stdout.strip())


@dataclass(frozen=True)
class Environment:
    """A running API server. ``kubeconfig`` is an administrator's."""

    folder: Path
    assets: Path
    address: str

    @property
    def kubeconfig(self) -> Path:
        """That of ``system:masters``."""
        return self.folder / "admin.conf"

    def kubectl(self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002
        """Run kubectl; returns what it printed. Raises ``KubectlError`` with its words."""
        done = self.try_kubectl(*arguments, input=input, kubeconfig=kubeconfig)
        if done.returncode:
            raise KubectlError(" ".join(arguments), done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def try_kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 (as subprocess calls it)
        kubeconfig: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and let the caller judge: warnings are in ``stderr``."""
        command = [self.assets / "kubectl", "--kubeconfig", kubeconfig or self.kubeconfig, *arguments]
        settings = {**os.environ, "HOME": str(self.folder)}
        return subprocess.run(
            command, input=input, capture_output=True, text=True, env=settings, timeout=60, check=False
        )

    def get(self, *arguments: str) -> dict[str, object]:
        """``kubectl get ... -o json``."""
        found: dict[str, object] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def create_namespace(self, name: str, injection: str = "", labels: dict[str, str] | None = None) -> str:
        """A namespace as a cluster would have it: with the default service account that a controller makes."""
        labels = {**(labels or {}), **({"eastgate.dev/injection": injection} if injection else {})}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.kubectl("apply", "-f", "-", input=json.dumps(namespace))
        self.create_account(name)
        return name

    def create_account(self, namespace: str) -> None:
        """The service account without which no pod is admitted."""
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
        self.kubectl("apply", "-f", "-", input=json.dumps(account))

    def connect(self, service: str, port: int | None) -> None:
        """Let ``namespace/name`` mean a port of this machine; None: nobody is there any more."""
        namespace, _, name = service.partition("/")
        found = self.get("service", name, "-n", namespace)
        cluster_ip = found["spec"]["clusterIP"]  # type: ignore[index]
        with _locked(self.folder / "lock"):
            file = self.folder / "services.json"
            known = json.loads(file.read_text()) if file.exists() else {}
            known[cluster_ip] = port
            _write_whole(file, json.dumps(known))

    def make_kubeconfig(self, namespace: str, account: str, folder: Path) -> Path:
        """A kubeconfig with a token of a service account: to run a program with the rights that its manifests give."""
        token = self.kubectl("create", "token", account, "-n", namespace, "--duration=2h").strip()
        file = folder / f"{namespace}-{account}.conf"
        file.write_text(_render_kubeconfig(self.address, token))
        return file


class KubectlError(AssertionError):
    """kubectl failed; the text is what a person would have seen."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(f"kubectl {command}: {message}")
        self.message = message


def launch_environment(folder: Path) -> Environment:
    """A new environment with its state in ``folder``. It lasts until ``stop_environment``, or as long as this process."""
    assets = find_assets()
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "keeper.log").open("wb")
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.apiserver.environment", folder, str(os.getpid())],
        cwd=ROOT,
        env={**os.environ, "KUBEBUILDER_ASSETS": str(assets)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    _write_whole(folder / "keeper", str(keeper.pid))
    ready = folder / "ready"
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no API server after {START_SECONDS:.0f} s, see {folder}/*.log")
        time.sleep(0.05)
    return Environment(folder, assets, ready.read_text())


@contextlib.contextmanager
def start_environment() -> Iterator[Environment]:
    """An environment of one's own, for trying things by hand: ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="eastgate-apiserver-"))
    try:
        yield launch_environment(folder)
    finally:
        stop_environment(folder)
        shutil.rmtree(folder, ignore_errors=True)


def stop_environment(folder: Path) -> None:
    """End the keeper of a folder and wait for it."""
    file = folder / "keeper"
    if not file.exists():
        return
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


# --- the keeper -----------------------------------------------------------------------------------------------------


async def keep(folder: Path, owner: int) -> None:
    """Start everything, say that it is ready, wait for the owner's end or a signal, end everything."""
    assets = find_assets()
    running: list[subprocess.Popen[bytes]] = []
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    socket_folder = tempfile.mkdtemp(prefix="egress-")  # a socket's path may have 107 bytes
    try:
        uds = f"{socket_folder}/s"
        proxy = await asyncio.start_unix_server(_Egress(folder).accept, uds)
        address = _start_servers(folder, assets, uds, running)
        await asyncio.to_thread(_await_ready, folder, address, running)
        _write_whole(folder / "ready", address)
        while not ended.is_set() and _is_alive(owner):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.5)
        proxy.close()
    finally:
        for process in reversed(running):  # nothing of it is to be kept
            process.kill()
            process.wait()
        shutil.rmtree(socket_folder, ignore_errors=True)


def _start_servers(folder: Path, assets: Path, uds: str, running: list[subprocess.Popen[bytes]]) -> str:
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},{ADMIN},{ADMIN},system:masters\n")
    key = rsa.generate_private_key(65537, 2048)
    (folder / "accounts.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (folder / "egress.yaml").write_text(
        "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\negressSelections:\n- name: cluster\n"
        f"  connection:\n    proxyProtocol: HTTPConnect\n    transport:\n      uds:\n        udsName: {uds}\n"
    )
    etcd = f"http://127.0.0.1:{etcd_port}"
    address = f"https://127.0.0.1:{port}"
    (folder / "admin.conf").write_text(_render_kubeconfig(address, token))
    commands = {
        "etcd": [
            *("--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer_port}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}"),
            *("--initial-cluster", f"default=http://127.0.0.1:{peer_port}"),
        ],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={folder / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={folder / 'accounts.key'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--egress-selector-config-file={folder / 'egress.yaml'}",
            "--endpoint-reconciler-type=none",
            "--audit-policy-file=" + str(folder / "audit.yaml"),
            "--audit-log-path=" + str(folder / "audit.log"),
        ],
    }
    (folder / "audit.yaml").write_text(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n"
        '- level: Metadata\n  userGroups: ["system:serviceaccounts:eastgate-system"]\n- level: None\n'
    )
    for name, arguments in commands.items():
        log = (folder / f"{name}.log").open("wb")
        running.append(
            subprocess.Popen(
                [assets / name, *map(str, arguments)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        )
    return address


def _end_with_parent() -> None:
    """Linux: a child whose keeper was killed ends, too (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _await_ready(folder: Path, address: str, running: list[subprocess.Popen[bytes]]) -> None:
    token = (folder / "tokens.csv").read_text().partition(",")[0]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"{address}/readyz", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in running):
            raise RuntimeError(f"a server ended early, see {folder}/*.log")
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.1)


class _Egress:
    """The HTTP CONNECT proxy: a Service's address to the process that ``services.json`` names."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "services.json"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            host = head.split(b" ", 2)[1].decode().rpartition(":")[0]
            port = json.loads(self._file.read_text()).get(host) if self._file.exists() else None
            if port is None:
                writer.write(b"HTTP/1.1 502 nobody there\r\n\r\n")
                return
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            tasks = [
                asyncio.create_task(_copy(reader, onward_writer)),
                asyncio.create_task(_copy(onward_reader, writer)),
            ]
            await asyncio.wait(tasks)
        except (OSError, EOFError, ValueError):
            with contextlib.suppress(Exception):
                writer.write(b"HTTP/1.1 502 nobody there\r\n\r\n")
        finally:
            for task in tasks:
                task.cancel()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def _render_kubeconfig(address: str, token: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": address, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        },
        indent=1,
    )


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write_whole(file: Path, text: str) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(file)


if __name__ == "__main__":
    asyncio.run(keep(Path(sys.argv[1]), int(sys.argv[2])))
