"""Pods from first to last: never open, probed as their authors meant, finished when their work is."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.cluster import CLIENT
from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.node import Node
from e2e.cluster.places import Place, make_place
from e2e.cluster.traffic import Ask, Outcome, ask, ask_once, describe
from e2e.cluster.workloads import APP, Objects, make_pod, make_template
from eastgate.pods.names import SIDECAR_CONTAINER

pytestmark = pytest.mark.timeout(600, func_only=True)
NAMESPACE = "pods"
TIMES = 20
CLASSIC = {"eastgate.dev/native-sidecar": "false"}

TIME_REDIRECT = """
import subprocess, time
began = time.time()
subprocess.run(["eastgate", "sidecar", "redirect", "--dry-run"], stdout=subprocess.DEVNULL)
print(time.time() - began)
"""


@pytest.fixture(scope="module")
def place(installation: Installation) -> Iterator[Place]:
    if installation.node is None:
        pytest.skip("NOT TESTED: needs the node's own network, and KUBECONFIG names a cluster")
    with make_place(installation.cluster, installation.node, NAMESPACE) as place:
        yield place


class Watcher:
    """Asks a pod without a token, from the moment in which the network plugin gives it an address. ``pause`` is between
    two questions while nobody answers.
    """

    def __init__(self, node: Node, token: str, pause: float = 0.001) -> None:
        self._node, self._token, self._pause = node, token, pause
        self._leases = node.folder / "ipam" / "pods"
        self._known = self._list()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: node.call(self._work), daemon=True)
        self.outcomes: Counter[Outcome] = Counter()
        self.address = ""
        self.addressed = self.refused = self.allowed = 0.0
        self._thread.start()

    def end(self) -> None:
        """Stop asking."""
        self._ended.set()
        self._thread.join()

    def await_allowed(self, seconds: float = 60.0) -> None:
        """Until a token gets in, or anybody."""
        deadline = time.monotonic() + seconds
        while not self.allowed and not self.outcomes[200]:
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.005)

    def _list(self) -> set[str]:
        return {one.name for one in self._leases.glob("10.*")} if self._leases.is_dir() else set()

    def _work(self) -> None:
        while not self._ended.is_set() and not (new := self._list() - self._known):
            time.sleep(0.002)
        if self._ended.is_set():
            return
        self.addressed = time.monotonic()
        self.address = new.pop()
        while not self._ended.is_set():
            sample = ask(Ask("none", self.address), timeout=0.3)
            self.outcomes[sample.outcome] += 1
            if sample.outcome == 401:
                self.refused = self.refused or sample.answered
                if not self.allowed and ask(Ask("token", self.address, self._token), timeout=0.3).outcome == 200:
                    self.allowed = time.monotonic()
            elif isinstance(sample.outcome, str):
                time.sleep(self._pause)


@pytest.mark.parametrize(("mode", "times"), [("native", TIMES), ("classic", 5)])
def test_a_new_pod_is_never_reachable_unprotected(place: Place, tell: Tell, mode: str, times: int) -> None:
    outcomes: Counter[Outcome] = Counter()
    seconds = []
    pod = make_pod(NAMESPACE, "again", CLASSIC if mode == "classic" else None)
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    for _ in range(times):
        watcher = Watcher(place.node, place.token)
        place.apply(pod)
        watcher.await_allowed()
        seconds.append(watcher.allowed - watcher.addressed)
        place.kubectl("delete", "pod", "again", "--wait=true")
        watcher.end()
        outcomes += watcher.outcomes
    tell(f"{times} pods in a row ({mode}), asked without a token from their first moment: {dict(outcomes)}")
    tell(f"from its address to the first request with a token: {describe(seconds)}")
    assert {one for one in outcomes if isinstance(one, int)} <= {401, 502, 503}
    assert outcomes[401] >= times


def test_what_the_sidecar_adds_to_a_start(place: Place, tell: Tell) -> None:
    """The same pod with and without, from its address to its first answer; and what of that is our own program's."""
    figures: dict[str, list[float]] = {"with": [], "without": []}
    own, turns = [], 5
    for turn in range(turns):
        for kind in figures:
            pod = make_pod(NAMESPACE, "start")
            if kind == "without":
                pod["metadata"]["labels"]["eastgate.dev/inject"] = "false"
            pod["spec"]["terminationGracePeriodSeconds"] = 1
            watcher = Watcher(place.node, place.token, pause=0.02)
            place.apply(pod)
            watcher.await_allowed()
            figures[kind].append((watcher.allowed or time.monotonic()) - watcher.addressed)
            if kind == "with":
                own.append(measure_own(place, "start"))
            place.kubectl("delete", "pod", "start", "--wait=true")
            watcher.end()
        tell(f"start {turn + 1} of {turns}: {figures['with'][-1]:.2f} s with, {figures['without'][-1]:.2f} s without")
    added = sorted(figures["with"])[turns // 2] - sorted(figures["without"])[turns // 2]
    tell(f"from address to first answer: with {describe(figures['with'])}; without {describe(figures['without'])}")
    program = ("python3", "-c", TIME_REDIRECT)
    redirect = float(place.cluster.kubectl("exec", "-n", CLIENT, CLIENT, "--", *program))
    tell(f"the sidecar adds {added:.2f} s (median); of these its own from start to ready: {describe(own)}")
    tell(f"and of the init container, without the kernel's part: {redirect:.2f} s; the rest is the kubelet's")


def measure_own(place: Place, pod: str) -> float:
    """Seconds from the start of the sidecar's process to its ready line, from the kernel's clock and the log's."""
    first = place.container_processes(pod, SIDECAR_CONTAINER)[0]
    ticks = int((Path("/proc") / str(first) / "stat").read_text().rpartition(")")[2].split()[19])
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 100
    lines = place.kubectl("logs", pod, "-c", SIDECAR_CONTAINER, "--timestamps").splitlines()
    said = next(line for line in lines if " ready http" in line).partition(" ")[0]
    moment, fraction = said.rstrip("Z").split(".")
    ready = time.mktime(time.strptime(moment, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(f"0.{fraction}")
    return ready - began


def test_probes_of_every_kind(place: Place, tell: Tell) -> None:
    """The kubelet has no token, and still knows how the app is."""
    pod = make_pod(
        NAMESPACE,
        "probes",
        startupProbe={"grpc": {"port": 9000}, "periodSeconds": 1, "failureThreshold": 30},
        readinessProbe={"httpGet": {"path": "/status/200", "port": "http"}, "periodSeconds": 1},
        livenessProbe={"tcpSocket": {"port": 3000}, "periodSeconds": 1},
        lifecycle={
            "postStart": {"exec": {"command": ["true"]}},
            "preStop": {"httpGet": {"path": "/bye", "port": "http"}},
        },
    )
    unwell = make_pod(
        NAMESPACE, "unwell", readinessProbe={"httpGet": {"path": "/status/500", "port": "http"}, "periodSeconds": 1}
    )
    silent = make_pod(NAMESPACE, "silent", readinessProbe={"tcpSocket": {"port": 4444}, "periodSeconds": 1})
    commanded = make_pod(NAMESPACE, "commanded", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    place.apply(pod, unwell, silent, commanded)
    address = place.await_ready("probes")
    place.await_ready("commanded")
    place.await_protected(address)
    time.sleep(4)
    status = {one: place.cluster.get("pod", one, "-n", NAMESPACE)["status"] for one in ("probes", "unwell", "silent")}
    ready = {
        name: next(one["ready"] for one in each["containerStatuses"] if one["name"] == APP)
        for name, each in status.items()
    }
    assert ready == {"probes": True, "unwell": False, "silent": False}
    assert place.restarts("probes", APP) == 0
    seen = place.cluster.log(NAMESPACE, "probes", APP)
    asked = {one["seen"][1] for one in seen if "seen" in one}
    assert "/status/200" in asked
    follow = threading.Thread(target=place.kubectl, args=("delete", "pod", "probes"))
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.append(place.kubectl("logs", "-f", "probes", "-c", APP)))
    reader.start()
    time.sleep(0.5)
    follow.start()
    follow.join()
    reader.join(30)
    assert any('"/bye"' in line for line in log[0].splitlines()), "the preStop hook reached the app"
    tell(f"probes on a real kubelet: http, tcp, grpc and exec as their authors meant: {json.dumps(ready)}")
    place.kubectl("delete", "pod", "unwell", "silent", "commanded", "--wait=false")


def test_a_job_finishes(place: Place, tell: Tell) -> None:
    template: Objects = make_template("job", command=["python3", "-c", "print('done')"])
    del template["spec"]["containers"][0]["readinessProbe"]
    template["spec"]["restartPolicy"] = "Never"
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": NAMESPACE},
        "spec": {"template": template, "backoffLimit": 0},
    }
    began = time.monotonic()
    place.apply(job)
    place.kubectl("wait", "job/job", "--for=condition=Complete", "--timeout=60s")
    tell(f"a Job with a native sidecar: complete after {time.monotonic() - began:.1f} s")
    assert place.kubectl("logs", "job/job", "-c", APP).strip() == "done"


def test_classic_mode(place: Place) -> None:
    place.apply(make_pod(NAMESPACE, "classic", CLASSIC))
    place.await_protected(place.await_ready("classic"))
    spec = place.cluster.get("pod", "classic", "-n", NAMESPACE)["spec"]
    assert [one["name"] for one in spec["containers"]] == [SIDECAR_CONTAINER, APP]
    place.kubectl("delete", "pod", "classic", "--wait=true")


def test_an_opaque_and_an_excluded_port(place: Place) -> None:
    ports = {"eastgate.dev/opaque-ports": "9100", "eastgate.dev/exclude-inbound-ports": "3000"}
    place.apply(make_pod(NAMESPACE, "ports", ports))
    address = place.await_ready("ports")
    place.await_protected(address)
    assert ask_once(place.node, Ask("excluded", address, port=3000)) == 200
    assert ask_once(place.node, Ask("not named", address, port=80)) == 401

    def greet() -> bytes:
        import socket

        with socket.create_connection((address, 9100), timeout=5) as connection:
            greeting = connection.recv(100)
            connection.sendall(b"ping")
            return greeting + connection.recv(100)

    assert place.node.call(greet) == b"220 hello\r\nping"
    place.kubectl("delete", "pod", "ports", "--wait=false")
