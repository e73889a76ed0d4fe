"""One pod: skipped, refused, or given a patch. The order of things, and nothing else.

Native: ``initContainers`` begin with ``eastgate-init`` and ``eastgate-sidecar``, so that the user's own are behind the
sidecar already. Classic: the user's init containers run first, while the network is as it was, ``eastgate-init`` is the
last of them, and ``eastgate-sidecar`` the first container. A pod that has been injected stays in the mode that it has;
another webhook's containers get their probes rewritten, and what must stand before ours cannot be moved: ``add`` moves
nothing, so that is a warning.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from eastgate.pods import names, probes
from eastgate.pods.annotations import Settings
from webhook.injections.clashes import find_clashes, find_foreign_proxies, find_powers
from webhook.injections.containers import make_init, make_sidecar
from webhook.injections.handlers import Rewriting, list_ports, rewrite_handlers
from webhook.injections.patches import Operation, add
from webhook.injections.presence import Presence, find_presence
from webhook.injections.selection import select
from webhook.injections.verdicts import Added, Context, Injection, Problem, Refusal, Skip
from webhook.injections.views import (
    CONTAINERS,
    INIT_CONTAINERS,
    Container,
    MalformedError,
    PodView,
    is_tcp,
    map_of,
    maps_of,
    read_view,
)
from webhook.injections.volumes import make_volumes

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
DEFAULT_LOGS_CONTAINER = "kubectl.kubernetes.io/default-logs-container"
EVICTABLE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
"""A node with a pod that has an emptyDir is not scaled down unless the pod says that the volume does not matter."""


def inject_pod(
    pod: Mapping[str, object], context: Context, make_token: Callable[[], str]
) -> Injection | Skip | Refusal:
    """What becomes of a pod. The pod itself is not changed. ``make_token`` is asked for a secret where the pod has
    hooks and none yet.
    """
    try:
        view = read_view(pod)
    except MalformedError as error:
        return Refusal.of([error.problem])
    chosen = select(view, context)
    if isinstance(chosen, Skip):
        return chosen
    settings, problems = chosen
    presence, volumes, clashes = find_presence(view, settings, context)
    ours = () if presence is None else (presence.init, presence.sidecar)
    powers = find_powers(view)
    problems += [*clashes, *find_clashes(view), *(_refuse_powers(powers) if context.enforced else ())]
    if problems:
        return Refusal.of(problems)
    native = presence.native if presence is not None else _is_native(settings, context)
    containers = [one for one in (*view.init_containers, *view.containers) if one not in ours]
    rewriting = rewrite_handlers(
        view,
        containers,
        settings,
        {} if presence is None else presence.table,
        lambda container: _is_early(container, presence, native),
        make_token,
    )
    table, ports = probes.to_json(rewriting.table), list_ports(containers)
    problems += [*rewriting.problems, *_judge_table(rewriting, table), *_judge_ports(ports)]
    if problems:
        return Refusal.of(problems)
    missing = [volume for volume in make_volumes() if volume["name"] not in volumes]
    annotations = _list_annotations(view, containers)
    added = Added(
        init_containers=() if presence else names.CONTAINERS if native else (names.INIT_CONTAINER,),
        containers=() if presence or native else (names.SIDECAR_CONTAINER,),
        volumes=tuple(volume["name"] for volume in missing),
        pull_secrets=_list_missing_secrets(view, context),
        annotations=tuple(annotations),
    )
    if presence is None or names.STATUS not in view.annotations:
        # A status on a pod without our containers came with a copied manifest: it is replaced.
        annotations[names.STATUS] = _make_status(added, context.version)
    operations = [
        *rewriting.operations,
        *_update_variables(presence, table, ports),
        *_add_annotations(view, annotations),
        *_append(view, "imagePullSecrets", [{"name": name} for name in added.pull_secrets]),
        *_append(view, "volumes", missing),
    ]
    if presence is None:
        operations += _add_containers(view, settings, context, table, ports, native=native)
    warnings = [*rewriting.warnings, *find_foreign_proxies(view), *_list_warnings(view, containers, presence, native)]
    warnings += [power.message for power in powers]
    return Injection(tuple(operations), tuple(warnings), added)


def _judge_table(rewriting: Rewriting, table: str) -> list[Problem]:
    """A table that the sidecar could not read, or not even be started with."""
    if len(table) <= probes.MAX_TABLE_BYTES and len(rewriting.table) <= probes.MAX_PROBES:
        return []
    message = (
        f"spec: {len(rewriting.table)} probes and hooks, which are {len(table)} bytes; accepted: at most "
        f"{probes.MAX_PROBES}, of {probes.MAX_TABLE_BYTES} bytes, which fit in a variable of the sidecar "
        f'(`{names.REWRITE_PROBES}: "false"` leaves them as they are)'
    )
    return [Problem("too-many-probes", message, ("spec",))]


def _judge_ports(ports: str) -> list[Problem]:
    """Named ports that are more than the sidecar could be started with."""
    size = len(ports.encode("utf-8", "surrogatepass"))
    if size <= names.MAX_VARIABLE_BYTES:
        return []
    message = (
        f"spec: {ports.count(',') + 1} named ports, which are {size} bytes; accepted: at most "
        f"{names.MAX_VARIABLE_BYTES} bytes, which fit in a variable of the sidecar"
    )
    return [Problem("too-many-ports", message, ("spec",))]


def _refuse_powers(powers: list[Problem]) -> list[Problem]:
    more = ", and this namespace admits no pod without one; accepted: a pod that does without"
    return [replace(power, message=power.message + more) for power in powers]


def _is_native(settings: Settings, context: Context) -> bool:
    return context.native if settings.native is None else settings.native


def _is_early(container: Container, presence: Presence | None, native: bool) -> bool:
    """True for init containers that start before the sidecar: all of them in classic mode, else those before it."""
    if container.group != INIT_CONTAINERS or (native and presence is None):
        return False
    return presence is None or not native or container.index < presence.sidecar.index


def _list_missing_secrets(view: PodView, context: Context) -> tuple[str, ...]:
    present = {secret.get("name") for secret in maps_of(view.spec.get("imagePullSecrets"))}
    return tuple(name for name in dict.fromkeys(context.pull_secrets) if name not in present)


def _list_annotations(view: PodView, containers: list[Container]) -> dict[str, str]:
    """For other tools: which container a person means, and which volumes do not matter. What is there stays."""
    app = next((container.name for container in containers if container.group == CONTAINERS), "")
    local = f"{names.STATE_VOLUME},{names.TEMPORARY_VOLUME}"
    wanted = {DEFAULT_CONTAINER: app, DEFAULT_LOGS_CONTAINER: app, EVICTABLE_VOLUMES: local}
    return {key: value for key, value in wanted.items() if value and key not in view.annotations}


@functools.lru_cache(256)  # a handful of texts, whatever the pods are
def _make_status(added: Added, version: str) -> str:
    status = {
        "version": version,
        "initContainers": list(added.init_containers),
        "containers": list(added.containers),
        "volumes": list(added.volumes),
        "imagePullSecrets": list(added.pull_secrets),
        "annotations": list(added.annotations),
    }
    return json.dumps(status, separators=(",", ":"))


def _update_variables(presence: Presence | None, table: str, ports: str) -> list[Operation]:
    """What the sidecar is told about the rest of the pod, brought up to date."""
    if presence is None:
        return []
    operations = []
    for name, value in ((names.APP_PROBES_VARIABLE, table), (names.CONTAINER_PORTS_VARIABLE, ports)):
        path, present = presence.find_variable(name)
        if path[-1] == "-" and value:
            operations.append(add(path, {"name": name, "value": value}))
        elif path[-1] != "-" and value != present:
            operations.append(add(path, value))
    return operations


def _add_annotations(view: PodView, annotations: dict[str, str]) -> list[Operation]:
    if not annotations:
        return []
    if not isinstance(view.pod.get("metadata"), dict):
        return [add(("metadata",), {"annotations": annotations})]
    if not isinstance(view.metadata.get("annotations"), dict):
        return [add(("metadata", "annotations"), annotations)]
    return [add(("metadata", "annotations", key), value) for key, value in annotations.items()]


def _append(view: PodView, field: str, items: list[dict[str, Any]]) -> list[Operation]:
    """At the end of a list of the pod's spec, which is made where there is none."""
    if not items:
        return []
    if not isinstance(view.spec.get(field), list):
        return [add(("spec", field), items)]
    return [add(("spec", field, "-"), item) for item in items]


