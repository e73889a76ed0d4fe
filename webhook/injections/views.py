"""A pod's dict, looked at: the lists and maps that injection works on, checked once.

Everything else in the pod is never touched, so that fields of a later Kubernetes survive. In a cluster the API server
has decoded the pod before a webhook sees it, and its shape is right; a file may hold anything.
Mutating webhooks run before validation: names may still be missing, double or no names at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from eastgate.pods.annotations import quote
from webhook.injections.verdicts import Context, Path, Problem

CONTAINERS, INIT_CONTAINERS, EPHEMERAL_CONTAINERS = "containers", "initContainers", "ephemeralContainers"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class MalformedError(Exception):
    """A pod whose shape is not a pod's."""

    def __init__(self, path: Path, expected: str) -> None:
        super().__init__(expected)
        self.problem = Problem("malformed", f"{show_path(path)}: expected {expected}", path)


@dataclass(frozen=True, slots=True)
class Container:
    """One container and where it stands. ``data`` is the raw dict."""

    group: str
    index: int
    name: str
    data: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Its place in the pod."""
        return ("spec", self.group, self.index)

    @property
    def is_named(self) -> bool:
        """True when the name is one that Kubernetes takes (a DNS-1123 label)."""
        return _LABEL.fullmatch(self.name) is not None

    @property
    def restartable(self) -> bool:
        """A native sidecar: an init container that runs on."""
        return self.group == INIT_CONTAINERS and self.data.get("restartPolicy") == "Always"


class PodView(NamedTuple):
    """The parts of a pod. A map or list that is missing or null is empty here; ``has`` tells the difference."""

    pod: Mapping[str, Any]
    metadata: Mapping[str, Any]
    annotations: Mapping[str, Any]
    labels: Mapping[str, Any]
    spec: Mapping[str, Any]
    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...]
    ephemeral_containers: tuple[Container, ...]
    volumes: Sequence[Mapping[str, Any]]

    def all_containers(self) -> tuple[Container, ...]:
        """In the order in which they start, ephemeral ones last."""
        return (*self.init_containers, *self.containers, *self.ephemeral_containers)


def read_view(pod: Mapping[str, object]) -> PodView:
    """The view of a pod. Raises ``MalformedError``."""
    metadata = _mapping(pod, "metadata", ())
    spec = _mapping(pod, "spec", ())
    containers = _containers(spec, CONTAINERS)
    if not containers:
        raise MalformedError(("spec", CONTAINERS), "at least one container")
    return PodView(
        pod=pod,
        metadata=metadata,
        annotations=_mapping(metadata, "annotations", ("metadata",)),
        labels=_mapping(metadata, "labels", ("metadata",)),
        spec=spec,
        containers=containers,
        init_containers=_containers(spec, INIT_CONTAINERS),
        ephemeral_containers=_containers(spec, EPHEMERAL_CONTAINERS),
        volumes=_mappings(spec, "volumes", ("spec",)),
    )


def name_pod(pod: Mapping[str, object], context: Context) -> str:
    """``namespace/name`` for messages; of a pod without a name yet, what its name will begin with."""
    metadata = pod.get("metadata")
    found: Mapping[str, object] = metadata if isinstance(metadata, Mapping) else {}
    name, generated = found.get("name"), found.get("generateName")
    shown = name if isinstance(name, str) and name else f"{generated}*" if isinstance(generated, str) else "?"
    return f"{context.namespace}/{quote(shown, 253)[1:-1]}"


def show_path(path: Path) -> str:
    """``spec.containers[0].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def maps_of(value: object) -> list[Mapping[str, Any]]:
    """The maps of a list: for optional fields whose shape only the API server checks."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def map_of(value: object) -> Mapping[str, Any]:
    """The value where it is a map, else an empty one."""
    return value if isinstance(value, dict) else {}


def is_tcp(port: Mapping[str, object]) -> bool:
    """True for a container port of TCP, the default."""
    return port.get("protocol") in (None, "", "TCP")


def _mapping(data: Mapping[str, object], key: str, path: Path) -> Mapping[str, Any]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError((*path, key), "a mapping")
    return value


def _mappings(data: Mapping[str, object], key: str, path: Path) -> Sequence[Mapping[str, Any]]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedError((*path, key), "a list of mappings")
    return value


def _containers(spec: Mapping[str, object], group: str) -> tuple[Container, ...]:
    found = _mappings(spec, group, ("spec",))
    return tuple([Container(group, index, _name_of(data), data) for index, data in enumerate(found)])


def _name_of(container: Mapping[str, object]) -> str:
    name = container.get("name")
    return name if isinstance(name, str) else ""
