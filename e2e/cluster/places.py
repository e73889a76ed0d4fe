"""A namespace of a test's own with a policy and protected pods in it, and what a test does to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from e2e.cluster.cluster import Cluster, NotReadyError
from e2e.cluster.node import Node
from e2e.cluster.traffic import Ask, await_outcome
from e2e.cluster.workloads import APP, Objects, make_namespace, make_policy, make_token
from eastgate.pods.names import SIDECAR_CONTAINER

LOG_SECONDS = 10.0


class Place:
    """One namespace. ``token`` is one that its policy accepts."""

    def __init__(self, cluster: Cluster, node: Node, namespace: str) -> None:
        self.cluster, self.node, self.namespace = cluster, node, namespace
        self.token = make_token()

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """In this namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, check=check)

    def apply(self, *objects: Objects) -> None:
        """Apply them."""
        self.cluster.apply(*objects)

    def pod(self, selector: str = f"app={APP}") -> dict[str, Any]:
        """The one that there is."""
        found = self.cluster.pods(self.namespace, selector)
        assert len(found) == 1, [one["metadata"]["name"] for one in found]
        return found[0]

    def addresses(self, selector: str = f"app={APP}") -> list[str]:
        """Of pods that have one."""
        return [
            one["status"]["podIP"] for one in self.cluster.pods(self.namespace, selector) if "podIP" in one["status"]
        ]

    def families(self, pod: str = APP, namespace: str = "") -> list[str]:
        """A pod's addresses: IPv4, and IPv6 where the node has it."""
        status = self.cluster.get("pod", pod, "-n", namespace or self.namespace)["status"]
        return [one["ip"] for one in status["podIPs"]]

    def await_ready(self, name: str) -> str:
        """Wait for a pod; returns its address."""
        self.cluster.await_condition(self.namespace, f"pod/{name}")
        found: str = self.cluster.get("pod", name, "-n", self.namespace)["status"]["podIP"]
        return found

    def await_protected(self, address: str) -> None:
        """Until a token gets in. Who has none is refused, and at no moment let in."""
        await_outcome(self.node, Ask("token", address, self.token), [200])
        await_outcome(self.node, Ask("none", address), [401], never=[200])

    def await_bundle(self) -> None:
        """Until the namespace has one: pods wait for it."""
        self.cluster.await_true(lambda: self.cluster.bundle(self.namespace), f"a bundle for {self.namespace}")

    def container_processes(self, pod: str, container: str) -> list[int]:
        """The processes of a container, on this machine."""
        identity = self._find_status(pod, container)["containerID"].partition("://")[2]
        found = []
        for file in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if identity in file.read_text():
                    found.append(int(file.parent.name))
            except OSError:
                continue  # It has just ended.
        return sorted(found)

    def kill(self, pod: str, container: str = SIDECAR_CONTAINER) -> float:
        """SIGKILL to all of a container's processes, as the kernel does when memory is short; returns the moment."""
        processes = self.container_processes(pod, container)
        assert processes, f"{container} of {pod} does not run: {self._find_status(pod, container)}"
        for process in processes:
            with suppress(ProcessLookupError):  # A probe's, which ended by itself.
                os.kill(process, signal.SIGKILL)
        return time.monotonic()

    def restarts(self, pod: str, container: str) -> int:
        """How often a container was started again, as far as the kubelet has told."""
        found: int = self._find_status(pod, container)["restartCount"]
        return found

    def log(self, pod: str, container: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """A container's records, once there are ``enough``: a line gets there some moments after it was written. After
        ten seconds what there is, for the test to say what lacks.
        """
        deadline = time.monotonic() + LOG_SECONDS
        while not enough(records := self.cluster.log(self.namespace, pod, container)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return records

    def _find_status(self, pod: str, container: str) -> dict[str, Any]:
        status = self.cluster.get("pod", pod, "-n", self.namespace)["status"]
        listed = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        found: dict[str, Any] = next(one for one in listed if one["name"] == container)
        return found


@contextmanager
def make_place(cluster: Cluster, node: Node, namespace: str, policy: Objects | None = None) -> Iterator[Place]:
    """The namespace for the block, with a policy that demands a token."""
    place = Place(cluster, node, namespace)
    try:
        place.apply(make_namespace(namespace), policy or make_policy(namespace))
        place.await_bundle()
        yield place
    except Exception as error:
        if not isinstance(error, NotReadyError):
            error.add_note(cluster.describe(namespace))
        raise
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false", check=False)
