"""The second call: nothing left to do, another webhook's additions, and what only looks injected."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from eastgate.pods import names
from tests.unit.webhook.injections.scenes import (
    CLASSIC,
    CONTEXT,
    container,
    environment,
    inject,
    list_names,
    make_pod,
    patch_of,
    probes_of,
    refuse,
)
from webhook.injections.verdicts import Context

INIT, SIDECAR = names.CONTAINERS

GET = {"httpGet": {"port": 8080, "path": "/"}}
LATE = {
    "name": "late",
    "ports": [{"name": "late", "containerPort": 7777}],
    "readinessProbe": {"tcpSocket": {"port": "late"}},
}


def injected(context: Context = CONTEXT, **spec: Any) -> dict[str, Any]:
    pod = make_pod(**spec)
    pod["spec"]["containers"][0]["readinessProbe"] = GET
    return inject(pod, context)


@pytest.mark.parametrize("first", [CONTEXT, CLASSIC])
@pytest.mark.parametrize("second", [CONTEXT, CLASSIC])
def test_nothing_left_to_do(first: Context, second: Context) -> None:
    """Also where the two calls disagree about the form: an offline injection for an older cluster stays what it is."""
    pod = injected(first, initContainers=[{"name": "migrate"}])
    assert patch_of(pod, second).patch == ()


@pytest.mark.parametrize("context", [CONTEXT, CLASSIC])
@pytest.mark.parametrize("place", [0, 1])
def test_another_webhook_adds_a_container(context: Context, place: int) -> None:
    pod = injected(context)
    pod["spec"]["containers"].insert(place, copy.deepcopy(LATE))
    before = copy.deepcopy(pod)
    injection = patch_of(pod, context)
    group = "initContainers" if context.native else "containers"
    index = list_names(pod, group).index(SIDECAR)
    late = list_names(pod, "containers").index("late")
    assert [operation["path"] for operation in injection.patch] == [
        f"/spec/containers/{late}/readinessProbe",
        f"/spec/{group}/{index}/env/7/value",
        f"/spec/{group}/{index}/env/8/value",
    ]
    again = inject(pod, context)
    assert set(probes_of(again)) == {"app/readyz", "late/readyz"}
    assert probes_of(again)["app/readyz"] == probes_of(before)["app/readyz"]
    assert environment(again)[names.CONTAINER_PORTS_VARIABLE] in ("http=8080,late=7777", "late=7777,http=8080")
    assert patch_of(again, context).patch == ()


def test_the_first_named_port() -> None:
    pod = inject(make_pod(containers=[{"name": "app"}]))
    assert names.CONTAINER_PORTS_VARIABLE not in environment(pod)
    pod["spec"]["containers"].append(copy.deepcopy(LATE))
    again = inject(pod)
    assert environment(again)[names.CONTAINER_PORTS_VARIABLE] == "late=7777"
    assert patch_of(again).patch == ()


def test_another_webhook_adds_an_init_container() -> None:
    pod = injected()
    early = {"name": "early", "restartPolicy": "Always", "startupProbe": GET, "readinessProbe": GET}
    pod["spec"]["initContainers"].insert(0, early)
    pod["spec"]["initContainers"].append({**LATE, "restartPolicy": "Always", "startupProbe": GET})
    injection = patch_of(pod)
    again = inject(pod)
    assert list_names(again, "initContainers") == ["early", INIT, SIDECAR, "late"]
    assert set(probes_of(again)) == {"app/readyz", "early/readyz", "late/readyz", "late/startupz"}
    assert [
        warning for warning in injection.warnings if "spec.initContainers[0].startupProbe is left as it is" in warning
    ]
    assert [warning for warning in injection.warnings if "`early` starts before the sidecar" in warning]
    assert len(injection.warnings) == 2


def test_disorder_in_classic_mode() -> None:
    pod = injected(CLASSIC)
    pod["spec"]["initContainers"].append({"name": "later"})
    pod["spec"]["containers"].insert(0, {"name": "first"})
    warnings = patch_of(pod, CLASSIC).warnings
    assert "`later` runs while nothing can reach it" in warnings[0]
    assert "`first` does not wait" in warnings[1]


def test_another_webhook_takes_a_probe_back() -> None:
    pod = injected()
    container(pod, "app")["readinessProbe"] = {"httpGet": {"port": 8080, "path": "/other"}}
    again = inject(pod)
    assert probes_of(again)["app/readyz"]["path"] == "/other"
    assert container(again, "app")["readinessProbe"]["httpGet"]["port"] == 19020


def test_another_webhook_removes_things() -> None:
    pod = injected()
    pod["spec"]["volumes"] = [volume for volume in pod["spec"]["volumes"] if volume["name"] != names.TEMPORARY_VOLUME]
    del pod["metadata"]["annotations"][names.STATUS]
    again = inject(pod)
    assert list_names(again, "volumes")[-1] == names.TEMPORARY_VOLUME
    assert names.STATUS in again["metadata"]["annotations"]


def change(name: str, action: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    return lambda pod: (action(container(pod, name)), None)[1]


def mount(path: str) -> Callable[[dict[str, Any]], object]:
    return lambda one: one["volumeMounts"].append({"name": "x", "mountPath": path})


def variable(name: str, value: str = "x") -> Callable[[dict[str, Any]], object]:
    return lambda one: one["env"].append({"name": name, "value": value})


ACCEPTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "another registry": change(
        SIDECAR, lambda one: one.update(image="mirror.local/x/eastgate-sidecar@sha256:" + "0" * 64)
    ),
    "another version": change(SIDECAR, lambda one: one.update(image="registry.example.com/eastgate-sidecar:0.9.0")),
    "pull policy": change(SIDECAR, lambda one: one.update(imagePullPolicy="Always")),
    "variables": change(SIDECAR, variable("HTTPS_PROXY")),
    "role of a cloud": change(SIDECAR, variable("AWS_ROLE_ARN")),
    "default token": change(SIDECAR, mount("/var/run/secrets/kubernetes.io/serviceaccount")),
    "certificates": change(SIDECAR, mount("/etc/ssl/certs")),
    "amounts": change(SIDECAR, lambda one: one.update(resources={"requests": {"cpu": "25m", "memory": "300Mi"}})),
    "field of tomorrow": change(INIT, lambda one: one.update(ofTomorrow="Default")),
    "default of tomorrow": change(SIDECAR, lambda one: one["securityContext"].update(procMount="Default")),
    "volume field of tomorrow": lambda pod: pod["spec"]["volumes"][0]["configMap"].update(ofTomorrow=True),
}


@pytest.mark.parametrize("action", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_others_may_do(action: Callable[[dict[str, Any]], None]) -> None:
    pod = injected()
    action(pod)
    assert patch_of(pod).patch == ()


IMPOSTORS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another image": change(SIDECAR, lambda one: one.update(image="busybox")),
    "another image of the init container": change(INIT, lambda one: one.update(image="busybox")),
    "command": change(SIDECAR, lambda one: one.update(command=["sleep", "1d"])),
    "arguments": change(SIDECAR, lambda one: one.update(args=["--help"])),
    "arguments of the init container": change(INIT, lambda one: one["args"].append("--exclude-inbound-ports=1-65535")),
    "no init": lambda pod: pod["spec"]["initContainers"].pop(0),
    "no sidecar": lambda pod: pod["spec"]["initContainers"].pop(1),
    "order": lambda pod: pod["spec"]["initContainers"].reverse(),
    "not restartable": change(SIDECAR, lambda one: one.pop("restartPolicy")),
    "restartable init": change(INIT, lambda one: one.update(restartPolicy="Always")),
    "root": change(SIDECAR, lambda one: one["securityContext"].update(runAsUser=0)),
    "privileged": change(SIDECAR, lambda one: one["securityContext"].update(privileged=True)),
    "capabilities": change(SIDECAR, lambda one: one["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
    "no requests": change(SIDECAR, lambda one: one.update(resources={})),
    "variable of ours": change(SIDECAR, variable("EASTGATE_MODE", "audit")),
    "loader": change(SIDECAR, variable("LD_PRELOAD")),
    "python": change(SIDECAR, variable("PYTHONPATH")),
    "completion instead of redirection": change(INIT, variable("_EASTGATE_COMPLETE", "source_bash")),
    "library's settings": change(SIDECAR, variable("OPENSSL_CONF")),
    "ports from elsewhere": change(
        SIDECAR,
        lambda one: one["env"].append({"name": names.CONTAINER_PORTS_VARIABLE, "valueFrom": {"configMapKeyRef": {}}}),
    ),
    "variable twice": change(SIDECAR, variable(names.APP_PROBES_VARIABLE, "{}")),
    "variable changed": change(
        SIDECAR, lambda one: one["env"][0]["valueFrom"]["fieldRef"].update(fieldPath="spec.nodeName")
    ),
    "variables from": change(SIDECAR, lambda one: one.update(envFrom=[{"configMapRef": {"name": "x"}}])),
    "mount over the bundle": change(SIDECAR, mount("/var/run/eastgate/bundle/x")),
    "mount above the bundle": change(SIDECAR, mount("/run")),
    "mount over the program": change(SIDECAR, mount("/usr/lib/python3")),
    "mount for the loader": change(INIT, mount("/etc/ld.so.preload")),
    "mount above the loader's": change(SIDECAR, mount("/etc")),
    "mount over everything": change(SIDECAR, mount("/")),
    "part of a volume": change(SIDECAR, lambda one: one["volumeMounts"][0].update(subPath="x")),
    "no mount": change(SIDECAR, lambda one: one["volumeMounts"].pop(0)),
    "no readiness": change(SIDECAR, lambda one: one.pop("readinessProbe")),
    "other readiness": change(SIDECAR, lambda one: one["readinessProbe"]["httpGet"].update(path="/metrics")),
    "late readiness": change(SIDECAR, lambda one: one["readinessProbe"].update(initialDelaySeconds=600)),
    "hook": change(SIDECAR, lambda one: one.update(lifecycle={"postStart": {"exec": {"command": ["x"]}}})),
    "optional bundle": lambda pod: pod["spec"]["volumes"][0]["configMap"].update(optional=True),
    "other files of the bundle": lambda pod: pod["spec"]["volumes"][0]["configMap"].update(items=[{"key": "a"}]),
    "another bundle": lambda pod: pod["spec"]["volumes"][0]["configMap"].update(name="mine"),
    "no table": change(SIDECAR, lambda one: one["env"][7].update(value="{")),
    "volume twice": lambda pod: pod["spec"]["volumes"].append(dict(pod["spec"]["volumes"][0])),
    "port on the node": change(SIDECAR, lambda one: one["ports"][1].update(hostPort=19020)),
}


@pytest.mark.parametrize("action", IMPOSTORS.values(), ids=IMPOSTORS.keys())
def test_what_only_looks_injected(action: Callable[[dict[str, Any]], object]) -> None:
    pod = injected()
    action(pod)
    refusal = refuse(pod)
    assert refusal.reason == "name-clash"
    assert "accepted: " in refusal.messages[0]


def test_an_entry_that_is_missing_in_the_table() -> None:
    pod = injected()
    container(pod, SIDECAR)["env"][7]["value"] = "{}"
    assert refuse(pod).reason == "name-clash"


def test_other_settings_than_at_the_first_call() -> None:
    """Annotations that were changed between the calls, after the containers were made for the old ones."""
    pod = injected()
    pod["metadata"]["annotations"][names.EXCLUDE_INBOUND_PORTS] = "8080"
    assert "`args` differs" in refuse(pod).messages[0]
