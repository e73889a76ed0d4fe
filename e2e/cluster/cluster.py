"""What tests ask of a cluster: kubectl, requests from a pod, logs. It does not care whose cluster it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.kubectl import Kubectl, KubectlError
from eastgate.demonstrations.calls import Got
from eastgate.demonstrations.scenes import GRPCCall, HTTPCall
from eastgate.pods.names import BUNDLE

SYSTEM = "eastgate-system"
CLIENT = "client"
"""Namespace and pod that requests come from: no label, no sidecar."""


class NotReadyError(AssertionError):
    """Something did not come up in time; the text has what its namespace says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and when it was asked for and given (seconds since the epoch, the node's clock)."""

    asked: float
    answered: float
    got: Got


class Cluster:
    """``run_script`` runs one that calls kubectl."""

    def __init__(self, kubectl: Kubectl, run_script: Callable[[Path], None]) -> None:
        self.kubectl = kubectl
        self.run_script = run_script

    def get(self, *arguments: str) -> dict[str, Any]:
        """``kubectl get ... -o json``."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, *objects: object) -> None:
        """Objects as dicts."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", input=json.dumps(items))

    def rolled_out(self, namespace: str, *workloads: str, seconds: int = 180) -> None:
        """Wait until workloads (``deployment/NAME``) are complete. Raises ``NotReadyError``."""
        for workload in workloads:
            self._await(namespace, "rollout", "status", workload, seconds=seconds)

    def await_condition(self, namespace: str, what: str, condition: str = "Ready", seconds: int = 180) -> None:
        """Wait for a condition of an object (``pod/NAME``). Raises ``NotReadyError``."""
        self._await(namespace, "wait", what, f"--for=condition={condition}", seconds=seconds)

    def _await(self, namespace: str, *arguments: str, seconds: int) -> None:
        try:
            self.kubectl(*arguments, "-n", namespace, f"--timeout={seconds}s", timeout=seconds + 30)
        except KubectlError as error:
            raise NotReadyError(f"{error}\n{self.describe(namespace)}") from None

    def await_gone(self, namespace: str, selector: str = "", seconds: float = 120.0) -> None:
        """Until no pod is left, those that are being deleted included."""
        self.await_true(
            lambda: not self.list_pods(namespace, selector), f"no pod {selector} in {namespace} any more", seconds
        )

    def describe(self, namespace: str) -> str:
        """Pods, the latest events and the last words of each container, for somebody who was not there."""

        def ask(*arguments: str) -> str:
            try:
                return self.kubectl(*arguments, "-n", namespace, check=False, timeout=30)
            except KubectlError as error:
                return f"{error}\n"

        said = [ask("get", "pods", "-o", "wide"), ask("get", "events", "--sort-by=.lastTimestamp")[-3000:]]
        pods = [one for one in ask("get", "pods", "-o", "name").split() if one.startswith("pod/")][:5]
        return "\n".join([*said, *(ask("logs", one, "--all-containers", "--prefix", "--tail=15") for one in pods)])

    def list_pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """All that there are."""
        arguments = ("-l", selector) if selector else ()
        found: list[dict[str, Any]] = self.get("pods", "-n", namespace, *arguments)["items"]
        return found

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Pods that are not being deleted."""
        return [one for one in self.list_pods(namespace, selector) if "deletionTimestamp" not in one["metadata"]]

    def send(self, calls: Sequence[tuple[str, HTTPCall | GRPCCall]], *, await_open: bool = False) -> list[Answer]:
        """From the client pod, one after the other; each with ``host:port`` that it goes to. ``await_open``: once
        something listens there.
        """
        flags = ("--await-open",) if await_open else ()
        asked = [
            {"to": to, "http" if isinstance(call, HTTPCall) else "grpc": asdict(call)} for to, call in calls
        ]  # fmt: skip
        said = self.kubectl(
            "exec", "-i", "-n", CLIENT, CLIENT, "--", "python3", "/opt/apps/client.py", *flags, input=json.dumps(asked)
        )
        return [
            Answer(one["asked"], one["answered"], Got(one["status"], one["body"], tuple(map(tuple, one["headers"]))))
            for one in json.loads(said)
        ]

    def log(self, namespace: str, pod: str, container: str) -> list[dict[str, Any]]:
        """The records of a container's log; other lines are left out."""
        lines = self.kubectl("logs", "-n", namespace, pod, "-c", container).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def await_true(
        self, condition: Callable[[], object], what: str, seconds: float = 120.0, pause: float = 0.2
    ) -> float:
        """Wait; returns how long it took. Where kubectl fails it is not so yet, and its words are in the error."""
        began = time.monotonic()
        while True:
            said = ""
            try:
                if condition():
                    return time.monotonic() - began
            except KubectlError as error:
                said = f": {error}"
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what}{said}")
            time.sleep(pause)

    def bundle(self, namespace: str) -> str:
        """The digest that the namespace's pods should be running."""
        found: str = self.get("configmap", "eastgate-bundle", "-n", namespace)["metadata"]["annotations"][BUNDLE]
        return found

    def running(self, namespace: str, pod: str) -> dict[str, Any]:
        """What a pod's sidecar says of itself."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}:19020/proxy/config"
        found: dict[str, Any] = json.loads(self.kubectl("get", "--raw", path))
        return found

    def await_in_force(self, namespace: str, seconds: float = 120.0) -> float:
        """Wait until every pod with a sidecar runs the namespace's bundle."""

        def in_force() -> bool:
            wanted = self.bundle(namespace)
            return all(
                self.running(namespace, one["metadata"]["name"])["bundle"]["digest"] == wanted
                for one in self.pods(namespace)
                if BUNDLE in one["metadata"].get("annotations", {})
            )

        return self.await_true(in_force, f"the bundle of {namespace} on every pod", seconds)

    def await_programmed(self, namespace: str, kind: str, name: str, seconds: float = 120.0) -> float:
        """Wait until a policy's condition says that its pods have it."""

        def programmed() -> bool:
            found = self.get(kind, name, "-n", namespace)
            status = found.get("status", {})
            listed = status.get("conditions", []) + [
                condition for ancestor in status.get("ancestors", []) for condition in ancestor["conditions"]
            ]
            generation = found["metadata"]["generation"]
            return any(
                one["type"] == "Programmed" and one["status"] == "True" and one.get("observedGeneration") == generation
                for one in listed
            )

        return self.await_true(programmed, f"{kind}/{name} programmed", seconds)
