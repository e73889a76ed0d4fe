"""Probes and hooks on a real kubelet, which has no token: they do what the pod's author meant, and for nobody else."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.places import Place, make_place
from e2e.cluster.workloads import APP, PATIENT, PORT, make_pod
from eastgate.demonstrations.scenes import HTTPCall
from eastgate.pods.names import ADMIN_PORT, APP_HOOK_PATH, HOOK_TOKEN_HEADER, SIDECAR_CONTAINER

pytestmark = pytest.mark.timeout(300, func_only=True)
NAMESPACE = "probes"
TLS_PORT = 8443
SECURE = [{"name": "TLS_PORT", "value": str(TLS_PORT)}]

AWAIT_APP = """
import socket, time
for port in (8080, 8443):
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def place(installation: Installation) -> Iterator[Place]:
    if installation.node is None:
        pytest.skip("NOT TESTED: needs the node's own network, and KUBECONFIG names a cluster")
    with make_place(installation.cluster, installation.node, NAMESPACE) as place:
        yield place


def http_get(path: str, port: int | str = "http", **more: object) -> dict[str, Any]:
    """A hook, or what a probe asks."""
    return {"httpGet": {"path": path, "port": port, **more}}


def each_second(asks: dict[str, Any]) -> dict[str, Any]:
    """A probe."""
    return {**asks, "periodSeconds": 1, **PATIENT}


def is_ready(place: Place, pod: str) -> bool:
    """Whether the app is, whatever the sidecar is."""
    status = place.cluster.get("pod", pod, "-n", NAMESPACE)["status"]
    found: bool = next(one["ready"] for one in status["containerStatuses"] if one["name"] == APP)
    return found


def await_unwell(place: Place, pod: str) -> None:
    """Until the kubelet has said of the app that its probe failed."""
    selector = f"involvedObject.name={pod},involvedObject.fieldPath=spec.containers{{{APP}}},reason=Unhealthy"
    place.cluster.await_true(
        lambda: place.cluster.get("events", "-n", NAMESPACE, "--field-selector", selector)["items"], f"{pod} unwell"
    )


def list_seen(place: Place, pod: str) -> list[tuple[str, str]]:
    """Each request that the app saw: its path, and where it came from."""
    return [(one["seen"][1], one["source"]) for one in place.cluster.log(NAMESPACE, pod, APP) if "seen" in one]


def await_asked(place: Place, pod: str, *paths: str) -> None:
    """Until the app was asked for each of them, and that again: the first answer has been dealt with."""

    def asked() -> bool:
        seen = [path for path, _ in list_seen(place, pod)]
        return all(seen.count(path) > 1 for path in paths)

    place.cluster.await_true(asked, f"{pod} is asked for {', '.join(paths)}")


def test_probes_of_every_kind(place: Place, tell: Tell) -> None:
    pod = make_pod(
        NAMESPACE,
        "every",
        startupProbe={**each_second({"grpc": {"port": 9000}}), "failureThreshold": 120},
        readinessProbe=each_second(http_get("/status/200")),
        livenessProbe=each_second({"tcpSocket": {"port": 3000}}),
    )
    unwell = make_pod(NAMESPACE, "unwell", readinessProbe=each_second(http_get("/status/500")))
    silent = make_pod(NAMESPACE, "silent", readinessProbe=each_second({"tcpSocket": {"port": 4444}}))
    commanded = make_pod(NAMESPACE, "commanded", readinessProbe=each_second({"exec": {"command": ["true"]}}))
    place.apply(pod, unwell, silent, commanded)
    address = place.await_ready("every")
    place.await_ready("commanded")
    place.await_protected(address)
    await_asked(place, "unwell", "/status/500")
    await_unwell(place, "silent")
    time.sleep(4)  # Long enough for some more of each.
    ready = {name: is_ready(place, name) for name in ("every", "unwell", "silent")}
    assert ready == {"every": True, "unwell": False, "silent": False}
    assert place.restarts("every", APP) == 0
    assert {"/status/200"} <= {path for path, _ in list_seen(place, "every")}
    tell(f"probes on a real kubelet: http, tcp, grpc and exec as their authors meant: {json.dumps(ready)}")
    place.kubectl("delete", "pod", "every", "unwell", "silent", "commanded", "--wait=false")


def test_https_probes_of_an_app_that_signs_for_itself(place: Place, tell: Tell) -> None:
    """As the kubelet does it the certificate is not looked at. What others send to that port never gets to the app."""
    probes = {
        "startupProbe": {**each_second(http_get("/start", TLS_PORT, scheme="HTTPS")), "failureThreshold": 120},
        "readinessProbe": each_second(http_get("/ready", TLS_PORT, scheme="HTTPS")),
        "livenessProbe": {**each_second(http_get("/live", TLS_PORT, scheme="HTTPS")), "failureThreshold": 1},
    }
    unwell = {"readinessProbe": each_second(http_get("/status/503", TLS_PORT, scheme="HTTPS"))}
    place.apply(
        make_pod(NAMESPACE, "secure", env=SECURE, **probes), make_pod(NAMESPACE, "unwell-secure", env=SECURE, **unwell)
    )
    address = place.await_ready("secure")
    place.await_protected(address)

    def dial() -> str:
        import socket

        context = ssl._create_unverified_context()
        with socket.create_connection((address, TLS_PORT), timeout=20) as plain:
            try:
                with context.wrap_socket(plain) as secure:
                    secure.sendall(b"GET /dialled HTTP/1.1\r\nHost: app\r\n\r\n")
                    return f"answered: {secure.recv(100)!r}"
            except OSError as error:
                return f"refused: {type(error).__name__}"

    said = place.node.call(dial)
    await_asked(place, "unwell-secure", "/status/503")
    await_asked(place, "secure", "/ready", "/live")
    time.sleep(2)  # For what must not get there.
    assert said.startswith("refused"), said
    assert is_ready(place, "secure")
    assert not is_ready(place, "unwell-secure")
    assert place.restarts("secure", APP) == 0
    paths = {path for path, _ in list_seen(place, "secure")}
    assert "/start" in paths
    assert "/dialled" not in paths
    # The kubelet asks the sidecar; whatever the app sees, broken handshakes as well, comes from its own pod.
    sources = {one["source"] for one in place.cluster.log(NAMESPACE, "secure", APP) if "source" in one}
    assert sources <= {*place.families("secure"), "127.0.0.1", "::1"}
    tell(f"https probes of a certificate that nobody vouches for: ready; dialled from outside of the pod: {said}")
    place.kubectl("delete", "pod", "secure", "unwell-secure", "--wait=false")


