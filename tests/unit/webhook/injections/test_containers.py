"""What the injected containers are like: the Pod Security Standards, resources, variables, mounts."""

from __future__ import annotations

from typing import Any

import pytest

from eastgate.pods import names
from eastgate.pods.annotations import read_settings
from eastgate.pods.quantities import read_cpu, read_memory
from tests.unit.webhook.injections.scenes import CLASSIC, CONTEXT, container, environment, inject, make_pod, refuse
from webhook.injections.verdicts import Context
from webhook.injections.volumes import make_mounts, make_volumes

RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""Pod Security Standards, restricted: volume types."""


def find_violations(one: dict[str, Any]) -> list[str]:
    """The controls of ``restricted`` that a container violates whose pod says nothing itself (Kubernetes 1.36)."""
    security = one.get("securityContext", {})
    found = []
    if security.get("privileged"):
        found.append("privileged")
    if security.get("allowPrivilegeEscalation") is not False:
        found.append("allowPrivilegeEscalation")
    if security.get("runAsNonRoot") is not True:
        found.append("runAsNonRoot")
    if security.get("runAsUser") == 0:
        found.append("runAsUser")
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("seccompProfile")
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add", []):
        found.append("capabilities")
    handlers = [one.get(probe, {}) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += one.get("lifecycle", {}).values()
    if any(kind.get("host") for handler in handlers for kind in handler.values() if isinstance(kind, dict)):
        found.append("host")
    if any(port.get("hostPort") for port in one.get("ports", ())):
        found.append("hostPort")
    return found


@pytest.mark.parametrize("context", [CONTEXT, CLASSIC])
def test_restricted_minds_only_the_init_container(context: Context) -> None:
    pod = inject(make_pod(), context)
    assert find_violations(container(pod, names.SIDECAR_CONTAINER)) == []
    assert find_violations(container(pod, names.INIT_CONTAINER)) == ["runAsNonRoot", "runAsUser", "capabilities"]
    for volume in make_volumes():
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES


def test_nothing_of_the_pods_leaks_in() -> None:
    security = {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "runAsNonRoot": True,
        "fsGroup": 7,
        "seccompProfile": {"type": "Unconfined"},
    }
    app = {"name": "app", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}, "privileged": True}}
    pod = inject(make_pod(securityContext=security, containers=[app], automountServiceAccountToken=False))
    assert pod["spec"]["securityContext"] == security
    for name, user in ((names.INIT_CONTAINER, 0), (names.SIDECAR_CONTAINER, 19006)):
        own = container(pod, name)["securityContext"]
        assert own["runAsUser"] == own["runAsGroup"] == user
        assert own["runAsNonRoot"] is (user != 0)
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own["readOnlyRootFilesystem"] is True
        assert "SYS_ADMIN" not in str(own)
    assert container(pod, names.INIT_CONTAINER)["securityContext"]["capabilities"] == {
        "add": ["NET_ADMIN", "NET_RAW"],
        "drop": ["ALL"],
    }


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
        (
            {names.CPU_REQUEST: "50m", names.MEMORY_LIMIT: "200Mi"},
            {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "200Mi"}},
        ),
    ],
)
def test_resources(annotations: dict[str, str], expected: dict[str, Any]) -> None:
    pod = inject(make_pod(annotations))
    for name in names.CONTAINERS:
        found = container(pod, name)["resources"]
        assert found == expected
        assert read_cpu(found["requests"]["cpu"]) <= read_cpu(found["limits"]["cpu"])
        assert read_memory(found["requests"]["memory"]) <= read_memory(found["limits"]["memory"])


def test_redirection() -> None:
    plain = container(inject(make_pod()), names.INIT_CONTAINER)["args"]
    assert plain == [
        "sidecar",
        "redirect",
        "--proxy-port=19006",
        "--admin-port=19020",
        "--exempt-id=19006",
        "--include-inbound-ports=*",
        "--exclude-inbound-ports=19001,19006,19020",
    ]
    ports = {names.INCLUDE_INBOUND_PORTS: "8080,9000-9010", names.EXCLUDE_INBOUND_PORTS: "9090"}
    chosen = container(inject(make_pod(ports)), names.INIT_CONTAINER)["args"]
    assert chosen[-2:] == ["--include-inbound-ports=8080,9000-9010", "--exclude-inbound-ports=9090,19001,19006,19020"]


def test_environment() -> None:
    app = {
        "name": "app",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
    }
    other = {
        "name": "b",
        "ports": [{"name": "http", "containerPort": 1}, {"containerPort": 2}, {"name": "grpc", "containerPort": 9090}],
    }
    inits = [
        {"name": "log", "restartPolicy": "Always", "ports": [{"name": "logs", "containerPort": 24}]},
        {"name": "once", "ports": [{"name": "never", "containerPort": 25}]},
    ]
    pod = inject(
        make_pod(
            {names.LOG_LEVEL: "debug", names.OPAQUE_PORTS: "3306,33060-33062"},
            containers=[app, other],
            initContainers=inits,
        )
    )
    found = environment(pod)
    assert found[names.CONTAINER_PORTS_VARIABLE] == "http=8080,grpc=9090,logs=24"
    assert found["EASTGATE_LOG_LEVEL"] == "debug"
    assert found["EASTGATE_OPAQUE_PORTS"] == "3306,33060-33062"
    assert found[names.APP_PROBES_VARIABLE] == "{}"
    fields = {
        one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in container(pod, names.SIDECAR_CONTAINER)["env"]
        if "valueFrom" in one
    }
    assert fields == {
        "EASTGATE_POD_NAME": "metadata.name",
        "EASTGATE_POD_NAMESPACE": "metadata.namespace",
        "EASTGATE_POD_UID": "metadata.uid",
        "EASTGATE_POD_IP": "status.podIP",
        "EASTGATE_POD_IPS": "status.podIPs",
        "EASTGATE_POD_SERVICE_ACCOUNT": "spec.serviceAccountName",
        "EASTGATE_POD_NODE": "spec.nodeName",
    }


def test_more_named_ports_than_a_program_starts_with() -> None:
    """Linux takes a variable of 128 KiB, name included. Names of ports have at most 15 characters."""

    def make(number: int) -> dict[str, Any]:
        ports = [{"name": f"p{one:014}", "containerPort": 10000 + one} for one in range(number)]
        return {"name": "app", "ports": ports}

    most = (names.MAX_VARIABLE_BYTES + 1) // 22
    value = environment(inject(make_pod(containers=[make(most)])))[names.CONTAINER_PORTS_VARIABLE]
    assert 127 * 1024 - 22 < len(value) <= 127 * 1024
    late = inject(make_pod())
    late["spec"]["containers"].append({**make(most + 1), "name": "late"})
    for pod in (make_pod(containers=[make(most + 1)]), late):
        refusal = refuse(pod)
        assert refusal.reason == "too-many-ports"
        assert "named ports" in refusal.messages[0]
        assert "accepted: at most 130048 bytes" in refusal.messages[0]


def test_more_probes_than_a_program_starts_with() -> None:
    path = "/" + "x" * 127 * 1024
    refusal = refuse(make_pod(containers=[{"name": "a", "readinessProbe": {"httpGet": {"port": 80, "path": path}}}]))
    assert refusal.reason == "too-many-probes"
    assert "1 probes and hooks" in refusal.messages[0]
    assert names.REWRITE_PROBES in refusal.messages[0]
    assert "EASTGATE_OPAQUE_PORTS" not in environment(inject(make_pod()))


def test_probes_and_ports() -> None:
    sidecar = container(inject(make_pod()), names.SIDECAR_CONTAINER)
    startup, readiness, liveness = (sidecar[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert startup["httpGet"] == readiness["httpGet"] == {"path": "/readyz", "port": 19020, "scheme": "HTTP"}
    assert (startup["periodSeconds"], startup["failureThreshold"]) == (1, 600)
    assert liveness["httpGet"]["path"] == "/healthz"
    assert {port["containerPort"]: port["name"] for port in sidecar["ports"]} == {
        19006: "eastgate-in",
        19020: "eastgate-admin",
    }
    assert all(len(port["name"]) <= 15 for port in sidecar["ports"])
    assert "lifecycle" not in sidecar


def test_every_volume_is_there_and_mounted() -> None:
    volumes = {volume["name"]: volume for volume in make_volumes()}
    assert tuple(volumes) == names.VOLUMES == tuple(mount["name"] for mount in make_mounts())
    assert "optional" not in volumes[names.BUNDLE_VOLUME]["configMap"]
    sources = volumes[names.SHARDS_VOLUME]["projected"]["sources"]
    assert [next(iter(source.values()))["name"] for source in sources] == [
        *(f"eastgate-bundle-{number}" for number in range(1, 8)),
        "eastgate-bundle",
    ]
    assert all(next(iter(source.values()))["optional"] for source in sources)
    assert [next(iter(source.values()))["items"][0]["path"] for source in sources] == [
        *(f"{number}/policies.jsonl.gz" for number in range(1, 8)),
        "secrets/secrets.jsonl.gz",
    ]
    token = volumes[names.TOKEN_VOLUME]["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"audience": "eastgate.dev", "expirationSeconds": 3600, "path": "token"}
    assert all(volumes[name]["emptyDir"]["sizeLimit"] for name in (names.STATE_VOLUME, names.TEMPORARY_VOLUME))
    # The sidecar is neither root nor in the files' group.
    assert all(
        kind.get("defaultMode", 0o644) & 0o004
        for volume in volumes.values()
        for kind in volume.values()
        if isinstance(kind, dict)
    )


def test_image_and_pull() -> None:
    context = Context("shop", False, "r/eastgate-sidecar:2", "Always", ("regcred", "mine", "regcred"), True, "2")
    pod = inject(make_pod(imagePullSecrets=[{"name": "mine"}]), context)
    assert pod["spec"]["imagePullSecrets"] == [{"name": "mine"}, {"name": "regcred"}]
    assert all(container(pod, name)["imagePullPolicy"] == "Always" for name in names.CONTAINERS)
    pod = inject(make_pod({names.PROXY_IMAGE: "x/y:3"}), context)
    assert all(container(pod, name)["image"] == "x/y:3" for name in names.CONTAINERS)
    assert inject(make_pod(), context)["spec"]["imagePullSecrets"] == [{"name": "regcred"}, {"name": "mine"}]


def test_the_settings_are_those_that_the_sidecar_reads() -> None:
    pod = inject(make_pod({names.OPAQUE_PORTS: "3306"}))
    settings, faults = read_settings(pod["metadata"]["annotations"])
    assert faults == ()
    assert settings.policies == ("*",)