def _add_containers(
    view: PodView, settings: Settings, context: Context, table: str, ports: str, *, native: bool
) -> list[Operation]:
    """Last in the patch, for they shift the places of the containers behind them."""
    init = make_init(settings, context)
    sidecar = make_sidecar(settings, context, native=native, app_probes=table, container_ports=ports)
    if not native:
        return [*_append(view, INIT_CONTAINERS, [init]), add(("spec", CONTAINERS, 0), sidecar)]
    if not isinstance(view.spec.get(INIT_CONTAINERS), list):
        return [add(("spec", INIT_CONTAINERS), [init, sidecar])]
    return [add(("spec", INIT_CONTAINERS, 0), init), add(("spec", INIT_CONTAINERS, 1), sidecar)]


def _list_warnings(view: PodView, containers: list[Container], presence: Presence | None, native: bool) -> list[str]:
    """What the author should know and nothing is done about."""
    datagrams, node_ports = [], []
    for container in containers:
        for port in maps_of(container.data.get("ports")):
            if not is_tcp(port):
                datagrams.append(f"{port.get('containerPort')}/{port['protocol']}")
            elif port.get("hostPort"):
                node_ports.append(str(port["hostPort"]))
    warnings = []
    if datagrams:
        warnings.append(f"only TCP is intercepted: no policy holds on port {', '.join(datagrams[:8])}")
    if node_ports:
        warnings.append(
            f"port {', '.join(node_ports[:8])} is open on the node, too: callers there need a token as well"
        )
    if map_of(view.spec.get("resources")):
        warnings.append("the requests of the sidecar count against the pod's own `spec.resources`")
    if not native and view.spec.get("restartPolicy") in ("Never", "OnFailure"):
        warnings.append(
            "in classic mode the sidecar keeps the pod from completing: "
            f"send `POST /quit` to localhost:{names.ADMIN_PORT} when the work is done"
        )
    return [*warnings, *_list_disorder(view, containers, presence)]


def _list_disorder(view: PodView, containers: list[Container], presence: Presence | None) -> list[str]:
    """Containers that another webhook put where ours should be."""
    if presence is None:
        return []
    inits = [container for container in containers if container.group == INIT_CONTAINERS]
    if presence.native:
        before = [container.name for container in inits if container.index < presence.sidecar.index]
        return [
            f"init container `{name}` starts before the sidecar: traffic to it is not intercepted" for name in before
        ]
    after = [container.name for container in inits if container.index > presence.init.index]
    warnings = [
        f"init container `{name}` runs while nothing can reach it: the sidecar has not started" for name in after
    ]
    if presence.sidecar.index > 0:
        first = view.containers[0].name
        warnings.append(f"container `{first}` does not wait for the sidecar: another webhook put it before")
    return warnings
