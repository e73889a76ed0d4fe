"""``eastgate sidecar run`` as a real process, over folders made as kubelet makes them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eastgate.pods.authorities import Authorities
from eastgate.pods.bundles import Bundle, pack
from eastgate.pods.downward import write_pairs
from eastgate.pods.names import BUNDLE, MANIFEST_KEY, PART_KEY
from tests.live.client import request_http1
from tests.live.serving import ROOT
from tests.ports import free_port
from tests.tokens import key_set

LABELS = {"app": "httpbin"}
ANNOTATIONS = {"eastgate.dev/policies": "*"}


class Mount:
    """A volume's folder, written as kubelet's ``atomic_writer`` does: all at once, by swapping one link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._generation = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, files: Mapping[str, bytes]) -> float:
        """Swap; returns the moment."""
        self._generation += 1
        old = self.folder / f"..2026_{self._generation - 1}"
        new = self.folder / f"..2026_{self._generation}"
        new.mkdir()
        for name, content in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            top = self.folder / name.partition("/")[0]
            if not top.is_symlink():
                top.symlink_to(f"..data/{top.name}")
        (self.folder / "..data_tmp").symlink_to(new.name)
        moment = time.monotonic()
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        shutil.rmtree(old, ignore_errors=True)
        return moment


class Volumes:
    """The three folders of a pod."""

    def __init__(self, root: Path, namespace: str = "httpbin") -> None:
        self.namespace = namespace
        self.root = root
        self.bundle, self.shards, self.pod = (Mount(root / name) for name in ("bundle", "shards", "pod"))
        self.labels, self.annotations = dict(LABELS), dict(ANNOTATIONS)
        self.write_pod()
        self.shards.write({})

    def write_pod(self) -> float:
        """Labels and annotations as they stand."""
        texts = {"labels": self.labels, "annotations": self.annotations}
        return self.pod.write({name: write_pairs(pairs).encode() for name, pairs in texts.items()})

    def write_bundle(
        self, *documents: dict[str, Any], secrets: Sequence[dict[str, Any]] = (), authorities: Authorities = ()
    ) -> Bundle:
        """Pack, mount, announce."""
        bundle = pack(self.namespace, documents, secrets, authorities)
        self.mount(bundle)
        self.annotations[BUNDLE] = bundle.digest
        self.write_pod()
        return bundle

    def mount(self, bundle: Bundle) -> float:
        """Mount without announcing."""
        files = bundle.files()
        first = {name: files.pop(name) for name in (MANIFEST_KEY, PART_KEY)}
        if files:
            self.shards.write(files)
        return self.bundle.write(first)

    @property
    def flags(self) -> list[str]:
        """Those of ``eastgate sidecar run``."""
        flags = ["--namespace", self.namespace, "--keys-directory", str(self.root / "state")]
        for name in ("bundle", "shards", "pod"):
            flags += [f"--{name}", str(self.root / name)]
        return flags


class Pod:
    """A running sidecar."""

    def __init__(self, process: subprocess.Popen[str], port: int, admin: int, log_file: Path) -> None:
        self.process = process
        self.port = port
        self.admin = admin
        self._log_file = log_file

    @property
    def log(self) -> str:
        """What it said on stderr."""
        return self._log_file.read_text()

    def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """The admin port; status 0 where there is no answer."""
        url = f"http://127.0.0.1:{self.admin}{path}"
        request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def config(self) -> dict[str, Any]:
        """``/config``."""
        found: dict[str, Any] = json.loads(self.ask("/config")[1])
        return found

    @property
    def missing(self) -> dict[str, str]:
        """What ``/readyz`` says is missing."""
        found: dict[str, str] = json.loads(self.ask("/readyz")[1])["missing"]
        return found

    def status(self, path: str = "/get", *headers: tuple[str, str]) -> int:
        """Of a request through the sidecar; 0 where nothing accepts."""
        try:
            return request_http1(self.port, "GET", path, "a", headers).status
        except OSError:
            return 0


@contextlib.contextmanager
def run_pod(
    volumes: Volumes, upstream_port: int | None, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[Pod]:
    """Start it, wait until the admin port answers, yield it, end it by SIGTERM."""
    port, admin = free_port(), free_port()
    command = [sys.executable, "-m", "eastgate", "sidecar", "run", *volumes.flags]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    if upstream_port is not None:
        command += ["--upstream", f"http://127.0.0.1:{upstream_port}"]
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        with log_file.open("w") as log:
            process = subprocess.Popen(
                [*command, *flags],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **(environment or {})},
                text=True,
            )
        timer = threading.Timer(110, process.kill)
        timer.start()
        pod = Pod(process, port, admin, log_file)
        try:
            until(lambda: pod.ask("/healthz")[0] == 200 or process.poll() is not None, 90.0)
            assert process.poll() is None, log_file.read_text()
            yield pod
        finally:
            timer.cancel()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise AssertionError("the sidecar did not end within 20 s of SIGTERM") from None


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Wait; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not happen"
        time.sleep(0.005)
    return time.monotonic() - began


def make_policy(name: str = "jwt", label: str = "httpbin", namespace: str = "httpbin") -> dict[str, Any]:
    """A policy that demands a token where ``label`` is the pod's."""
    return {
        "apiVersion": "policy.eastgate.dev/v1alpha1",
        "kind": "JWTPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "applyToRoutes": [{"route": {"labels": {"app": label}}}],
            "config": {
                "providers": {"dev": {"issuer": "https://dev.example.com", "local": {"inline": key_set("main")}}}
            },
        },
    }


def make_service(
    name: str = "httpbin", port: int = 80, target: int | str = 8080, app: str = "httpbin"
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "httpbin"},
        "spec": {"selector": {"app": app}, "ports": [{"port": port, "targetPort": target, "name": "web"}]},
    }
