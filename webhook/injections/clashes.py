"""What a pod must not have beside the sidecar: its user, ports, names and volumes, or another mesh's redirection.

Redirection leaves alone what the sidecar's uid or gid sends, so nobody else in the pod may have them; a file that
belongs to the group can be made a program that runs with it, hence ``fsGroup`` and supplementary groups as well.
Rights with which a container could take the redirection away are another matter: many an app has them and means well.
Must not know: whether the pod is to be injected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eastgate.pods import names
from webhook.injections.containers import ADMIN_PORT_NAME, INBOUND_PORT_NAME
from webhook.injections.verdicts import Path, Problem
from webhook.injections.views import Container, PodView, is_tcp, map_of, maps_of, show_path

REDIRECTING = frozenset(
    {
        "istio-init",
        "istio-validation",
        "linkerd-init",
        "linkerd-network-validator",
        "kuma-init",
        "kuma-validation",
        "consul-connect-inject-init",
        "osm-init",
    }
)
"""Init containers of other meshes that redirect inbound traffic themselves, or check that a CNI plugin did."""

PROXIES = frozenset({"istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane"})
"""Their proxies, which alone (a gateway) redirect nothing."""

CAPABILITIES = frozenset({"ALL", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "BPF"})
"""Which flush rules, enter namespaces, or reach into another process. All of them are outside of Pod Security's
``baseline``."""

_IDS = ("runAsUser", "runAsGroup")
_POD_IDS = (*_IDS, "fsGroup")


def find_clashes(view: PodView) -> list[Problem]:
    """Every one. What bears the name of an injected container is judged by ``presence``."""
    others = [container for container in view.all_containers() if container.name not in names.CONTAINERS]
    return [
        *_judge_names(view),
        *_judge_pod_ids(map_of(view.spec.get("securityContext"))),
        *(problem for container in others for problem in _judge_container(container)),
    ]


def find_foreign_proxies(view: PodView) -> list[str]:
    """Warnings about proxies of other meshes that may be fine."""
    return [
        f"container `{container.name}` is another mesh's proxy: if that mesh also redirects inbound traffic (a CNI "
        "plugin), one of the two is bypassed"
        for container in view.all_containers()
        if container.name in PROXIES
    ]


def find_powers(view: PodView) -> list[Problem]:
    """What could take the redirection away: refused where no pod may be without a sidecar, else worth a warning."""
    found: dict[Path, str] = {}
    for container in view.all_containers():
        if container.name in names.CONTAINERS:
            continue
        security, path = map_of(container.data.get("securityContext")), (*container.path, "securityContext")
        if security.get("privileged") is True:
            found[*path, "privileged"] = "true"
        added = map_of(security.get("capabilities")).get("add")
        for index, one in enumerate(added if isinstance(added, list) else ()):
            # Runtimes read them in either case.
            if str(one).upper().removeprefix("CAP_") in CAPABILITIES:
                found[*path, "capabilities", "add", index] = str(one)
    return [
        Problem("power", f"{show_path(path)}: with `{value}` the sidecar's redirection can be taken away", path)
        for path, value in found.items()
    ]


def _judge_names(view: PodView) -> list[Problem]:
    problems = []
    seen: dict[str, Path] = {}
    for container in view.all_containers():
        path = (*container.path, "name")
        if not container.is_named:
            expected = "a name of at most 63 small letters, digits and `-`"
            problems.append(Problem("malformed", f"{show_path(path)}: expected {expected}", path))
        elif container.name in seen:
            message = (
                f"{show_path(path)}: `{container.name}` is also the name of {show_path(seen[container.name][:-1])}"
            )
            problems.append(Problem("duplicate-name", f"{message}; accepted: a name that no other container has", path))
        seen.setdefault(container.name, path)
    return problems


def _judge_pod_ids(security: Mapping[str, Any]) -> list[Problem]:
    path: Path = ("spec", "securityContext")
    problems = [_reserved((*path, field)) for field in _POD_IDS if _is_reserved(security.get(field))]
    groups = security.get("supplementalGroups")
    if isinstance(groups, list):
        problems += [
            _reserved((*path, "supplementalGroups", index)) for index, one in enumerate(groups) if _is_reserved(one)
        ]
    return problems


def _judge_container(container: Container) -> list[Problem]:
    security = map_of(container.data.get("securityContext"))
    problems = [
        _reserved((*container.path, "securityContext", field)) for field in _IDS if _is_reserved(security.get(field))
    ]
    for index, port in enumerate(maps_of(container.data.get("ports"))):
        problems += _judge_port((*container.path, "ports", index), port)
    for index, mount in enumerate(maps_of(container.data.get("volumeMounts"))):
        if mount.get("name") in names.VOLUMES:
            path = (*container.path, "volumeMounts", index, "name")
            message = f"{show_path(path)}: `{mount['name']}` is a volume of the sidecar; accepted: any other"
            problems.append(Problem("name-clash", message, path))
    if container.name in REDIRECTING:
        path = (*container.path, "name")
        message = (
            f"{show_path(path)}: `{container.name}` redirects inbound traffic to another mesh's proxy, and two such "
            "redirections bypass each other; accepted: a pod in one of the two meshes"
        )
        problems.append(Problem("other-mesh", message, path))
    return problems


def _judge_port(path: Path, port: Mapping[str, Any]) -> list[Problem]:
    problems = []
    number = port.get("containerPort")
    if isinstance(number, int | float) and number in names.OWN_PORTS and is_tcp(port):
        where = show_path((*path, "containerPort"))
        listed = ", ".join(str(one) for one in sorted(names.OWN_PORTS))
        message = f"{where}: `{int(number)}` is a port of the sidecar; accepted: any but {listed}"
        problems.append(Problem("port-clash", message, (*path, "containerPort")))
    if port.get("name") in (ADMIN_PORT_NAME, INBOUND_PORT_NAME):
        where = show_path((*path, "name"))
        message = f"{where}: `{port['name']}` is the name of a port of the sidecar; accepted: another name"
        problems.append(Problem("name-clash", message, (*path, "name")))
    return problems


def _is_reserved(number: object) -> bool:
    return isinstance(number, int | float) and number == names.PROXY_ID


def _reserved(path: Path) -> Problem:
    message = (
        f"{show_path(path)}: `{names.PROXY_ID}` is user and group of the sidecar, whose traffic is not intercepted; "
        "accepted: any other number"
    )
    return Problem("reserved-id", message, path)
