"""Pods as the API server makes them of what a person applies, with the webhook in between, and without it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.environment import Environment, KubectlError
from tests.apiserver.programs import Program, await_true, install, running, start_webhook
from tests.apiserver.second_webhook import ADDED, render_configuration, run_second_webhook

SIDECAR, INIT = "eastgate-sidecar", "eastgate-init"


@pytest.fixture(scope="module")
def webhook(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Installed, running, and its CA is in the configurations."""
    install(environment)
    program = start_webhook(environment, tmp_path_factory.mktemp("webhook"))
    with running(program):
        await_true(lambda: has_bundle(environment), "the caBundle")
        yield program


def has_bundle(environment: Environment) -> bool:
    found = environment.get("mutatingwebhookconfiguration", "eastgate")
    return all(one["clientConfig"].get("caBundle") for one in found["webhooks"])  # type: ignore[attr-defined]


def make_pod(name: str, namespace: str, **metadata: Any) -> dict[str, Any]:
    """An application as people write it, for namespaces that ask for the restricted standard."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": name, **metadata.pop("labels", {})},
            "annotations": {"eastgate.dev/policies": "jwt-policy", **metadata.pop("annotations", {})},
            **metadata,
        },
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "migrate", "image": "app:1", "securityContext": dict(RESTRICTED)}],
            "containers": [
                {
                    "name": "app",
                    "image": "app:1",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 3},
                    "livenessProbe": {"tcpSocket": {"port": 8080}},
                    "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": "http"}}},
                    "securityContext": dict(RESTRICTED),
                }
            ],
        },
    }


RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def create(environment: Environment, pod: dict[str, Any], *arguments: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        environment.kubectl("create", "-f", "-", "-o", "json", *arguments, input=json.dumps(pod))
    )
    return made


def names(pod: dict[str, Any], kind: str) -> list[str]:
    return [one["name"] for one in pod["spec"].get(kind, ())]


def test_a_pod_is_injected_exactly_once(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-once", "enabled")
    pod = create(environment, make_pod("app", namespace))
    assert names(pod, "initContainers") == [INIT, SIDECAR, "migrate"]
    assert names(pod, "containers") == ["app"]
    app = pod["spec"]["containers"][0]
    assert app["readinessProbe"]["httpGet"]["path"] == "/app-probe/app/readyz"
    assert app["readinessProbe"]["httpGet"]["port"] == 19020
    assert app["readinessProbe"]["periodSeconds"] == 3
    assert app["livenessProbe"]["httpGet"]["path"] == "/app-probe/app/livez"
    assert json.loads(pod["metadata"]["annotations"]["eastgate.dev/status"])["version"]


def test_a_hook_has_the_token_of_its_pod(environment: Environment, webhook: Program) -> None:
    """Nobody but the kubelet is told; a pod that is copied with it keeps it."""
    namespace = environment.create_namespace("inject-hooks", "enabled")
    pod = create(environment, make_pod("app", namespace))
    hook = pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]
    assert (hook["path"], hook["port"]) == ("/app-hook/app/prestop", 19020)
    (header,) = hook["httpHeaders"]
    assert header["name"] == "Eastgate-Hook-Token"
    assert list_probes(pod)["app/prestop"]["token"] == header["value"]
    assert header["value"] not in json.dumps(pod["metadata"]["annotations"])
    copied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "copy", "namespace": namespace}}
    copied["metadata"] |= {"annotations": pod["metadata"]["annotations"]}  # type: ignore[operator]
    assert create(environment, {**copied, "spec": pod["spec"]})["spec"] == pod["spec"]
    # Of before there were tokens: it gets one as it is created.
    del hook["httpHeaders"]
    sidecar = next(one for one in pod["spec"]["initContainers"] if one["name"] == SIDECAR)
    variable = next(one for one in sidecar["env"] if one["name"] == "EASTGATE_APP_PROBES")
    table = json.loads(variable["value"])
    del table["app/prestop"]["token"]
    variable["value"] = json.dumps(table)
    copied["metadata"]["name"] = "old"  # type: ignore[index]
    old = create(environment, {**copied, "spec": pod["spec"]})
    (another,) = old["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["httpHeaders"]
    assert list_probes(old)["app/prestop"]["token"] == another["value"] != header["value"]


def list_probes(pod: dict[str, Any]) -> dict[str, Any]:
    sidecar = next(one for one in pod["spec"]["initContainers"] if one["name"] == SIDECAR)
    table: dict[str, Any] = json.loads(
        next(one["value"] for one in sidecar["env"] if one["name"] == "EASTGATE_APP_PROBES")
    )
    return table


def test_what_was_injected_offline_is_left_as_it_is(environment: Environment, webhook: Program, tmp_path: Path) -> None:
    namespace = environment.create_namespace("inject-offline", "enabled")
    (tmp_path / "pod.json").write_text(json.dumps(make_pod("app", namespace)))
    command = [sys.executable, "-m", "eastgate", "inject", "-f", str(tmp_path / "pod.json"), "-o", "json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    offline = json.loads(done.stdout)
    pod = create(environment, offline)
    hook = ("lifecycle", "preStop", "httpGet", "httpHeaders")
    apps = [one["spec"]["containers"][0] for one in (offline, pod)]
    for key in hook:
        apps = [one[key] for one in apps]
    assert apps[0] == apps[1]
    assert list_probes(pod) == list_probes(offline)


def test_a_pod_that_does_not_ask_is_left_alone(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-quiet", "enabled")
    pod = make_pod("app", namespace)
    del pod["metadata"]["annotations"]["eastgate.dev/policies"]
    assert SIDECAR not in names(create(environment, pod), "initContainers")
    elsewhere = environment.create_namespace("inject-elsewhere")
    assert SIDECAR not in names(create(environment, make_pod("app", elsewhere)), "initContainers")


@pytest.mark.parametrize("name", ["aaa-second", "zzz-second"])
def test_another_webhook_adds_a_container(
    environment: Environment, webhook: Program, tmp_path: Path, name: str
) -> None:
    namespace = environment.create_namespace(f"inject-{name}", "enabled", {"second": "on"})
    with run_second_webhook(tmp_path) as (url, bundle):
        environment.kubectl("apply", "-f", "-", input=json.dumps(render_configuration(name, url, bundle)))
        try:
            # The API server takes up a configuration a moment after it was written.
            trial = make_pod("trial", namespace)
            await_true(
                lambda: ADDED in names(create(environment, trial, "--dry-run=server"), "containers"),
                "the API server calls the second webhook",
            )
            pod = create(environment, make_pod("app", namespace))
        finally:
            environment.kubectl("delete", "mutatingwebhookconfiguration", name)
    assert names(pod, "containers") == [ADDED, "app"]
    assert names(pod, "initContainers") == [INIT, SIDECAR, "migrate"]
    probes = {one["name"]: one["readinessProbe"]["httpGet"] for one in pod["spec"]["containers"]}
    assert probes[ADDED]["path"] == f"/app-probe/{ADDED}/readyz"
    assert probes["app"]["path"] == "/app-probe/app/readyz"
    table = list_probes(pod)
    assert {f"{ADDED}/readyz", "app/readyz", "app/livez"} <= set(table)


def test_dry_run_changes_nothing(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-dry", "enabled")
    before = environment.get("events,pods,configmaps,secrets", "-A")["items"]
    pod = create(environment, make_pod("app", namespace), "--dry-run=server")
    assert SIDECAR in names(pod, "initContainers")
    time.sleep(0.3)
    assert environment.get("events,pods,configmaps,secrets", "-A")["items"] == before


def test_applying_the_same_again_changes_nothing(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-apply", "enabled")
    text = json.dumps(make_pod("app", namespace))
    apply = ("apply", "--server-side", "-f", "-", "-o", "json")
    first = json.loads(environment.kubectl(*apply, input=text))
    second = json.loads(environment.kubectl(*apply, input=text))
    assert SIDECAR in names(first, "initContainers")
    assert second == first
    # And what was read back, as people do who copy a running pod.
    read = environment.get("pod", "app", "-n", namespace)
    for key in ("managedFields", "creationTimestamp", "uid", "resourceVersion"):
        read["metadata"].pop(key, None)  # type: ignore[attr-defined]
    read.pop("status", None)
    third = json.loads(environment.kubectl(*apply, "--force-conflicts", input=json.dumps(read)))
    assert third["spec"] == first["spec"]
    assert third["metadata"]["uid"] == first["metadata"]["uid"]


def test_client_side_apply_of_the_same_again_changes_nothing(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-apply-client", "enabled")
    text = json.dumps(make_pod("app", namespace))
    environment.kubectl("apply", "-f", "-", input=text)
    first = environment.get("pod", "app", "-n", namespace)
    environment.kubectl("apply", "-f", "-", input=text)
    second = environment.get("pod", "app", "-n", namespace)
    assert second["spec"] == first["spec"]
    # A probe that really changes is the API server's business, as it is without Eastgate.
    changed = make_pod("app", namespace)
    changed["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/other"
    with pytest.raises(KubectlError, match="pod updates may not change fields"):
        environment.kubectl("apply", "-f", "-", input=json.dumps(changed))


def test_the_restricted_standard_minds_only_the_init_container(environment: Environment, webhook: Program) -> None:
    labels = {"pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "latest"}
    namespace = environment.create_namespace("inject-restricted", "enabled", labels)
    done = environment.try_kubectl("create", "-f", "-", input=json.dumps(make_pod("app", namespace)))
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "PodSecurity" in line]
    assert len(warnings) == 1
    assert INIT in warnings[0]
    assert SIDECAR not in warnings[0]
    assert '"app"' not in warnings[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"annotations": {"eastgate.dev/mode": "observe"}}, ["eastgate.dev/mode", "observe", "enforce", "audit"]),
        ({"annotations": {"eastgate.dev/opaque-ports": "80-70"}}, ["eastgate.dev/opaque-ports", "80-70"]),
        ({"annotations": {"eastgate.dev/polices": "a"}}, ["eastgate.dev/polices", "eastgate.dev/policies"]),
        ({"labels": {"eastgate.dev/inject": "no"}}, ["eastgate.dev/inject", "no", "false"]),
    ],
)
def test_a_bad_value_refuses_the_pod(
    environment: Environment, webhook: Program, change: dict[str, Any], expected: list[str]
) -> None:
    namespace = environment.create_namespace("inject-refused", "enabled")
    with pytest.raises(KubectlError) as refused:
        create(environment, make_pod("app", namespace, **change))
    for word in expected:
        assert word in refused.value.message


def test_a_clash_of_names_or_ids_is_refused(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-clash", "enabled")
    pod = make_pod("app", namespace)
    pod["spec"]["containers"][0]["securityContext"] = {**RESTRICTED, "runAsUser": 19006}
    with pytest.raises(KubectlError, match="19006"):
        create(environment, pod)
    pod = make_pod("app", namespace)
    pod["spec"]["containers"].append({"name": SIDECAR, "image": "evil:1", "securityContext": dict(RESTRICTED)})
    with pytest.raises(KubectlError, match=SIDECAR):
        create(environment, pod)


def test_what_kubectl_debug_may_do(environment: Environment, webhook: Program) -> None:
    """Anything but be the sidecar, or put something among its files."""
    namespace = environment.create_namespace("inject-debug", "enabled")
    create(environment, make_pod("app", namespace))

    def debug(name: str, **fields: Any) -> str:
        patch = json.dumps({"spec": {"ephemeralContainers": [{"name": name, "image": "debug:1", **fields}]}})
        done = environment.try_kubectl(
            *("patch", "pod", "app", "-n", namespace, "--subresource=ephemeralcontainers", "--type=strategic"),
            *("-p", patch),
        )
        return "" if done.returncode == 0 else done.stderr

    assert "`19006` is the sidecar's own" in debug("as-the-sidecar", securityContext={"runAsUser": 19006})
    mounts = [{"name": "eastgate-state", "mountPath": "/keys"}]
    assert "`eastgate-state` is a volume of the sidecar" in debug("among-its-files", volumeMounts=mounts)
    assert debug("plain", targetContainerName="app") == ""
    assert debug("network", securityContext={"capabilities": {"add": ["NET_ADMIN"]}}) == ""


def test_enforced_admits_nothing_without_a_sidecar(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("inject-enforced", "enforced")
    assert SIDECAR in names(create(environment, make_pod("app", namespace)), "initContainers")
    with pytest.raises(KubectlError, match=r"eastgate\.dev/inject"):
        create(environment, make_pod("out", namespace, labels={"eastgate.dev/inject": "false"}))
    pod = make_pod("host", namespace)
    pod["spec"]["hostNetwork"] = True
    with pytest.raises(KubectlError, match="hostNetwork"):
        create(environment, pod)


def test_nothing_gets_through_while_the_webhook_is_away(
    environment: Environment, webhook: Program, tmp_path: Path
) -> None:
    enabled = environment.create_namespace("away-enabled", "enabled")
    enforced = environment.create_namespace("away-enforced", "enforced")
    elsewhere = environment.create_namespace("away-elsewhere")
    for namespace in ("kube-system", "eastgate-system"):
        environment.create_account(namespace)
    webhook.kill()
    for namespace in (enabled, enforced):
        with pytest.raises(KubectlError, match=r"failed calling webhook"):
            create(environment, make_pod("app", namespace))
    for namespace in ("kube-system", "eastgate-system", elsewhere):
        create(environment, make_pod("app", namespace))
    # Again there, and nobody repaired anything by hand: asked until it answers, and never let through bare.
    with running(start_webhook(environment, tmp_path)):
        deadline = time.monotonic() + 45
        while True:
            done = environment.try_kubectl(
                "create", "-f", "-", "-o", "json", input=json.dumps(make_pod("app", enabled))
            )
            if done.returncode == 0:
                break
            assert "failed calling webhook" in done.stderr
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.2)
        assert SIDECAR in names(json.loads(done.stdout), "initContainers")
