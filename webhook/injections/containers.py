"""The two containers that a pod is given.

``eastgate-init`` puts the kernel's redirection in place and ends::

    eastgate sidecar redirect --proxy-port=19006 --admin-port=19020 --exempt-id=19006
        --include-inbound-ports=*|PORTS    what is intercepted; `*` is every TCP port
        --exclude-inbound-ports=PORTS      what is not; the ports of the sidecar itself always stand here

``eastgate-sidecar`` runs ``eastgate sidecar run``. As a native sidecar (KEP-753) it is an init container that runs on,
and its startup probe holds back everything after it. In classic mode it is the first container, and a ``postStart``
hook (``eastgate sidecar wait``: until ``/readyz`` says yes) holds back the others; its ``preStop`` hook (``eastgate
sidecar wait --idle``: until no request is in flight) lets it outlive them.

Both say everything themselves that a pod could say for all of its containers (user, group, seccomp), so that nothing of
the app's leaks in; capabilities are never copied from the app. Every value that the API server would default is
written out. Precedents: Istio's and Linkerd's injected containers; KEP-753; the Pod Security Standards.
"""

from __future__ import annotations

import functools
from typing import Any

from eastgate.pods import names
from eastgate.pods.annotations import LogLevel, Settings
from eastgate.pods.ports import PortSet
from webhook.injections.verdicts import Context
from webhook.injections.volumes import make_mounts

PROGRAM = "eastgate"
"""The images' entry point, and on their path: hooks name it, because they do not go through the entry point."""

STARTUP_SECONDS = 600
"""How long a sidecar may take to become ready before it is started again. Istio's figure."""

ADMIN_PORT_NAME = "eastgate-admin"
INBOUND_PORT_NAME = "eastgate-in"
"""Kubernetes allows 15 characters."""

_FIELDS = {
    "EASTGATE_POD_NAME": "metadata.name",
    "EASTGATE_POD_NAMESPACE": "metadata.namespace",
    "EASTGATE_POD_UID": "metadata.uid",
    "EASTGATE_POD_IP": "status.podIP",
    "EASTGATE_POD_IPS": "status.podIPs",
    "EASTGATE_POD_SERVICE_ACCOUNT": "spec.serviceAccountName",
    "EASTGATE_POD_NODE": "spec.nodeName",
}

_NO_RIGHTS: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


_KEPT = 256
"""Containers that are kept for the next pod with the same settings: pods come in replicas."""


def make_init(settings: Settings, context: Context) -> dict[str, Any]:
    """``eastgate-init``: root with the two capabilities that redirection takes, and nothing else. Many pods get the
    same dict: it is not to be changed.
    """
    return _make_init(settings, context.image, context.pull_policy)


@functools.lru_cache(_KEPT)
def _make_init(settings: Settings, image: str, pull_policy: str | None) -> dict[str, Any]:
    include = "*" if settings.include_ports is None else str(settings.include_ports)
    exclude = PortSet.of(names.OWN_PORTS) | settings.exclude_ports
    return {
        "name": names.INIT_CONTAINER,
        **_image(settings, image, pull_policy),
        "args": [
            "sidecar",
            "redirect",
            # Also what could be left to the default: a Service `eastgate-admin` would set EASTGATE_ADMIN_PORT.
            f"--proxy-port={names.INBOUND_PORT}",
            f"--admin-port={names.ADMIN_PORT}",
            f"--exempt-id={names.PROXY_ID}",
            f"--include-inbound-ports={include}",
            f"--exclude-inbound-ports={exclude}",
        ],
        # The legacy iptables keeps a lock file, by default under /run, which is read-only here.
        "env": [{"name": "XTABLES_LOCKFILE", "value": f"{names.TEMPORARY_MOUNT}/xtables.lock"}],
        "volumeMounts": [
            mount for mount in make_mounts() if mount["name"] in (names.STATE_VOLUME, names.TEMPORARY_VOLUME)
        ],
        "resources": settings.resources(),
        "securityContext": {
            **_NO_RIGHTS,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def make_sidecar(
    settings: Settings, context: Context, *, native: bool, app_probes: str, container_ports: str
) -> dict[str, Any]:
    """``eastgate-sidecar``, which Pod Security ``restricted`` accepts. The two texts go into its environment. All but
    that may be the same dicts for many pods, and is not to be changed.
    """
    container = _make_sidecar(settings, context.image, context.pull_policy, native)
    told = ((names.APP_PROBES_VARIABLE, app_probes), (names.CONTAINER_PORTS_VARIABLE, container_ports))
    # The API leaves out an empty value, and so must what comes back and is compared.
    told_variables = [{"name": name, "value": value} for name, value in told if value]
    fixed = container["env"]
    return {**container, "env": [*fixed[: len(_FIELDS)], *told_variables, *fixed[len(_FIELDS) :]]}


@functools.lru_cache(_KEPT)
def _make_sidecar(settings: Settings, image: str, pull_policy: str | None, native: bool) -> dict[str, Any]:
    return {
        "name": names.SIDECAR_CONTAINER,
        **_image(settings, image, pull_policy),
        **({"restartPolicy": "Always"} if native else {}),
        "args": ["sidecar", "run"],
        "env": _make_environment(settings),
        "ports": [
            {"name": INBOUND_PORT_NAME, "containerPort": names.INBOUND_PORT, "protocol": "TCP"},
            {"name": ADMIN_PORT_NAME, "containerPort": names.ADMIN_PORT, "protocol": "TCP"},
        ],
        "volumeMounts": make_mounts(),
        "resources": settings.resources(),
        "securityContext": {
            **_NO_RIGHTS,
            "capabilities": {"drop": ["ALL"]},
            "runAsUser": names.PROXY_ID,
            "runAsGroup": names.PROXY_ID,
            "runAsNonRoot": True,
        },
        "startupProbe": _probe("/readyz", period=1, timeout=1, failures=STARTUP_SECONDS),
        "readinessProbe": _probe("/readyz", period=5, timeout=3, failures=3),
        "livenessProbe": _probe("/healthz", period=10, timeout=5, failures=6),
        **({} if native else {"lifecycle": {"postStart": _run("wait"), "preStop": _run("wait", "--idle")}}),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _image(settings: Settings, image: str, pull_policy: str | None) -> dict[str, str]:
    policy = {} if pull_policy is None else {"imagePullPolicy": pull_policy}
    return {"image": settings.image or image, **policy}


def _make_environment(settings: Settings) -> list[dict[str, Any]]:
    """What the sidecar needs before it has read anything else."""
    values = {
        "EASTGATE_LOG_LEVEL": settings.log_level or str(LogLevel.INFO),
        "EASTGATE_OPAQUE_PORTS": str(settings.opaque_ports),
    }
    fields = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in _FIELDS.items()
    ]
    return [*fields, *({"name": name, "value": value} for name, value in values.items() if value)]


def _probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": names.ADMIN_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "successThreshold": 1,
        "failureThreshold": failures,
    }


def _run(*words: str) -> dict[str, Any]:
    return {"exec": {"command": [PROGRAM, "sidecar", *words]}}
