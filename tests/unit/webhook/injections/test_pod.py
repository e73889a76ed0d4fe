"""Whole pods: order, roots, status, warnings, and what it costs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from eastgate.pods import names
from tests.unit.webhook.injections.scenes import (
    CLASSIC,
    CONTEXT,
    apply_independently,
    container,
    inject,
    list_names,
    make_pod,
    patch_of,
    status_of,
)
from webhook.injections.patches import apply
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection
from webhook.injections.views import name_pod

INIT, SIDECAR = names.CONTAINERS


def user(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "migrate"}, *more]


def test_native() -> None:
    pod = inject(make_pod(initContainers=user()))
    assert list_names(pod, "initContainers") == [INIT, SIDECAR, "migrate"]
    assert list_names(pod, "containers") == ["app"]
    assert container(pod, SIDECAR)["restartPolicy"] == "Always"
    assert "restartPolicy" not in container(pod, INIT)


def test_classic() -> None:
    for pod in (
        inject(make_pod(initContainers=user()), CLASSIC),
        inject(make_pod({names.NATIVE_SIDECAR: "false"}, initContainers=user())),
    ):
        assert list_names(pod, "initContainers") == ["migrate", INIT]
        assert list_names(pod, "containers") == [SIDECAR, "app"]
        sidecar = container(pod, SIDECAR)
        assert "restartPolicy" not in sidecar
        assert sidecar["lifecycle"]["postStart"] == {"exec": {"command": ["eastgate", "sidecar", "wait"]}}
        assert sidecar["lifecycle"]["preStop"] == {"exec": {"command": ["eastgate", "sidecar", "wait", "--idle"]}}
    pod = inject(make_pod({names.NATIVE_SIDECAR: "true"}), CLASSIC)
    assert list_names(pod, "initContainers") == [INIT, SIDECAR]


@pytest.mark.parametrize("context", [CONTEXT, CLASSIC])
@pytest.mark.parametrize(
    "empty", [{}, {"initContainers": None, "volumes": None}, {"initContainers": [], "volumes": []}]
)
def test_lists_that_are_not_there(context: Context, empty: dict[str, Any]) -> None:
    pod = inject(make_pod(**empty), context)
    assert INIT in list_names(pod, "initContainers")
    assert tuple(list_names(pod, "volumes")) == names.VOLUMES
    assert apply(make_pod(**empty), patch_of(make_pod(**empty), context).patch) == pod


def test_roots_that_are_not_there() -> None:
    """Templates have no metadata, or none that says anything; policies are asked for, so only annotations can miss."""
    pod = make_pod()
    assert status_of(inject(pod))["version"] == "1.0.0"
    pod["metadata"]["annotations"][names.STATUS] = "{}"
    assert status_of(inject(pod))["version"] == "1.0.0"


def test_status_says_what_was_added() -> None:
    context = Context("shop", False, "eastgate-sidecar:1", None, ("regcred",), True, "1.2.3")
    pod = inject(make_pod({"kubectl.kubernetes.io/default-container": "app"}), context)
    assert status_of(pod) == {
        "version": "1.2.3",
        "initContainers": [INIT, SIDECAR],
        "containers": [],
        "volumes": list(names.VOLUMES),
        "imagePullSecrets": ["regcred"],
        "annotations": [
            "kubectl.kubernetes.io/default-logs-container",
            "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes",
        ],
    }
    assert status_of(inject(make_pod(), CLASSIC))["containers"] == [SIDECAR]


def test_annotations_for_other_tools() -> None:
    pod = inject(make_pod(containers=[{"name": "first"}, {"name": "second"}]), CLASSIC)
    found = pod["metadata"]["annotations"]
    assert found["kubectl.kubernetes.io/default-container"] == "first"
    assert found["kubectl.kubernetes.io/default-logs-container"] == "first"
    assert found["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"] == "eastgate-state,eastgate-tmp"
    pod = inject(make_pod({"kubectl.kubernetes.io/default-container": "app"}))
    assert pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "app"


@pytest.mark.parametrize(
    ("pod", "context", "parts"),
    [
        (make_pod(containers=[{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 9, "protocol": "SCTP"}]}]), CONTEXT, ["53/UDP, 9/SCTP", "only TCP"]),
        (make_pod(containers=[{"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}]}]), CONTEXT, ["8080", "node"]),
        (make_pod(resources={"limits": {"cpu": "1"}}), CONTEXT, ["spec.resources"]),
        (make_pod(restartPolicy="Never"), CLASSIC, ["POST /quit", "19020"]),
    ],
)  # fmt: skip
def test_warnings(pod: dict[str, Any], context: Context, parts: list[str]) -> None:
    (warning,) = patch_of(pod, context).warnings
    assert all(part in warning for part in parts)


def test_no_warnings() -> None:
    assert (
        patch_of(make_pod(restartPolicy="Never", shareProcessNamespace=True, hostUsers=False, hostPID=True)).warnings
        == ()
    )
    assert patch_of(make_pod(restartPolicy="Always"), CLASSIC).warnings == ()


def test_names_for_messages() -> None:
    assert name_pod({"metadata": {"name": "a", "namespace": "elsewhere"}}, CONTEXT) == "shop/a"
    assert name_pod({"metadata": {"generateName": "a-7d-"}}, CONTEXT) == "shop/a-7d-*"
    assert name_pod({"metadata": {"name": "", "generateName": "a-"}}, CONTEXT) == "shop/a-*"
    assert name_pod({}, CONTEXT) == "shop/?"


def test_a_pod_with_2000_variables() -> None:
    """Istio's own benchmark pod. The bound is ten times what it takes, for machines that do other things as well."""
    pod = make_pod()
    pod["spec"]["containers"][0] |= {
        "env": [{"name": f"VARIABLE_{number}", "value": "x" * 30} for number in range(2000)],
        "readinessProbe": {"httpGet": {"port": "http"}},
    }
    injection = patch_of(pod)
    assert len(json.dumps(injection.patch)) < 20_000
    small = patch_of({**pod, "spec": {"containers": [{**pod["spec"]["containers"][0], "env": []}]}})
    assert small.patch == injection.patch
    injected = apply_independently(pod, injection.patch)
    for one in (pod, injected):
        started = time.process_time()
        for _ in range(50):
            assert isinstance(inject_pod(one, CONTEXT, str), Injection)
        assert (time.process_time() - started) / 50 < 0.003
