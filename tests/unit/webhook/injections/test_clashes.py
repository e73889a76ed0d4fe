"""What a pod must not have beside the sidecar."""

from __future__ import annotations

from typing import Any

import pytest

from eastgate.pods import names
from tests.unit.webhook.injections.scenes import ENFORCED, inject, make_pod, patch_of, refuse


def app(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "app", **more}]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"containers": app(securityContext={"runAsUser": 19006})}, "spec.containers[0].securityContext.runAsUser"),
        ({"containers": app(securityContext={"runAsGroup": 19006})}, "spec.containers[0].securityContext.runAsGroup"),
        ({"initContainers": app(securityContext={"runAsUser": 19006}), "containers": [{"name": "b"}]}, "spec.initContainers[0]"),
        ({"ephemeralContainers": [{"name": "e", "securityContext": {"runAsUser": 19006}}]}, "spec.ephemeralContainers[0]"),
        ({"securityContext": {"runAsUser": 19006}}, "spec.securityContext.runAsUser"),
        ({"securityContext": {"runAsUser": 19006.0}}, "spec.securityContext.runAsUser"),
        ({"securityContext": {"runAsGroup": 19006}}, "spec.securityContext.runAsGroup"),
        ({"securityContext": {"fsGroup": 19006}}, "spec.securityContext.fsGroup"),
        ({"securityContext": {"supplementalGroups": [1, 19006]}}, "spec.securityContext.supplementalGroups[1]"),
    ],
)  # fmt: skip
def test_the_sidecars_user(spec: dict[str, Any], where: str) -> None:
    refusal = refuse(make_pod(**spec))
    assert refusal.reason == "reserved-id"
    assert refusal.messages[0].startswith(where)
    assert "`19006`" in refusal.messages[0]


@pytest.mark.parametrize("port", sorted(names.OWN_PORTS))
def test_the_sidecars_ports(port: int) -> None:
    refusal = refuse(make_pod(containers=app(ports=[{"containerPort": 80}, {"containerPort": port}])))
    assert refusal.reason == "port-clash"
    assert refusal.messages[0].startswith("spec.containers[0].ports[1].containerPort: ")
    inject(make_pod(containers=app(ports=[{"containerPort": port, "protocol": "UDP"}])))
    refusal = refuse(make_pod(containers=app(ports=[{"containerPort": 80, "name": "eastgate-admin"}])))
    assert refusal.reason == "name-clash"


@pytest.mark.parametrize("name", names.CONTAINERS)
@pytest.mark.parametrize("group", ["containers", "initContainers", "ephemeralContainers"])
def test_a_container_of_that_name(name: str, group: str) -> None:
    pod = make_pod()
    pod["spec"].setdefault(group, []).append({"name": name, "image": "evil:1", "restartPolicy": "Always"})
    refusal = refuse(pod)
    assert refusal.reason == "name-clash"
    assert name in refusal.messages[0]


@pytest.mark.parametrize("name", names.VOLUMES)
def test_a_volume_of_that_name(name: str) -> None:
    refusal = refuse(make_pod(volumes=[{"name": "data", "emptyDir": {}}, {"name": name, "hostPath": {"path": "/"}}]))
    assert refusal.reason == "name-clash"
    assert refusal.messages[0].startswith("spec.volumes[1]: ")
    assert refusal.paths == (("spec", "volumes", 1, "name"),)


def test_two_containers_of_one_name() -> None:
    refusal = refuse(make_pod(containers=app(), initContainers=app()))
    assert refusal.reason == "duplicate-name"
    assert "`app` is also the name of spec.initContainers[0]" in refusal.messages[0]


@pytest.mark.parametrize(
    "name", ["istio-init", "linkerd-init", "kuma-init", "istio-validation", "consul-connect-inject-init"]
)
def test_another_mesh_redirects(name: str) -> None:
    refusal = refuse(make_pod(initContainers=[{"name": name}]))
    assert refusal.reason == "other-mesh"
    assert name in refusal.messages[0]


def test_another_meshs_proxy_alone() -> None:
    injection = patch_of(make_pod(containers=[{"name": "istio-proxy"}]))
    assert "istio-proxy" in injection.warnings[0]


@pytest.mark.parametrize(
    ("security", "where"),
    [
        ({"privileged": True}, "securityContext.privileged: with `true`"),
        ({"capabilities": {"add": ["CHOWN", "NET_ADMIN"]}}, "securityContext.capabilities.add[1]: with `NET_ADMIN`"),
        ({"capabilities": {"add": ["cap_sys_admin"]}}, "securityContext.capabilities.add[0]: with `cap_sys_admin`"),
    ],
)
def test_rights_that_undo_redirection(security: dict[str, Any], where: str) -> None:
    pod = make_pod(containers=app(securityContext=security))
    (warning,) = patch_of(pod).warnings
    assert warning.startswith(f"spec.containers[0].{where}")
    refusal = refuse(pod, ENFORCED)
    assert refusal.reason == "power"
    assert refusal.messages[0].startswith(warning)


def test_rights_that_do_not() -> None:
    security = {"privileged": False, "capabilities": {"add": ["NET_RAW", "NET_BIND_SERVICE"], "drop": ["NET_ADMIN"]}}
    assert patch_of(make_pod(containers=app(securityContext=security))).warnings == ()


@pytest.mark.parametrize("name", names.VOLUMES)
def test_the_sidecars_volumes_are_its_own(name: str) -> None:
    refusal = refuse(make_pod(containers=app(volumeMounts=[{"name": name, "mountPath": "/x"}])))
    assert refusal.reason == "name-clash"
    assert refusal.messages[0].startswith("spec.containers[0].volumeMounts[0].name: ")
