"""A pod with the real rules, the real sidecar and an application, for all tests of a module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import pytest

from e2e.netns.client import Reply, ask
from e2e.netns.lab import APP_ID, POD4, PYTHON, Lab, make_lab
from eastgate.pods.names import ADMIN_PORT, PROXY_ID
from tests.live.pod_running import Volumes, make_policy, make_service
from tests.tokens import mint

HTTP, ECHO, GREETING = 8080, 9100, 9000
EXCLUDED = 8081


@dataclass
class ProtectedPod:
    """``backend`` is what put the rules in place."""

    lab: Lab
    volumes: Volumes
    backend: str
    flags: list[str]
    sidecars: list[subprocess.Popen[str]] = field(default_factory=list)

    def start_sidecar(self) -> None:
        """As the kubelet does: another start in the same pod finds the rules in place."""
        command: list[object] = [PYTHON, "-m", "eastgate", "sidecar", "run", *self.volumes.flags]
        self.sidecars.append(self.lab.start("pod", *map(str, command), user=PROXY_ID, name="sidecar"))

    def kill_sidecar(self) -> None:
        """SIGKILL, as the kernel does when memory is short."""
        sidecar = self.sidecars.pop()
        sidecar.kill()
        sidecar.wait()

    def redirect(self, user: int = 0) -> str:
        """Run the init container's program; returns what it said."""
        return self.lab.output("pod", PYTHON, "-m", "eastgate", "sidecar", "redirect", *self.flags, user=user)

    def remove_rules(self) -> None:
        """As nothing in a pod should."""
        if self.backend == "nft":
            self.lab.run("pod", "nft", "delete", "table", "inet", "eastgate")
            return
        for family in ("iptables", "ip6tables"):
            for table in ("nat", "filter"):
                self.lab.run("pod", self.backend.replace("iptables", family), "-t", table, "-F")

    def find_missing(self, where: str) -> dict[str, str]:
        """What ``/readyz`` says is missing."""
        reply = self.lab.call(where, lambda: ask(POD4, ADMIN_PORT, path="/readyz"))
        assert reply.status, reply
        missing: dict[str, str] = json.loads(reply.body)["missing"]
        return missing

    @property
    def log(self) -> str:
        """What the sidecars logged, in whole lines. The line of a request may come after its answer."""
        return (self.lab.folder / "sidecar.log").read_text().rpartition("\n")[0]

    def await_true(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Wait for something of the pod."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            time.sleep(0.05)

    def ask(self, host: str = POD4, port: int = HTTP, where: str = "client", token: str | None = None) -> Reply:
        """A request from another namespace."""
        return self.lab.call(where, lambda: ask(host, port, token))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says what the sidecar said last."""
    report = yield
    pod = getattr(item, "funcargs", {}).get("pod")
    if report.failed and isinstance(pod, ProtectedPod):
        report.sections.append(("the sidecar's log", pod.log[-3000:]))
    return report


@pytest.fixture(scope="session")
def token() -> str:
    """One that the policy accepts."""
    return mint({"iss": "https://dev.example.com", "exp": "+1h"})


@pytest.fixture(scope="module", params=["nft", "iptables", "iptables-legacy"])
def pod(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProtectedPod]:
    """Everything is started in a pod's order: rules, sidecar, application."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: redirection needs root")
    if shutil.which(request.param) is None:
        pytest.skip(f"NOT TESTED: {request.param} is not installed")
    folder = tmp_path_factory.mktemp("pod")
    folder.chmod(0o755)
    with make_lab(folder) as lab:
        volumes = Volumes(folder / "volumes")
        volumes.annotations["eastgate.dev/opaque-ports"] = f"{ECHO},{GREETING}"
        volumes.write_bundle(make_policy(), make_service(target=HTTP))
        (folder / "volumes" / "state").mkdir()
        os.chown(folder / "volumes" / "state", PROXY_ID, PROXY_ID)
        pod = ProtectedPod(
            lab, volumes, request.param, ["--backend", request.param, "--exclude-inbound-ports", str(EXCLUDED)]
        )
        pod.redirect()
        pod.start_sidecar()
        lab.start("pod", PYTHON, "-m", "e2e.netns.app", str(HTTP), str(ECHO), str(GREETING), user=APP_ID, name="app")
        lab.start("pod", PYTHON, "-m", "e2e.netns.app", str(EXCLUDED), "9101", "9001", user=APP_ID, name="excluded")
        yield pod