def test_hooks_run_for_the_kubelet_and_for_nobody_else(place: Place, tell: Tell) -> None:
    """A postStart hook is not tried again where nobody answers. Here the app listens by then, because a container
    starts only when the one before it has done its own.
    """
    headers = [{"name": "X-Author", "value": "says"}]
    lifecycle = {
        "postStart": {"exec": {"command": ["python3", "-c", AWAIT_APP]}},
        "preStop": http_get("/bye", TLS_PORT, scheme="HTTPS"),
    }
    pod = make_pod(NAMESPACE, "hooks", env=SECURE, lifecycle=lifecycle)
    after: dict[str, Any] = {
        "name": "after",
        "image": "localhost/apps:1",
        "imagePullPolicy": "Never",
        "command": ["sleep", "99999"],
    }
    after["lifecycle"] = {"postStart": http_get("/hello?from=hook", PORT, httpHeaders=headers)}
    pod["spec"]["containers"].append(after)
    # It is used up, because ``sleep`` ends for no signal: time enough for the hook, and for whoever reads the log.
    pod["spec"]["terminationGracePeriodSeconds"] = 10
    place.apply(pod)
    address = place.await_ready("hooks")
    place.await_protected(address)
    hooks = [APP_HOOK_PATH + name for name in ("after/poststart", f"{APP}/prestop")]
    strangers: list[tuple[tuple[str, str], ...]] = [(), ((HOOK_TOKEN_HEADER, "0" * 32),)]
    calls = [(f"{address}:{ADMIN_PORT}", HTTPCall("admin", path, shown)) for path in hooks for shown in strangers]
    assert [one.got.status for one in place.cluster.send(calls)] == [403] * len(calls)
    # A stranger who says that it is a kubelet is told no more; a real one must not take a refusal for a hook that ran.
    pretending = HTTPCall("admin", hooks[0], (("User-Agent", "kube-lifecycle/1.36"),))
    assert place.cluster.send([(f"{address}:{ADMIN_PORT}", pretending)])[0].got.status not in (200, 403)
    seen = list_seen(place, "hooks")
    assert [path for path, _ in seen if path.startswith(("/hello", "/bye"))] == ["/hello?from=hook"]
    records = place.cluster.log(NAMESPACE, "hooks", APP)
    told = next(dict(one["seen"][2]) for one in records if one.get("seen", ["", ""])[1] == "/hello?from=hook")
    assert told["x-author"] == "says"
    assert HOOK_TOKEN_HEADER.lower() not in told
    log = follow_to_the_end(place, "hooks")
    hooked = [one["seen"][1] for one in log if "seen" in one and one["seen"][1].startswith(("/hello", "/bye"))]
    assert hooked == ["/hello?from=hook", "/bye"]
    tell("hooks on a real kubelet: postStart over http and preStop over https ran once each; strangers were refused")


def follow_to_the_end(place: Place, pod: str) -> list[dict[str, Any]]:
    """Delete a pod; returns the app's records up to its very last."""
    text: list[str] = []
    reader = threading.Thread(target=lambda: text.append(place.kubectl("logs", "-f", pod, "-c", APP)), daemon=True)
    reader.start()
    time.sleep(0.5)
    place.kubectl("delete", "pod", pod)
    reader.join(60)
    assert text, "the log did not end with the pod"
    return [json.loads(line) for line in text[0].splitlines() if line.startswith("{")]


def test_the_secret_of_a_hook_is_told_to_nobody(place: Place) -> None:
    """Not by the sidecar's log, and not by what it serves; it stands where whoever may read pods reads it."""
    place.apply(make_pod(NAMESPACE, "quiet", lifecycle={"preStop": http_get("/bye")}))
    address = place.await_ready("quiet")
    spec = place.cluster.get("pod", "quiet", "-n", NAMESPACE)["spec"]
    hook = next(one["lifecycle"]["preStop"] for one in spec["containers"] if one["name"] == APP)
    token = next(one["value"] for one in hook["httpGet"]["httpHeaders"] if one["name"] == HOOK_TOKEN_HEADER)
    shown = place.kubectl("logs", "quiet", "-c", SIDECAR_CONTAINER)
    for path in ("/config", "/metrics", "/readyz", f"{APP_HOOK_PATH}{APP}/prestop"):
        shown += place.cluster.send([(f"{address}:{ADMIN_PORT}", HTTPCall("admin", path))])[0].got.body
    assert token not in shown
    place.kubectl("delete", "pod", "quiet", "--wait=false")
